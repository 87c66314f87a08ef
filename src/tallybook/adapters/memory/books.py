"""The books in dicts: ledger, outbox, and what customers hold."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from tallybook.adapters.memory.purses import MemoryPurses
from tallybook.catalog.entitlement import Wallet
from tallybook.invoice.ledger.holdings import (
    Credit,
    Holdings,
    PendingExtra,
    Redemption,
    account_at,
    after_invoice,
)
from tallybook.invoice.ports import Account, Spent
from tallybook.kernel.book.entry import Entry
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Conflict
from tallybook.settle.receivable.credit_note import StoredNote
from tallybook.settle.receivable.payment import Payment


class MemoryBooks(msgspec.Struct):
    """`BookTransaction` in dicts, on a copy that becomes the state when the block ends."""

    entries: dict[str, Entry] = {}
    facts: dict[str, Fact] = {}
    versions: dict[str, int] = {}
    redemptions: dict[str, Redemption] = {}
    credits: dict[str, Credit] = {}
    extras: dict[str, PendingExtra] = {}
    purses: MemoryPurses = msgspec.field(default_factory=MemoryPurses)
    payments: dict[str, Payment] = {}
    notes: dict[str, StoredNote] = {}
    replaced: dict[str, str] = {}

    def copy(self) -> "MemoryBooks":
        """Return books that can be changed and thrown away."""
        return MemoryBooks(
            dict(self.entries),
            dict(self.facts),
            dict(self.versions),
            dict(self.redemptions),
            dict(self.credits),
            dict(self.extras),
            self.purses.copy(),
            dict(self.payments),
            dict(self.notes),
            dict(self.replaced),
        )

    def post(self, entries: Sequence[Entry]) -> None:
        """Add entries."""
        for entry in entries:
            if entry.id in self.entries:
                raise Conflict(f"ledger entry {entry.id} is there already")
            self.entries[entry.id] = entry

    def tell(self, facts: Sequence[Fact]) -> None:
        """Add the facts that are not there yet."""
        for fact in facts:
            self.facts.setdefault(fact.id, fact)

    def spend(self, spent: Sequence[Spent]) -> None:
        """Take what invoices used, and move the accounts' versions on."""
        self.touch({one.customer: one.version for one in spent})
        for one in spent:
            self.put(after_invoice(one, self.held()))
            self.purses.draw(one)

    def touch(self, expected: Mapping[str, int]) -> None:
        """Move accounts' versions on, where they are as expected; raises Conflict."""
        for customer, version in expected.items():
            if self.versions.get(customer, 0) != version:
                message = f"the account of {customer} was changed meanwhile; decide again"
                raise Conflict(message, code="account-moved")
            self.versions[customer] = version + 1

    def put(self, held: Holdings) -> None:
        """Put what customers hold in place of what it was."""
        self.redemptions |= {one.id: one for one in held.redemptions}
        self.credits |= {one.source: one for one in held.credits}
        self.extras |= {one.extra.id: one for one in held.extras}

    def held(self, customers: Iterable[str] | None = None) -> Holdings:
        """Return what customers hold, oldest first; everybody where None."""
        asked = None if customers is None else set(customers)

        def theirs(one: Redemption | Credit | PendingExtra) -> bool:
            return asked is None or one.customer in asked

        return Holdings(
            redemptions=tuple(
                sorted(filter(theirs, self.redemptions.values()), key=lambda r: (r.at_us, r.id))
            ),
            credits=tuple(
                sorted(filter(theirs, self.credits.values()), key=lambda c: (c.at_us, c.source))
            ),
            extras=tuple(
                sorted(filter(theirs, self.extras.values()), key=lambda e: (e.at_us, e.extra.id))
            ),
        )

    def account(
        self, customer: str, currency: str, at_us: int, wallets: Iterable[Wallet] = ()
    ) -> Account:
        """Return what a customer has at an instant, `wallets` among it."""
        version = self.versions.get(customer, 0)
        mine = [w for w in wallets if w.customer == customer and w.currency == currency]
        hands = self.purses.in_hand(mine, at_us)
        return account_at(version, self.held([customer]), hands, currency, at_us)
