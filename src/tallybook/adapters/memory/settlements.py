"""Payments, credit notes and the ledger in dicts, in the state of the invoices in memory."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tallybook.adapters.memory.invoices import MemoryInvoices, MemoryTransaction
from tallybook.invoice.document import number_place
from tallybook.invoice.ledger.holdings import Credit, Holdings, PendingExtra
from tallybook.kernel.book.entry import Entry, totals
from tallybook.kernel.errors import Conflict, Missing
from tallybook.settle.receivable.credit_note import NoteHead, StoredNote
from tallybook.settle.receivable.payment import Payment
from tallybook.settle.receivable.ports import Balance, KindBalance
from tallybook.settle.receivable.standing import Moves, Standing


class MemorySettlements:
    """`Settlements`, `Payments` and `Ledger` of a `MemoryInvoices`."""

    def __init__(self, invoices: MemoryInvoices) -> None:
        """Share the state of this store."""
        self._invoices = invoices

    @contextmanager
    def transaction(self, tenant: str) -> Iterator["MemorySettlementTransaction"]:
        """Change a copy; it becomes the state when the block ends."""
        with self._invoices.transaction(tenant) as transaction:
            yield MemorySettlementTransaction(transaction)

    def standing(self, tenant: str, customer: str, invoices: Sequence[str] = ()) -> Standing:
        """Return where a customer stands."""
        books = self._invoices.kept(tenant)
        heads = tuple(
            head
            for head in self._invoices.heads(tenant)
            if head.customer == customer
            and (head.open_minor or not {head.id, head.number}.isdisjoint(invoices))
        )
        known = {head.id for head in heads}
        held = books.held([customer])
        return Standing(
            customer=customer,
            version=books.versions.get(customer, 0),
            invoices=heads,
            held=Holdings(
                redemptions=held.redemptions,
                credits=held.credits,
                extras=tuple(extra for extra in held.extras if not extra.invoice),
            ),
            notes=tuple(note for note in self._notes(tenant) if note.head.invoice in known),
        )

    def extras(self, tenant: str, customer: str | None, invoice: str) -> list[PendingExtra]:
        """Return one-off charges that are on an invoice; those that wait for ''."""
        held = self._invoices.kept(tenant).held(None if customer is None else [customer])
        return [extra for extra in held.extras if extra.invoice == invoice]

    def charge(self, tenant: str, name: str) -> PendingExtra:
        """Return a one-off charge by its id."""
        for one in self._invoices.kept(tenant).held().extras:
            if one.extra.id == name:
                return one
        raise Missing(f"there is no one-off charge '{name}'", field="charge")

    def replaced_by(self, tenant: str, invoice: str) -> str | None:
        """Return the number that took the place of an invoice."""
        return self._invoices.kept(tenant).replaced.get(invoice)

    def credits(self, tenant: str) -> list[Credit]:
        """Return every credit of which something is left."""
        return [
            credit for credit in self._invoices.kept(tenant).held().credits if credit.left_minor
        ]

    def payment(self, tenant: str, name: str) -> Payment:
        """Return a payment by its id."""
        found = self._invoices.kept(tenant).payments.get(name)
        if found is None:
            raise Missing(f"there is no payment '{name}'", field="payment")
        return found

    def payments(
        self,
        tenant: str,
        *,
        limit: int,
        after: str | None = None,
        customer: str | None = None,
        invoice: str | None = None,
    ) -> list[Payment]:
        """Return payments by id."""
        kept = self._invoices.kept(tenant).payments
        found = [
            kept[name]
            for name in sorted(kept)
            if (after is None or name > after)
            and customer in {None, kept[name].customer}
            and invoice in {None, *(one.invoice for one in kept[name].allocations)}
        ]
        return found[:limit]

    def credit_note(self, tenant: str, name: str) -> StoredNote:
        """Return a credit note by its id or number."""
        for note in self._notes(tenant):
            if name in {note.head.id, note.head.number}:
                return note
        raise Missing(f"there is no credit note '{name}'", field="credit_note")

    def credit_notes(
        self,
        tenant: str,
        *,
        limit: int,
        after: str | None = None,
        customer: str | None = None,
        invoice: str | None = None,
    ) -> list[NoteHead]:
        """Return credit notes in the order of their numbers."""
        place = None if after is None else number_place(after)
        found = [
            note.head
            for note in self._notes(tenant)
            if (place is None or number_place(note.head.number) > place)
            and customer in {None, note.head.customer}
            and invoice in {None, note.head.invoice, note.head.invoice_number}
        ]
        return found[:limit]

    def entries(
        self,
        tenant: str,
        *,
        limit: int,
        after: str | None = None,
        document: str | None = None,
        account: str | None = None,
    ) -> list[Entry]:
        """Return entries by id."""
        kept = self._invoices.kept(tenant).entries
        found = [
            kept[name]
            for name in sorted(kept)
            if (after is None or name > after)
            and document in {None, kept[name].document}
            and account in {None, kept[name].debit, kept[name].credit}
        ]
        return found[:limit]

    def balances(
        self, tenant: str, account: str = "", *, limit: int | None = None, skip: int = 0
    ) -> list[Balance]:
        """Return accounts' balances, by name."""
        sums = totals(self._invoices.kept(tenant).entries.values())
        found = [
            Balance(name, currency, sums[name, currency])
            for name, currency in sorted(sums)
            if name.startswith(account)
        ]
        return found if limit is None else found[skip : skip + limit]

    def kinds(self, tenant: str) -> list[KindBalance]:
        """Return what kinds of accounts add up to."""
        total: Counter[tuple[str, str]] = Counter()
        used: Counter[tuple[str, str]] = Counter()
        for one in self.balances(tenant):
            place = one.account.partition(":")[0], one.currency
            total[place] += one.balance_minor
            used[place] += bool(one.balance_minor)
        return [KindBalance(*place, total[place], used[place]) for place in sorted(total)]

    def _notes(self, tenant: str) -> list[StoredNote]:
        notes = self._invoices.kept(tenant).notes.values()
        return sorted(notes, key=lambda note: number_place(note.head.number))


class MemorySettlementTransaction:
    """`SettlementTransaction` on a copy."""

    def __init__(self, invoices: MemoryTransaction) -> None:
        """Write to the state of this transaction."""
        self._invoices = invoices

    @property
    def invoices(self) -> MemoryTransaction:
        """Writes of billing, in this transaction."""
        return self._invoices

    def put_extras(self, extras: Sequence[PendingExtra]) -> None:
        """Store one-off charges."""
        if not self._invoices.books.extras.keys().isdisjoint(one.extra.id for one in extras):
            raise Conflict("a one-off charge is there already")
        self._invoices.books.put(Holdings(extras=tuple(extras)))

    def replace(self, invoice: str, by: str) -> None:
        """Store what took an invoice's place."""
        if invoice in self._invoices.books.replaced:
            raise Conflict("another invoice has taken its place")
        self._invoices.books.replaced[invoice] = by

    def settle(self, moves: Moves) -> None:
        """Write what a command does."""
        books = self._invoices.books
        books.touch({moves.customer: moves.version})
        books.post(moves.entries)
        books.tell(moves.facts)
        for one in moves.changed:
            self._invoices.change(one.invoice, one.state, one.open_minor)
        books.put(moves.held)
        books.payments |= {payment.id: payment for payment in moves.payments}
        books.notes |= {note.head.id: note for note in moves.notes}
        for gone in moves.returned:
            books.purses.give_back(moves.customer, gone.invoice, gone.at_us)
