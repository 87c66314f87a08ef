"""Many rows in one statement: prepared once, handed to the driver as tuples where it takes them.

SQLAlchemy's own way of many rows costs as much as the database; here it only writes the statement.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Dialect, Insert, Table

if TYPE_CHECKING:
    from sqlalchemy.dialects import mysql, postgresql, sqlite

Values = Mapping[str, object]
Made = Callable[[Table, str], Insert]
"""A statement for a table in the words of a dialect."""


def insert_rows(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert rows; each has a value of every column.

    Raises:
        sqlalchemy.exc.IntegrityError: one is there already.
    """
    _write(connection, table, rows)


def replace_rows(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Put rows in place of those with the same primary keys; each has a value of every column.

    The last of several rows with one key counts.
    """
    names = [column.name for column in table.primary_key.columns]
    key = itemgetter(*names)
    _write(connection, table, list({key(row): row for row in rows}.values()), _replacing)


def add_rows(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert the rows whose primary key is not there yet; each has a value of every column."""
    _write(connection, table, rows, _adding)


def sum_rows(connection: Connection, table: Table, rows: Sequence[Values], total: str) -> None:
    """Add the amount of each row to that of the row with its key; insert what is not there yet.

    Args:
        connection: with an open write transaction.
        table: with the column `total`.
        rows: each has a value of every column; no two have one key. In the order of their keys, so
            that two writers wait for each other and never deadlock.
        total: the column that is summed; the others stay what they were.
    """
    _write(connection, table, rows, _SUMMING[total])


def _write(
    connection: Connection, table: Table, rows: Sequence[Values], made: Made | None = None
) -> None:
    if not rows:
        return
    dialect = connection.dialect
    if not dialect.positional:
        statement = table.insert() if made is None else made(table, dialect.name)
        connection.execute(statement, [dict(row) for row in rows])
        return
    text, values = _prepared(table, dialect, made)
    connection.exec_driver_sql(text, [values(row) for row in rows])


@cache
def _prepared(
    table: Table, dialect: Dialect, made: Made | None
) -> tuple[str, Callable[[Values], Any]]:
    """Return a statement in the driver's own words, and how a row becomes its values."""
    statement = table.insert() if made is None else made(table, dialect.name)
    compiled = statement.compile(dialect=dialect)
    names = getattr(compiled, "positiontup", None)
    assert names, "a positional dialect has the order of its parameters"
    return str(compiled), itemgetter(*names)


def _replacing(table: Table, dialect: str) -> Insert:
    """Return an insert that puts the new row in place of the one with its key."""
    keys = [column.name for column in table.primary_key.columns]
    others = [column.name for column in table.columns if column.name not in keys]
    if dialect in {"mysql", "mariadb"}:
        into = _mysql(table)
        return into.on_duplicate_key_update({name: into.inserted[name] for name in others})
    made = _standard(table, dialect)
    changed = {name: made.excluded[name] for name in others}
    return made.on_conflict_do_update(index_elements=keys, set_=changed)


def _adding(table: Table, dialect: str) -> Insert:
    """Return an insert that leaves the row with its key as it is."""
    keys = [column.name for column in table.primary_key.columns]
    if dialect in {"mysql", "mariadb"}:
        into = _mysql(table)
        return into.on_duplicate_key_update({keys[0]: table.c[keys[0]]})
    made = _standard(table, dialect)
    return made.on_conflict_do_nothing(index_elements=keys)


def _summing(total: str) -> Made:
    """Return how an insert is made that adds to the row with its key."""

    def made(table: Table, dialect: str) -> Insert:
        keys = [column.name for column in table.primary_key.columns]
        if dialect in {"mysql", "mariadb"}:
            into = _mysql(table)
            return into.on_duplicate_key_update({total: table.c[total] + into.inserted[total]})
        into_ = _standard(table, dialect)
        summed = {total: table.c[total] + into_.excluded[total]}
        return into_.on_conflict_do_update(index_elements=keys, set_=summed)

    return made


_SUMMING = {total: _summing(total) for total in ("balance_minor",)}
"""One of each, so that its statement is written once."""


def _mysql(table: Table) -> "mysql.Insert":
    """Return an insert that knows ON DUPLICATE KEY; a dialect is imported once it is used."""
    from sqlalchemy.dialects import mysql

    return mysql.insert(table)


def _standard(table: Table, dialect: str) -> "sqlite.Insert | postgresql.Insert":
    """Return an insert of a dialect that knows ON CONFLICT."""
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)
