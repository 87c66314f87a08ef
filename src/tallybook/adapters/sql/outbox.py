"""The outbox in the control database: facts, written in the transaction of what they tell of.

Beside each fact stands whether everybody who may want it was asked (`fact_told`). A fact that
waits is found by that, not by a cursor: transactions that commit in another order than they began
hide nothing.
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import BigInteger, Column, Connection, String, Table, Text

from tallybook.adapters.sql.access.happening import facts_told
from tallybook.adapters.sql.rows import add_rows
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.kernel.book.fact import Fact

OUTBOX = Table(
    "outbox",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("customer", String(128), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
"""Facts to be told outside; see `kernel.book.fact.Fact`."""

FACT_TOLD = Table(
    "fact_told",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("told_us", BigInteger, nullable=True, index=True),
)
"""A row of each fact. told_us: when its deliveries were made, microseconds UTC; NULL until then."""


def add_facts(connection: Connection, tenant: str, facts: Sequence[Fact]) -> None:
    """Insert the facts that are not there yet, to be told to everybody who wants them."""
    _add(connection, tenant, facts, None)


def add_aside(connection: Connection, tenant: str, facts: Sequence[Fact], now_us: int) -> None:
    """Insert facts that nobody is asked about: their deliveries are there already."""
    _add(connection, tenant, facts, now_us)


def _add(connection: Connection, tenant: str, facts: Sequence[Fact], told_us: int | None) -> None:
    facts_told(connection, tenant, facts)
    rows = [{"tenant": tenant} | msgspec.structs.asdict(fact) for fact in facts]
    add_rows(connection, OUTBOX, rows)
    told = [{"tenant": tenant, "id": fact.id, "told_us": told_us} for fact in facts]
    add_rows(connection, FACT_TOLD, told)


def fact_of(row: dict[str, object]) -> Fact:
    """Return a row of the outbox as a fact."""
    return Fact(**{name: row[name] for name in Fact.__struct_fields__})  # type: ignore[arg-type]
