"""Invoices in dicts: the fake for flows, held to the same contract suite as the SQL store."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from tallybook.adapters.memory.books import MemoryBooks
from tallybook.catalog.subscription import StoredPeriod
from tallybook.invoice.document import number_place
from tallybook.invoice.manifest import Billed, Group, Position
from tallybook.invoice.ports import (
    BillingRun,
    Books,
    InvoiceHead,
    Last,
    Part,
    Seen,
    StoredDraft,
    StoredInvoice,
    Waiting,
)
from tallybook.invoice.state import Shown, State
from tallybook.kernel.errors import Conflict, Missing


class _State(msgspec.Struct):
    """Everything of one tenant."""

    numbers: dict[str, int] = {}
    invoices: dict[str, StoredInvoice] = {}
    periods: dict[tuple[str, int, str], StoredPeriod] = {}
    billed: dict[tuple[Position, Group], Billed] = {}
    runs: dict[str, BillingRun] = {}
    drafts: dict[str, StoredDraft] = {}
    versions: dict[str, int] = {}
    seen: dict[str, Seen] = {}
    books: MemoryBooks = msgspec.field(default_factory=MemoryBooks)

    def copy(self) -> "_State":
        """Return a state that can be changed and thrown away."""
        return _State(
            dict(self.numbers),
            dict(self.invoices),
            dict(self.periods),
            dict(self.billed),
            dict(self.runs),
            dict(self.drafts),
            dict(self.versions),
            dict(self.seen),
            self.books.copy(),
        )


class MemoryInvoices:
    """`InvoiceStore` in memory."""

    def __init__(self) -> None:
        """Start empty."""
        self._tenants: dict[str, _State] = {}

    @contextmanager
    def transaction(self, tenant: str) -> Iterator["MemoryTransaction"]:
        """Change a copy; it becomes the state when the block ends."""
        draft = self._state(tenant).copy()
        yield MemoryTransaction(draft)
        self._tenants[tenant] = draft

    @property
    def drafts(self) -> "MemoryDrafts":
        """Drafts, in the same state."""
        return MemoryDrafts(self._tenants)

    def books(self, tenant: str, part: Part | None = None) -> Books:
        """Return where billing stands."""
        state = self._state(tenant)
        periods: dict[str, tuple[StoredPeriod, ...]] = {}
        for _, period in sorted(state.periods.items()):
            periods[period.subscription] = (*periods.get(period.subscription, ()), period)
        billed: dict[Position, dict[Group, Billed]] = {}
        for (position, group), one in state.billed.items():
            billed.setdefault(position, {})[group] = one
        heads = sorted((i.head for i in state.invoices.values()), key=lambda h: h.sequence)
        last = {head.customer: Last(head.sequence, head.id, head.run) for head in heads}
        if part is None:
            return Books(periods=periods, billed=billed, last=last)
        payers, owned = set(part.customers), set(part.subscriptions)
        recent = Counter(head.customer for head in heads if head.issued_us >= part.since_us)
        of_run = [head.customer for head in heads if head.run == part.run]
        of_run += [draft.customer for draft in state.drafts.values() if draft.run == part.run]
        return Books(
            periods={key: found for key, found in periods.items() if key in owned},
            billed={at: found for at, found in billed.items() if at.subscription in owned},
            last={key: found for key, found in last.items() if key in payers},
            versions={key: found for key, found in state.versions.items() if key in payers},
            done=frozenset(of_run if part.run else ()),
            recent={key: found for key, found in recent.items() if key in payers},
            seen={key: found for key, found in state.seen.items() if key in payers},
        )

    def invoice(self, tenant: str, name: str) -> StoredInvoice:
        """Return an invoice by its id or number."""
        for invoice in self._state(tenant).invoices.values():
            if name in {invoice.head.id, invoice.head.number}:
                return invoice
        raise Missing(f"there is no invoice '{name}'", field="invoice")

    def invoices(
        self,
        tenant: str,
        *,
        limit: int,
        after: str | None = None,
        customer: str | None = None,
        run: str | None = None,
        shown: Shown | None = None,
        newest: bool = False,
    ) -> list[InvoiceHead]:
        """Return invoices in the order of their numbers."""
        stored = (i.head for i in self._state(tenant).invoices.values())
        heads = sorted(stored, key=_by_number, reverse=newest)
        place = None if after is None else number_place(after)
        found = [
            head
            for head in heads
            if customer in {None, head.customer}
            and run in {None, head.run}
            and (shown is None or shown.holds(head.state, head.due_us, head.issued_us))
            and (place is None or _is_past(_by_number(head), place, newest=newest))
        ]
        return found[:limit]

    def runs(self, tenant: str, *, limit: int, name: str | None = None) -> list[BillingRun]:
        """Return billing runs, newest first."""
        runs = sorted(self._state(tenant).runs.values(), key=lambda r: (-r.started_us, r.id))
        return [run for run in runs if name in {None, run.id}][:limit]

    def heads(self, tenant: str) -> list[InvoiceHead]:
        """Return all invoices, oldest first."""
        heads = [invoice.head for invoice in self._state(tenant).invoices.values()]
        return sorted(heads, key=lambda head: (head.issued_us, head.sequence))

    def kept(self, tenant: str) -> MemoryBooks:
        """Return the books as they are; not to be changed."""
        return self._state(tenant).books

    def _state(self, tenant: str) -> _State:
        return self._tenants.get(tenant, _State())


class MemoryDrafts:
    """`DraftStore` in memory."""

    def __init__(self, tenants: Mapping[str, _State]) -> None:
        """Read the states of tenants."""
        self._tenants = tenants

    def draft(self, tenant: str, name: str) -> StoredDraft:
        """Return a draft by its id."""
        state = self._tenants.get(tenant, _State())
        if name not in state.drafts:
            raise Missing(f"there is no draft '{name}'", field="invoice")
        return state.drafts[name]

    def drafts(
        self,
        tenant: str,
        *,
        limit: int,
        after: str | None = None,
        customer: str | None = None,
        run: str | None = None,
    ) -> list[StoredDraft]:
        """Return open drafts in the order of their ids."""
        found = [
            draft
            for name, draft in sorted(self._tenants.get(tenant, _State()).drafts.items())
            if draft.state == "open"
            and (after is None or name > after)
            and customer in {None, draft.customer}
            and run in {None, draft.run}
        ]
        return found[:limit]

    def open_of(self, tenant: str, customers: Sequence[str]) -> dict[str, tuple[StoredDraft, ...]]:
        """Return the open drafts of customers."""
        state, found = self._tenants.get(tenant, _State()), dict[str, tuple[StoredDraft, ...]]()
        for _, draft in sorted(state.drafts.items()):
            if draft.state == "open" and draft.customer in customers:
                found[draft.customer] = (*found.get(draft.customer, ()), draft)
        return found

    def waiting(self, tenant: str, *, limit: int, after: str = "") -> list[Waiting]:
        """Return open drafts without their bodies, with the versions of what they are made from."""
        state = self._tenants.get(tenant, _State())
        found = [
            Waiting(
                id=draft.id,
                customer=draft.customer,
                books=state.versions.get(draft.customer, 0),
                account=state.books.versions.get(draft.customer, 0),
            )
            for name, draft in sorted(state.drafts.items())
            if draft.state == "open" and name > after
        ]
        return found[:limit]

    def drafts_due(self, now_us: int, limit: int) -> list[tuple[str, str]]:
        """Return tenant and id of open drafts whose time has come."""
        due = sorted(
            (draft.finalize_us, tenant, draft.id)
            for tenant, state in self._tenants.items()
            for draft in state.drafts.values()
            if draft.state == "open" and draft.finalize_us <= now_us
        )
        return [(tenant, name) for _, tenant, name in due[:limit]]


class MemoryTransaction:
    """`InvoiceTransaction` on a copy."""

    def __init__(self, state: _State) -> None:
        """Write to this state."""
        self._state = state

    @property
    def books(self) -> MemoryBooks:
        """Ledger, outbox and accounts, in this transaction."""
        return self._state.books

    def take_numbers(self, series: str, count: int) -> int:
        """Return the first of the next numbers."""
        first = self._state.numbers.get(series, 0) + 1
        self._state.numbers[series] = first + count - 1
        return first

    def add_invoices(self, invoices: Sequence[StoredInvoice]) -> None:
        """Store finalized invoices."""
        heads = [invoice.head for invoice in self._state.invoices.values()]
        numbers = {head.number for head in heads}
        sequences = {(head.customer, head.sequence) for head in heads}
        for invoice in invoices:
            head = invoice.head
            place = (head.customer, head.sequence)
            if head.id in self._state.invoices or head.number in numbers or place in sequences:
                raise Conflict(f"invoice {head.number} of {head.customer} is there already")
            self._state.invoices[head.id] = invoice
            numbers.add(head.number)
            sequences.add(place)

    def change(self, invoice: str, state: State, open_minor: int) -> None:
        """Put state and what is open of an invoice in place of what they were."""
        stored = self._state.invoices[invoice]
        head = msgspec.structs.replace(stored.head, state=state, open_minor=open_minor)
        self._state.invoices[invoice] = msgspec.structs.replace(stored, head=head)

    def put_periods(self, periods: Sequence[StoredPeriod]) -> None:
        """Store periods."""
        for period in periods:
            place = (period.subscription, period.start_us, period.interval)
            self._state.periods[place] = period

    def put_billed(self, billed: Sequence[tuple[Position, Billed]]) -> None:
        """Store what is billed."""
        for position, one in billed:
            self._state.billed[position, one.group] = one

    def put_drafts(self, drafts: Sequence[StoredDraft]) -> None:
        """Store drafts."""
        for draft in drafts:
            self._state.drafts[draft.id] = draft

    def expect(self, versions: Mapping[str, int]) -> None:
        """Check where billing stands of customers."""
        for customer, version in versions.items():
            if self._state.versions.get(customer, 0) != version:
                message = f"{customer} was billed by somebody else meanwhile; decide again"
                raise Conflict(message, code="books-moved")

    def claim(self, versions: Mapping[str, int], seen: Mapping[str, Seen] | None = None) -> None:
        """Move on where billing stands of customers."""
        self.expect(versions)
        for customer, version in versions.items():
            self._state.versions[customer] = version + 1
            self._state.seen.pop(customer, None)
        self._state.seen.update(seen or {})

    def put_run(self, run: BillingRun) -> None:
        """Store a run."""
        self._state.runs[run.id] = run


def _by_number(head: InvoiceHead) -> tuple[str, int]:
    return number_place(head.number)


def _is_past(head: tuple[str, int], place: tuple[str, int], *, newest: bool) -> bool:
    return head < place if newest else head > place
