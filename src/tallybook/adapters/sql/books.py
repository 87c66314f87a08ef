"""The books in the control database: ledger, outbox, and the versions of customers' accounts.

Ledger rows are inserted once and never updated or deleted. Money is BIGINT minor units.
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Index, String, Table, Text, select

from tallybook.adapters.sql.database import metadata
from tallybook.invoice.ports import Spent
from tallybook.kernel.book.entry import Entry
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Conflict

LEDGER = Table(
    "ledger_entry",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("debit", String(255), nullable=False),
    Column("credit", String(255), nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("document", String(64), nullable=False),
    Column("invoice", String(64), nullable=False),
    Column("line", String(64), nullable=False),
    Column("service_start_us", BigInteger),
    Column("service_end_us", BigInteger),
    Index("ledger_debit", "tenant", "debit", "at_us"),
    Index("ledger_credit", "tenant", "credit", "at_us"),
    sqlite_with_rowid=False,
)
"""Entries; see `kernel.book.entry.Entry`. *_us: microseconds UTC; service_*: NULL for none.

An id begins with its document's, so the key finds the entries of a document.
"""

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

ACCOUNT = Table(
    "customer_account",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("customer", String(128), primary_key=True),
    Column("version", BigInteger, nullable=False),
)
"""The version of what a customer has: every change of its funds moves it on."""


class SqlBooks:
    """`BookTransaction` on one connection's open transaction."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        """Write for a tenant."""
        self._connection = connection
        self._tenant = tenant

    def post(self, entries: Sequence[Entry]) -> None:
        """Insert entries."""
        rows = [{"tenant": self._tenant} | msgspec.structs.asdict(entry) for entry in entries]
        if rows:
            self._connection.execute(LEDGER.insert(), rows)

    def tell(self, facts: Sequence[Fact]) -> None:
        """Insert the facts that are not there yet."""
        ids = [fact.id for fact in facts]
        query = select(OUTBOX.c.id).where(OUTBOX.c.tenant == self._tenant, OUTBOX.c.id.in_(ids))
        known = set(self._connection.execute(query).scalars())
        rows = [
            {"tenant": self._tenant} | msgspec.structs.asdict(fact)
            for fact in facts
            if fact.id not in known
        ]
        if rows:
            self._connection.execute(OUTBOX.insert(), rows)

    def spend(self, spent: Sequence[Spent]) -> None:
        """Move the accounts' versions on, where they are as expected."""
        for one in sorted(spent, key=lambda one: one.customer):
            touch(self._connection, self._tenant, one.customer, one.version)


def touch(connection: Connection, tenant: str, customer: str, expected: int | None = None) -> None:
    """Move an account's version on; raises Conflict where it is not the expected one."""
    place = (ACCOUNT.c.tenant == tenant) & (ACCOUNT.c.customer == customer)
    query = select(ACCOUNT.c.version).where(place).with_for_update()
    version = connection.execute(query).scalar()
    if expected is not None and (version or 0) != expected:
        message = f"the account of {customer} was changed meanwhile; compose the invoice again"
        raise Conflict(message, code="account-moved")
    if version is None:
        row = {"tenant": tenant, "customer": customer, "version": 1}
        connection.execute(ACCOUNT.insert(), row)
    else:
        connection.execute(ACCOUNT.update().where(place).values(version=version + 1))
