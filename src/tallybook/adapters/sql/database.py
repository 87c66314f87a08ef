"""The control database: one schema for SQLite, PostgreSQL and MySQL (DECISIONS 2, 27, 28).

Money is integer minor units, exact decimals and JSON are text, instants are BIGINT microseconds
UTC. Every unique key starts with the tenant. Each adapter module of this folder declares its own
tables on `metadata`; `open_database` makes the missing ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, Text, create_engine, event, exc
from sqlalchemy.ext.compiler import compiles

from tallybook.kernel.errors import Conflict, Corrupt, Unavailable

metadata = MetaData()

_SQLITE = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "busy_timeout=30000",
    "cache_size=-65536",  # KiB: the pages of a whole transaction, so that none is written twice
    "wal_autocheckpoint=8000",  # pages: a page that many transactions change is copied once
)
"""Of every connection; none of them weakens what a commit promises."""


def sqlite_url(path: Path) -> str:
    """Return the address of an embedded control database."""
    return f"sqlite:///{path}"


def open_database(url: str) -> Engine:
    """Open a control database and make missing tables.

    Raises:
        Unavailable: it cannot be reached or written.
    """
    engine = create_engine(url, future=True, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
    for table in metadata.tables.values():
        table.dialect_options["mysql"].update(default_charset="utf8mb4", collate="utf8mb4_bin")
    with translated(), write(engine) as connection:
        metadata.create_all(connection)
    return engine


@compiles(Text, "mysql", "mariadb")
def _long_text(_type: Text, _compiler: object, **_more: object) -> str:
    """Return the type of a text without a bound: MySQL's TEXT ends at 64 KiB."""
    return "LONGTEXT"


def _sqlite_connect(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    for pragma in _SQLITE:
        connection.execute(f"PRAGMA {pragma}")


def _sqlite_begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def write(engine: Engine) -> Iterator[Connection]:
    """Open one write transaction; committed when the block ends, else rolled back."""
    with (
        translated(),
        engine.connect() as connection,
        _options(connection, "READ COMMITTED", immediate=True).begin(),
    ):
        yield connection


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """Open one read transaction: everything in the block sees the same state."""
    with (
        translated(),
        engine.connect() as connection,
        _options(connection, "REPEATABLE READ").begin(),
    ):
        yield connection


def _options(connection: Connection, isolation: str, *, immediate: bool = False) -> Connection:
    """Return the connection with how its next transaction is kept apart from others.

    A writer locks the rows it decides from, and must see what their last writer committed; a
    reader must see one state. SQLite has one writer and one state anyway.
    """
    if connection.dialect.name == "sqlite":
        return connection.execution_options(immediate=immediate)
    return connection.execution_options(isolation_level=isolation)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's exceptions into ours."""
    try:
        yield
    except exc.IntegrityError as error:
        raise Conflict(f"the control database refuses it: {error.orig}") from error
    except exc.OperationalError as error:
        if _rolled_back(error.orig):
            message = "two writers waited for each other, and this one was rolled back"
            raise Conflict(message, code="rolled-back") from error
        raise Unavailable(f"control database: {error.orig}") from error
    except exc.DatabaseError as error:
        raise Corrupt(f"control database: {error.orig}") from error


def _rolled_back(error: BaseException | None) -> bool:
    """Whether a database undid a transaction so that another one could go on."""
    code = getattr(error, "sqlstate", None) or (getattr(error, "args", None) or (None,))[0]
    return code in {"40001", "40P01", 1213}
