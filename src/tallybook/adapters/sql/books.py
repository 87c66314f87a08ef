"""The books in the control database: ledger, and the versions of customers' accounts.

Ledger rows are inserted once and never updated or deleted. Money is BIGINT minor units.
"""

from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Index, String, Table
from sqlalchemy.exc import IntegrityError

from tallybook.adapters.sql import accounts
from tallybook.adapters.sql.outbox import add_facts
from tallybook.adapters.sql.prepaid import rows as prepaid
from tallybook.adapters.sql.rows import insert_rows, sum_rows
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.invoice.ledger.holdings import after_invoice
from tallybook.invoice.ports import Spent
from tallybook.kernel.book.entry import Entry, totals
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


BALANCE = Table(
    "ledger_balance",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("account", String(255), primary_key=True),
    Column("currency", String(3), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("balance_minor", BigInteger, nullable=False),
    Index("ledger_balance_kind", "tenant", "kind", "account"),
)
"""What the entries add up to by account, debits less credits: kept in the transaction that posts
them, and compared with them by the audit. kind: of the account, before its colon."""


class SqlBooks:
    """`BookTransaction` on one connection's open transaction."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        """Write for a tenant."""
        self._connection = connection
        self._tenant = tenant

    def post(self, entries: Sequence[Entry]) -> None:
        """Insert entries, and move the balances of their accounts."""
        rows = [{"tenant": self._tenant} | msgspec.structs.asdict(entry) for entry in entries]
        insert_rows(self._connection, LEDGER, rows)
        moved = [
            {
                "tenant": self._tenant,
                "account": account,
                "currency": currency,
                "kind": account.partition(":")[0],
                "balance_minor": minor,
            }
            for (account, currency), minor in sorted(totals(entries).items())
        ]
        sum_rows(self._connection, BALANCE, moved, "balance_minor")

    def tell(self, facts: Sequence[Fact]) -> None:
        """Insert the facts that are not there yet."""
        add_facts(self._connection, self._tenant, facts)

    def spend(self, spent: Sequence[Spent]) -> None:
        """Take what invoices used, and move the accounts' versions on, where they are as expected.

        A customer has one invoice in a call.
        """
        expected = {one.customer: one.version for one in spent}
        touch(self._connection, self._tenant, expected)
        for one in spent:
            held = accounts.held_by(
                self._connection,
                self._tenant,
                [coupon.redemption for coupon in one.coupons],
                [credit.source for credit in one.credits],
                one.extras,
            )
            accounts.put(self._connection, self._tenant, after_invoice(one, held))
            prepaid.draw(self._connection, self._tenant, one)


def touch(connection: Connection, tenant: str, expected: Mapping[str, int]) -> None:
    """Move accounts' versions on.

    Args:
        connection: with an open write transaction.
        tenant: whose.
        expected: customer -> the version that its account must have.

    Raises:
        Conflict: an account has another version.
    """
    known = accounts.versions(connection, tenant, expected.keys(), lock=True)
    for customer, version in expected.items():
        if known.get(customer, 0) != version:
            raise _moved(customer)
    accounts.move_on(connection, tenant, [c for c in expected if c in known])
    new = [customer for customer in expected if customer not in known]
    try:
        accounts.begin(connection, tenant, new)
    except IntegrityError as error:  # there was no row to lock: somebody else was first
        raise _moved(", ".join(new)) from error


def _moved(customer: str) -> Conflict:
    message = f"the account of {customer} was changed meanwhile; decide again"
    return Conflict(message, code="account-moved")
