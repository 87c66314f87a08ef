"""The control database: one schema for SQLite, PostgreSQL and MySQL (DECISIONS 2, 27, 28).

Money is integer minor units, exact decimals and JSON are text, instants are BIGINT microseconds
UTC. Every unique key starts with the tenant. Each adapter module of this folder declares its own
tables on `declared.metadata`; `schema` makes them, and changes them from version to version.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    String,
    Text,
    create_engine,
    event,
    exc,
    make_url,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateColumn, CreateTable

from tallybook.adapters.sql.schema import newest, steps
from tallybook.kernel.errors import Conflict, Corrupt, Invalid, Unavailable

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


def address_of(path: Path, url: str, password_file: Path | None) -> str:
    """Return the address of a control database, with its password.

    Args:
        path: the embedded database's file.
        url: of one on a server; '' for the embedded one.
        password_file: a file with the password of the user in `url`.

    Raises:
        Invalid: `url` is no address.
        Unavailable: the password cannot be read.
    """
    if not url:
        return sqlite_url(path)
    try:
        found = make_url(url)
    except exc.ArgumentError as error:
        message = "control.url is no address such as postgresql+psycopg://user@host/database"
        raise Invalid(message, code="bad-setting", field="control.url") from error
    if password_file is not None:
        try:
            found = found.set(password=password_file.read_text().strip())
        except OSError as error:
            message = f"the control database's password {password_file}: {error.strerror or error}"
            raise Unavailable(message) from error
    return found.render_as_string(hide_password=False)


def open_database(url: str) -> Engine:
    """Open a control database; one that is new gets its tables.

    Raises:
        Conflict: its schema is of another version; see `schema.steps.ready`.
        Invalid: the address is none, or its driver is not installed.
        Unavailable: it cannot be reached or written.
    """
    engine = engine_of(url)
    with ExitStack() as if_refused:
        if_refused.callback(engine.dispose)
        with read(engine) as connection:
            known = steps.version_of(connection)
        if known != newest():
            with write(engine) as connection:
                steps.ready(connection)
        if_refused.pop_all()
    return engine


def upgrade_database(url: str) -> list[str]:
    """Bring a database's schema to this version; return the numbers of the steps taken.

    No server may use it meanwhile.

    Raises:
        Conflict: a newer version made it, or nobody knows what it is.
        Invalid, Unavailable: as `open_database`.
    """
    engine = engine_of(url)
    try:
        with translated(), write(engine) as connection:
            return steps.upgrade(connection)
    finally:
        engine.dispose()


def engine_of(url: str) -> Engine:
    """Return an engine for an address, with what each kind of database needs; opens nothing.

    Raises:
        Invalid: the address is none, or its driver is not installed.
    """
    try:
        engine = create_engine(url, future=True, pool_pre_ping=not url.startswith("sqlite"))
    except (exc.ArgumentError, ImportError) as error:
        message = f"no control database can be opened at this address: {error}"
        raise Invalid(message, code="bad-setting", field="control.url") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
    return engine


@compiles(Text, "mysql", "mariadb")
def _long_text(_type: Text, _compiler: object, **_more: object) -> str:
    """Return the type of a text without a bound: MySQL's TEXT ends at 64 KiB."""
    return "LONGTEXT"


@compiles(CreateTable, "mysql", "mariadb")
def _exact_text(create: CreateTable, compiler: Any, **more: Any) -> str:
    """Return how a table is made: MySQL's default takes 'a' for 'A', and these are keys."""
    options = create.element.dialect_options[compiler.dialect.name]
    options.update(default_charset="utf8mb4", collate="utf8mb4_bin")
    made: str = compiler.visit_create_table(create, **more)
    return made


@compiles(CreateColumn, "postgresql")
def _bytewise(create: CreateColumn, compiler: Any, **more: Any) -> str:
    """Return how a column is made: texts are compared and ordered by their bytes, as everywhere.

    Most servers order as a dictionary does, where the entries that begin with 'inv_1.' need not lie
    between 'inv_1.' and 'inv_1/'.
    """
    made: str = compiler.visit_create_column(create, **more)
    if not isinstance(create.element.type, String):
        return made
    spelled = compiler.dialect.type_compiler_instance.process(create.element.type)
    return made.replace(f" {spelled}", f' {spelled} COLLATE "C"', 1)


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
