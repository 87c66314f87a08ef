"""Where a customer stands, and what a command changes of it: a value that is written at once.

A command is decided from a standing and written only while the account has the same version, so
that commands on one customer follow each other, and nothing is paid or credited twice.
"""

import msgspec

from tallybook.invoice.ledger.holdings import Holdings
from tallybook.invoice.ports import InvoiceHead
from tallybook.invoice.state import Command, State, after
from tallybook.kernel.book.entry import Entry
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Missing
from tallybook.settle.receivable.credit_note import StoredNote
from tallybook.settle.receivable.payment import Payment


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A customer at one version of its account.

    Attributes:
        version: of the account.
        invoices: finalized ones, oldest first; voided ones too.
        held: by the customer; one-off charges that are billed are left out.
        notes: credit notes, oldest first; voided ones too.
    """

    customer: str
    version: int = 0
    invoices: tuple[InvoiceHead, ...] = ()
    held: Holdings = Holdings()
    notes: tuple[StoredNote, ...] = ()

    def invoice(self, name: str) -> InvoiceHead:
        """Return an invoice by its id or number; raises Missing."""
        for head in self.invoices:
            if name in {head.id, head.number}:
                return head
        raise Missing(f"{self.customer} has no invoice '{name}'", field="invoice")


class Changed(msgspec.Struct, frozen=True):
    """What becomes of a finalized invoice."""

    invoice: str
    state: State
    open_minor: int


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """That what an invoice drew from wallets is given back, because it is voided."""

    invoice: str
    at_us: int


class Moves(msgspec.Struct, frozen=True, kw_only=True):
    """What a command writes, all of it or nothing.

    Attributes:
        customer, version: only while its account has this version, which moves on.
        entries: posted.
        facts: told.
        changed: invoices.
        held: put in place of what it was.
        payments, notes: new ones, and changed ones in place of what they were.
        returned: to wallets.
    """

    customer: str
    version: int
    entries: tuple[Entry, ...] = ()
    facts: tuple[Fact, ...] = ()
    changed: tuple[Changed, ...] = ()
    held: Holdings = Holdings()
    payments: tuple[Payment, ...] = ()
    notes: tuple[StoredNote, ...] = ()
    returned: tuple[Returned, ...] = ()


def opened(head: InvoiceHead, by_minor: int) -> Changed:
    """Return an invoice of which more is open, or less where negative: paid when nothing is.

    Raises:
        Conflict: its state forbids it.
    """
    left = head.open_minor + by_minor
    assert 0 <= left <= head.payable_minor, "what is open is between nothing and everything"
    return Changed(head.id, _state(head.state, head.open_minor, left), left)


def _state(state: State, before: int, left: int) -> State:
    command: Command | None = None
    if before and not left:
        command = "pay"
    elif left and not before:
        command = "unpay"
    return state if command is None else after(state, command)
