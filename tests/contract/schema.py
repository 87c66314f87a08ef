"""The schema over time: the steps make what the code declares, on every kind of database."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, inspect, text

from tallybook.adapters.sql.database import (
    address_of,
    engine_of,
    open_database,
    sqlite_url,
    upgrade_database,
    write,
)
from tallybook.adapters.sql.invoices import SqlInvoices
from tallybook.adapters.sql.schema import FOLDER, VERSION_TABLE, newest, numbers
from tallybook.adapters.sql.schema.steps import take_steps, upgrade, version_of
from tallybook.adapters.sql.schema.tables import every_table
from tallybook.invoice.manifest import Position
from tallybook.invoice.ports import StoredLine
from tallybook.kernel.errors import Conflict, Invalid, Unavailable
from tests.support.databases import KINDS

STEP = '''"""One more column."""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{before}"


def upgrade() -> None:
    """Take the step."""
    with op.batch_alter_table("api_key_version") as batch:
        batch.add_column(sa.Column("why", sa.String(32), nullable=True))
'''


@pytest.fixture(params=KINDS)
def empty(request: pytest.FixtureRequest, empty_database: Callable[[str], str]) -> str:
    return empty_database(request.param)


def test_the_steps_make_what_the_code_declares(empty: str) -> None:
    engine = engine_of(empty)
    with write(engine) as connection:
        take_steps(connection)
    tables = every_table()
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, tables) == []
        assert version_of(connection) == newest()
    engine.dispose()
    open_database(empty).dispose()


def test_a_new_database_is_marked_and_opens_again(empty: str) -> None:
    for _ in range(2):
        engine = open_database(empty)
        with engine.connect() as connection:
            assert version_of(connection) == newest()
            assert set(inspect(connection).get_table_names()) >= set(every_table().tables)
        engine.dispose()
    assert upgrade_database(empty) == []


def test_names_that_differ_in_case_are_two(empty: str) -> None:
    engine = engine_of(empty)
    with write(engine) as connection:
        take_steps(connection)
    with engine.connect() as connection:
        if connection.dialect.name in {"mysql", "mariadb"}:
            made = connection.execute(text("SHOW CREATE TABLE api_key")).one()[1]
            assert "utf8mb4_bin" in made
    engine.dispose()


def test_rows_outlive_a_step(empty: str, tmp_path: Path) -> None:
    folder = tmp_path / "versions"
    shutil.copytree(FOLDER, folder)
    (folder / "9999_more.py").write_text(STEP.format(before=newest()))
    engine = open_database(empty)
    with write(engine) as connection:
        connection.execute(text("INSERT INTO api_key_version (id, version) VALUES (1, 7)"))
    with write(engine) as connection:
        assert upgrade(connection, folder) == ["9999"]
    with write(engine) as connection:
        assert upgrade(connection, folder) == []
        assert connection.execute(text("SELECT version, why FROM api_key_version")).one() == (
            7,
            None,
        )
        assert version_of(connection) == "9999"
    engine.dispose()
    with pytest.raises(Conflict, match="newer version") as refused:
        open_database(empty)
    assert refused.value.code == "new-schema"
    with pytest.raises(Conflict, match="newer version"):
        upgrade_database(empty)


LINE = {
    "tenant": "default", "invoice": "inv_1", "number": 1, "id": "line_1", "subscription": "sub",
    "charge": "calls", "period_start_us": 7, "dimensions": '["\u00e9",null]', "meter": "calls",
    "meter_version": 2, "quantity": "0.5", "amount_minor": -3, "events": 4, "adjustment": True,
}  # fmt: skip


@pytest.mark.parametrize("halfway", [False, True])
def test_the_lines_of_the_first_schema_move_into_their_invoices(
    empty: str, tmp_path: Path, halfway: bool
) -> None:
    folder = tmp_path / "versions"
    folder.mkdir()
    shutil.copy(FOLDER / "0001_the_first_schema.py", folder)
    engine = engine_of(empty)
    with write(engine) as connection:
        take_steps(connection, folder)
        tables = MetaData()
        tables.reflect(connection, only=["invoice", "invoice_line"])
        for n in (1, 2):
            connection.execute(tables.tables["invoice"].insert(), old_invoice(n))
        fee = LINE | {"number": 2, "id": "line_2", "meter": None, "meter_version": None}
        fee |= {"adjustment": False}
        for line in (fee, LINE):
            connection.execute(tables.tables["invoice_line"].insert(), line)
        if halfway:  # as MySQL leaves it, where it cannot take a change of a table back
            connection.execute(text("ALTER TABLE invoice ADD COLUMN line_records TEXT"))
    assert upgrade_database(empty) == numbers()[1:]
    store = SqlInvoices(engine)
    first, second = store.invoice("default", "inv_1").lines
    assert first == StoredLine(
        id="line_1",
        number=1,
        position=Position("sub", "calls", 7),
        group='["\u00e9",null]',
        meter="calls",
        meter_version=2,
        quantity="0.5",
        amount_minor=-3,
        events=4,
        adjustment=True,
    )
    assert (second.id, second.meter, second.adjustment) == ("line_2", None, False)
    assert store.invoice("default", "inv_2").lines == ()
    engine.dispose()


def old_invoice(n: int) -> dict[str, object]:
    """Return an invoice's row of the first schema."""
    texts = ("number", "run", "customer", "customer_name", "sha256", "body")
    numbers_ = (
        "total_minor", "lines", "issued_us", "due_us", "period_start_us", "period_end_us", "cut",
        "payable_minor", "open_minor",
    )  # fmt: skip
    row: dict[str, object] = {name: f"{name}{n}" for name in texts}
    row |= dict.fromkeys(numbers_, n)
    row |= {"tenant": "default", "id": f"inv_{n}", "series": "INV", "ordinal": n}
    return row | {"state": "finalized", "sequence": 1, "currency": "USD"}


def test_an_older_one_is_changed_only_when_told(empty: str) -> None:
    engine = open_database(empty)
    with write(engine) as connection:
        connection.execute(text("UPDATE schema_version SET version_num = '0000'"))
    engine.dispose()
    with pytest.raises(Conflict, match="tallybook upgrade") as refused:
        open_database(empty)
    assert refused.value.code == "old-schema"


def test_tables_that_nothing_marked_are_left_alone(empty: str) -> None:
    engine = engine_of(empty)
    with write(engine) as connection:
        every_table().tables["api_key"].create(connection)
    with pytest.raises(Conflict, match="no mark of their version") as refused:
        open_database(empty)
    assert refused.value.code == "unknown-schema"
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["api_key"]
    engine.dispose()


def test_the_steps_are_one_line() -> None:
    assert numbers() == [f"{number:04d}" for number in range(1, len(numbers()) + 1)]


def test_the_address_has_its_password_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("p@ss:/word\n")
    path = tmp_path / "control.db"
    assert address_of(path, "", None) == sqlite_url(path)
    made = address_of(path, "postgresql+psycopg://me@127.0.0.1/books", secret)
    assert create_engine(made).url.password == "p@ss:/word"
    with pytest.raises(Invalid, match=r"control\.url"):
        address_of(path, "nonsense", None)
    with pytest.raises(Unavailable, match="password"):
        address_of(path, "postgresql+psycopg://me@127.0.0.1/books", tmp_path / "none")
    with pytest.raises(Invalid, match="no control database"):
        engine_of("oracle+nothing://x/y")


def test_a_server_that_is_away_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        open_database("postgresql+psycopg://me@127.0.0.1:9/books?connect_timeout=2")
    assert isinstance(every_table(), MetaData)
