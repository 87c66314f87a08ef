"""The control database: one schema for SQLite, PostgreSQL and MySQL (DECISIONS 2, 27, 28).

Money is integer minor units, exact decimals and JSON are text, instants are BIGINT microseconds
UTC. Every unique key starts with the tenant. Each adapter module of this folder declares its own
tables on `metadata`; `open_database` makes the missing ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, exc

from tallybook.kernel.errors import Conflict, Corrupt, Unavailable

metadata = MetaData()


def sqlite_url(path: Path) -> str:
    """Return the address of an embedded control database."""
    return f"sqlite:///{path}"


def open_database(url: str) -> Engine:
    """Open a control database and make missing tables.

    Raises:
        Unavailable: it cannot be reached or written.
    """
    engine = create_engine(url, future=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
    with translated(), write(engine) as connection:
        metadata.create_all(connection)
    return engine


def _sqlite_connect(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _sqlite_begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def write(engine: Engine) -> Iterator[Connection]:
    """Open one write transaction; committed when the block ends, else rolled back."""
    with (
        translated(),
        engine.connect().execution_options(immediate=True) as connection,
        connection.begin(),
    ):
        yield connection


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """Open one read transaction: everything in the block sees the same state."""
    with translated(), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's exceptions into ours."""
    try:
        yield
    except exc.IntegrityError as error:
        raise Conflict(f"the control database refuses it: {error.orig}") from error
    except exc.OperationalError as error:
        raise Unavailable(f"control database: {error.orig}") from error
    except exc.DatabaseError as error:
        raise Corrupt(f"control database: {error.orig}") from error
