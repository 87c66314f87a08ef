"""The outbox in the control database: facts, written in the transaction of what they tell of."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import BigInteger, Column, Connection, String, Table, Text

from tallybook.adapters.sql.database import metadata
from tallybook.adapters.sql.rows import add_rows
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


def add_facts(connection: Connection, tenant: str, facts: Sequence[Fact]) -> None:
    """Insert the facts that are not there yet."""
    rows = [{"tenant": tenant} | msgspec.structs.asdict(fact) for fact in facts]
    add_rows(connection, OUTBOX, rows)
