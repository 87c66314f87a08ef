"""What settling invoices needs of a store: standings read whole, moves written at once.

tests/contract/settlement_store.py tries to break every sentence, for every adapter.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from tallybook.invoice.ledger.holdings import Credit, PendingExtra
from tallybook.invoice.ports import InvoiceTransaction
from tallybook.kernel.book.entry import Entry
from tallybook.settle.receivable.credit_note import NoteHead, StoredNote
from tallybook.settle.receivable.payment import Payment
from tallybook.settle.receivable.standing import Moves, Standing


class SettlementTransaction(Protocol):
    """Writes that happen together or not at all."""

    @property
    def invoices(self) -> InvoiceTransaction:
        """Writes of billing, in this transaction."""
        ...

    def put_extras(self, extras: Sequence[PendingExtra]) -> None:
        """Store new one-off charges; raises Conflict where an id is there already."""
        ...

    def replace(self, invoice: str, by: str) -> None:
        """Store that the invoice with this id is voided and another number takes its place.

        Raises:
            Conflict: another one has taken it.
        """
        ...

    def settle(self, moves: Moves) -> None:
        """Write what a command does, and move the version of the customer's account on.

        Raises:
            Conflict: the account has another version than it was decided from; code
                'account-moved'. Or a document is there already.
        """
        ...


class Balance(msgspec.Struct, frozen=True):
    """What entries add up to on an account in a currency: debits less credits."""

    account: str
    currency: str
    balance_minor: int


class KindBalance(msgspec.Struct, frozen=True):
    """What the accounts of a kind add up to in a currency: debits less credits.

    Attributes:
        accounts: how many have a balance.
    """

    kind: str
    currency: str
    balance_minor: int
    accounts: int


class Settlements(Protocol):
    """Keeps payments and credit notes, beside the invoices and what customers hold.

    Raises, from every method:
        Unavailable: the store cannot be reached; nothing of the call has happened.
    """

    def transaction(self, tenant: str) -> AbstractContextManager[SettlementTransaction]:
        """Open a write transaction; committed when the block ends, rolled back when it raises."""
        ...

    def standing(self, tenant: str, customer: str, invoices: Sequence[str] = ()) -> Standing:
        """Return where a customer stands, as of one instant.

        Args:
            tenant: whose.
            customer: key.
            invoices: ids or numbers of invoices to be in it beside those with something open; the
                one-off charges and credit notes of these are in it too.
        """
        ...

    def extras(self, tenant: str, customer: str | None, invoice: str) -> list[PendingExtra]:
        """Return one-off charges that are on an invoice, oldest first; those that wait for ''."""
        ...

    def charge(self, tenant: str, name: str) -> PendingExtra:
        """Return a one-off charge by its id, whatever became of it; raises Missing."""
        ...

    def replaced_by(self, tenant: str, invoice: str) -> str | None:
        """Return the number that took the place of an invoice, by its id; None for none."""
        ...

    def credits(self, tenant: str) -> list[Credit]:
        """Return every credit of which something is left, oldest first."""
        ...


class Payments(Protocol):
    """Reads payments and credit notes."""

    def payment(self, tenant: str, name: str) -> Payment:
        """Return a payment by its id; raises Missing."""
        ...

    def payments(
        self,
        tenant: str,
        *,
        limit: int,
        after: str | None = None,
        customer: str | None = None,
        invoice: str | None = None,
    ) -> list[Payment]:
        """Return payments, refunds and uses of credit by id, those after the id `after`.

        Of a customer; or those that paid the invoice with this id, taken back or not.
        """
        ...

    def credit_note(self, tenant: str, name: str) -> StoredNote:
        """Return a credit note by its id or number; raises Missing."""
        ...

    def credit_notes(
        self,
        tenant: str,
        *,
        limit: int,
        after: str | None = None,
        customer: str | None = None,
        invoice: str | None = None,
    ) -> list[NoteHead]:
        """Return credit notes in the order of their numbers, those after the number `after`."""
        ...


class Ledger(Protocol):
    """Reads the ledger."""

    def entries(
        self,
        tenant: str,
        *,
        limit: int,
        after: str | None = None,
        document: str | None = None,
        account: str | None = None,
    ) -> list[Entry]:
        """Return entries by id, those after the id `after`; of a document, or on an account."""
        ...

    def balances(
        self, tenant: str, account: str = "", *, limit: int | None = None, skip: int = 0
    ) -> list[Balance]:
        """Return every account's balance, or those of accounts whose name begins so, by name.

        They are kept in the transactions that post entries: the ledger is not added up. With
        `limit` so many of them, after the first `skip`.
        """
        ...

    def kinds(self, tenant: str) -> list[KindBalance]:
        """Return what the accounts of each kind add up to, by kind and currency."""
        ...
