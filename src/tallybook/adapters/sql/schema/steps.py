"""Makes and changes the schema: the one place that knows Alembic.

A new database is made whole from the tables of the code and marked with the newest step. An older
one is changed only when it is told to, because a server of the old version may still work on it:
`serve` does so for an embedded database, whose folder it has locked; `tallybook upgrade` for one
that several servers share.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select, text

from tallybook.adapters.sql.schema import FOLDER, VERSION_TABLE, newest, numbers
from tallybook.kernel.errors import Conflict

_VERSION = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32), primary_key=True))
"""One row: the newest step that was taken. Of its own metadata, because Alembic looks after it."""

_LOCK = 7_420_533_908
"""Any number that nobody else locks on the same PostgreSQL server."""


def version_of(connection: Connection) -> str | None:
    """Return the newest step that a database has taken, None where it was never marked."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(_VERSION.c.version_num)).scalar()


def ready(connection: Connection) -> None:
    """Make the schema where the database is new, and check it where it is not.

    Args:
        connection: in a transaction of its own.

    Raises:
        Conflict: 'old-schema', it must be upgraded first; 'new-schema', a newer version of the
            product made it; 'unknown-schema', it has tables that nothing marked.
    """
    found = version_of(connection)
    if found == newest():
        return
    with _alone(connection):
        found = version_of(connection)  # another process may have made it meanwhile
        if found is None:
            _make(connection)
        elif found != newest():
            raise _other(found)


def upgrade(connection: Connection, folder: Path = FOLDER) -> list[str]:
    """Take the steps that are missing; return their numbers, none where it is up to date.

    Raises:
        Conflict: 'new-schema' or 'unknown-schema'.
    """
    before = version_of(connection)
    if before is None or before > newest(folder):
        ready(connection)  # makes it, or says why not
        return []
    missing = [number for number in numbers(folder) if number > before]
    if missing:
        with _alone(connection):
            take_steps(connection, folder)
    return missing


def _make(connection: Connection) -> None:
    from tallybook.adapters.sql.schema.tables import every_table

    tables = every_table()
    there = set(inspect(connection).get_table_names()) & set(tables.tables)
    if there:
        message = (
            f"the control database has tables ({min(there)}, …) but no mark of their version:"
            " it was made before versions were kept, or by something else; start with a new data"
            " folder and send the events again"
        )
        raise Conflict(message, code="unknown-schema")
    tables.create_all(connection)
    _VERSION.create(connection, checkfirst=True)
    connection.execute(_VERSION.insert(), {"version_num": newest()})


def take_steps(connection: Connection, folder: Path = FOLDER) -> None:
    """Take every step that is missing; nothing else may use the database meanwhile."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(folder.parent), version_locations=[str(folder)])

    def steps(revision: object, _context: object) -> object:
        return script._upgrade_revs("head", revision)  # type: ignore[arg-type]  # noqa: SLF001 - as Alembic's own command does

    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(
            connection=connection,
            version_table=VERSION_TABLE,
            render_as_batch=True,
            transaction_per_migration=False,
        )
        environment.run_migrations()


def _other(found: str) -> Conflict:
    if found > newest():
        message = f"a newer version made the control database (schema {found}); use that one"
        return Conflict(message, code="new-schema")
    message = (
        f"the control database has schema {found}, this version needs {newest()}: stop every"
        " server that uses it, then run `tallybook upgrade`"
    )
    return Conflict(message, code="old-schema")


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Keep other processes from making or changing the same schema until the block ends."""
    dialect = connection.dialect.name
    if dialect == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        yield
    elif dialect in {"mysql", "mariadb"}:
        connection.execute(text("SELECT GET_LOCK(:name, 60)"), {"name": VERSION_TABLE})
        try:
            yield
        finally:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": VERSION_TABLE})
    else:
        yield  # SQLite: BEGIN IMMEDIATE has locked the file already
