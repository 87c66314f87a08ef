"""One number that grows with every change of keys, tenants and people; each process polls it."""

from sqlalchemy import BigInteger, Column, Connection, Integer, Table, select, update

from tallybook.adapters.sql.rows import add_rows
from tallybook.adapters.sql.schema.declared import metadata

VERSION = Table(
    "api_key_version",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", BigInteger, nullable=False),
)
"""One row, cheap to poll."""


def version(connection: Connection) -> int:
    """Return the present number."""
    return connection.execute(select(VERSION.c.version)).scalar() or 0


def bump(connection: Connection) -> None:
    """Let the number grow, within the transaction of the change."""
    if not connection.execute(update(VERSION).values(version=VERSION.c.version + 1)).rowcount:
        add_rows(connection, VERSION, [{"id": 1, "version": 0}])  # somebody else may be first too
        connection.execute(update(VERSION).values(version=VERSION.c.version + 1))
