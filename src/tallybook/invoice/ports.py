"""What invoicing needs of a store: positions read whole, invoices written in one transaction.

Guarantees 5 and 6 and the gapless numbers stand on these ports; tests/contract/invoice_store.py
tries to break every sentence, for every adapter.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import msgspec

from tallybook.catalog.ports import CatalogStore
from tallybook.catalog.subscription import StoredPeriod
from tallybook.invoice.funds import NOTHING, CouponUsed, CreditUsed, Funds, WalletUsed
from tallybook.invoice.manifest import Billed, Extra, Group, Position
from tallybook.invoice.state import Shown, State
from tallybook.kernel.book.entry import Entry
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.ports import Clock, Ids
from tallybook.rate.ports import UsageReader

RunState = Literal["running", "done"]

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what): customers of a run so far."""


class InvoiceHead(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice in a list.

    Attributes:
        sequence: 1 and up for each customer, without a gap.
        cut: snapshot that was counted.
        sha256: of the canonical JSON, hexadecimal.
        payable_minor: to be paid when it was finalized.
        open_minor: of that, what is neither paid nor credited nor written off now.
    """

    id: str
    number: str
    state: State
    customer: str
    customer_name: str
    sequence: int
    run: str
    currency: str
    total_minor: int
    lines: int
    issued_us: int
    due_us: int
    period_start_us: int
    period_end_us: int
    cut: int
    sha256: str
    payable_minor: int = 0
    open_minor: int = 0


class StoredLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line in a table, for sums and reports.

    Attributes:
        group: JSON array of the dimension values.
        quantity: of this line alone, plain decimal text.
        events: of this line alone.
    """

    id: str
    number: int
    position: Position
    group: str
    meter: str | None
    meter_version: int | None
    quantity: str
    amount_minor: int
    events: int
    adjustment: bool


class StoredInvoice(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice as it is kept.

    Attributes:
        body: the canonical JSON.
    """

    head: InvoiceHead
    body: str
    lines: tuple[StoredLine, ...]


class Last(msgspec.Struct, frozen=True):
    """A customer's newest invoice."""

    sequence: int
    invoice: str
    run: str


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """That a run has looked at everything of a payer.

    Attributes:
        terms: digest of everything about the payer that is not usage.
        cut: snapshot that it counted.
    """

    terms: str
    cut: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Whose books are read.

    Attributes:
        customers: those who pay.
        subscriptions: theirs, and those of the customers that they pay for.
        run: of whose customers it is told which are done; '' for none.
        since_us: the customers' invoices issued from then on are counted, microseconds UTC.
    """

    customers: Sequence[str]
    subscriptions: Sequence[str]
    run: str = ""
    since_us: int = 0


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """Where billing stands, of one tenant at one instant.

    Attributes:
        periods: subscription -> its periods, oldest first, then by interval.
        billed: what was billed, by position and dimension value.
        last: customer -> its newest invoice.
        versions: customer -> version of all of this; one that is not in it has 0.
        done: customers that have an invoice or a draft of the run that was asked about.
        recent: customer -> how many invoices it got since the instant that was asked about.
        seen: customer -> the newest run that has looked at everything of it; not where something
            else moved its version on since.
    """

    periods: dict[str, tuple[StoredPeriod, ...]] = {}
    billed: dict[Position, dict[Group, Billed]] = {}
    last: dict[str, Last] = {}
    versions: dict[str, int] = {}
    done: frozenset[str] = frozenset()
    recent: dict[str, int] = {}
    seen: dict[str, Seen] = {}


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """A customer, or a new subject, that a run could not bill, and why; the rest went on."""

    customer: str
    code: str
    message: str


class BillingRun(msgspec.Struct, frozen=True, kw_only=True):
    """A billing run: resumable, because what it counts is fixed when it starts.

    Attributes:
        request: as the manifests name it.
        period: as asked, 'YYYY-MM', or None.
        until_us: as asked, or None.
        cut: snapshot that it counts; fixed when the run starts.
        started_us: the invoices' date; fixed when the run starts.
        customers: looked at; invoices: finalized by it; drafts: made by it; waiting: periods that
            have not ended yet.
        replaces: number of the voided invoice that its invoice takes the place of; '' for none.
    """

    id: str
    request: str
    period: str | None
    until_us: int | None
    cut: int
    started_us: int
    state: RunState = "running"
    finished_us: int | None = None
    customers: int = 0
    invoices: int = 0
    drafts: int = 0
    waiting: int = 0
    parked: tuple[Parked, ...] = ()
    replaces: str = ""


DraftState = Literal["open", "finalized", "discarded", "empty", "replaced"]
"""Of a draft: open until it becomes an invoice, is thrown away, has nothing left to bill, or until
a later one of its customer bills all of it."""


class StoredDraft(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice that waits out its grace period: one a run and customer.

    Attributes:
        id: derived from run and customer.
        run: that made it; its invoice is one of that run.
        request: of the run, as manifests name it; period, until_us: as it was asked.
        finalize_us: when it is finalized by itself, microseconds UTC.
        made_us: when the run made it; refreshed_us: when it was composed last.
        head: as lists show it, with id and number of a draft.
        body: the canonical JSON of the invoice as it would be; '' where it is not open.
        invoice: id of the invoice it became; '' while it did not.
        parked: why it cannot be finalized; None where nothing is wrong.
        replaced_by: id of the draft that took its place; '' for none.
    """

    id: str
    run: str
    customer: str
    request: str
    period: str | None
    until_us: int | None
    finalize_us: int
    made_us: int
    refreshed_us: int
    head: InvoiceHead
    body: str
    state: DraftState = "open"
    invoice: str = ""
    parked: Parked | None = None
    replaced_by: str = ""


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """An open draft, and the versions of what it is composed from, as they are now.

    Attributes:
        books: of where billing stands of its customer.
        account: of what its customer has.
    """

    id: str
    customer: str
    books: int
    account: int


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What one invoice used of its customer's account.

    Attributes:
        version: of the funds that it was composed from.
        at_us: microseconds UTC.
        extras: ids of the one-off charges that are billed by it.
        carried_minor: of a total below zero: what becomes the customer's credit; 0 or more.
    """

    customer: str
    version: int
    invoice: str
    number: str
    currency: str
    at_us: int
    coupons: tuple[CouponUsed, ...] = ()
    credits: tuple[CreditUsed, ...] = ()
    wallets: tuple[WalletUsed, ...] = ()
    extras: tuple[str, ...] = ()
    carried_minor: int = 0


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What a customer has, and what is to be put on its next invoice."""

    funds: Funds = NOTHING
    extras: tuple[Extra, ...] = ()


class Accounts(Protocol):
    """Reads what customers have."""

    def accounts(
        self, tenant: str, customers: Sequence[str], currency: str, at_us: int
    ) -> dict[str, Account]:
        """Return every asked customer's account at an instant, as of one state of the store.

        A customer that has nothing and never had has the account `Account()`.
        """
        ...

    def charged(self, tenant: str) -> frozenset[str]:
        """Return the customers of whom a one-off charge waits to be billed."""
        ...


class BookTransaction(Protocol):
    """Writes of money, in the transaction of the invoices that they are about."""

    def post(self, entries: Sequence[Entry]) -> None:
        """Add entries to the ledger; raises Conflict where an id is there already."""
        ...

    def tell(self, facts: Sequence[Fact]) -> None:
        """Add facts to be told outside; one whose id is there already is left out."""
        ...

    def spend(self, spent: Sequence[Spent]) -> None:
        """Take what invoices used from the accounts, and move the accounts' versions on.

        Raises:
            Conflict: an account has another version than the invoice was composed from.
        """
        ...


class InvoiceTransaction(Protocol):
    """Writes that happen together or not at all."""

    @property
    def books(self) -> BookTransaction:
        """The ledger, the outbox and the customers' accounts, in this transaction."""
        ...

    def take_numbers(self, series: str, count: int) -> int:
        """Return the first of `count` numbers that follow the series' last one.

        Guarantees: committed numbers of a series are 1, 2, 3, … without a gap: a transaction that
        is rolled back gives its numbers back, and others wait for it.
        """
        ...

    def add_invoices(self, invoices: Sequence[StoredInvoice]) -> None:
        """Store finalized invoices; they are never written again.

        Raises:
            Conflict: the id, the number, or the customer's sequence is taken.
        """
        ...

    def put_periods(self, periods: Sequence[StoredPeriod]) -> None:
        """Store new periods, and changed ones in place of what they were.

        A period is known by its subscription, interval and start.
        """
        ...

    def put_billed(self, billed: Sequence[tuple[Position, Billed]]) -> None:
        """Store what is billed of positions, in place of what they were."""
        ...

    def put_run(self, run: BillingRun) -> None:
        """Store a run, in place of what it was."""
        ...

    def put_drafts(self, drafts: Sequence[StoredDraft]) -> None:
        """Store drafts, in place of what they were."""
        ...

    def expect(self, versions: Mapping[str, int]) -> None:
        """Check where billing stands of customers of whom nothing but a draft is written.

        Raises:
            Conflict: somebody moved them on; code 'books-moved'.
        """
        ...

    def claim(self, versions: Mapping[str, int], seen: Mapping[str, Seen] | None = None) -> None:
        """Move on where billing stands, of customers whose periods, figures or drafts change.

        Args:
            versions: customer -> version of the books that it was decided from.
            seen: of those at whom a run has looked; of all others nothing is known any more.

        Raises:
            Conflict: somebody else moved them on meanwhile; code 'books-moved'.
        """
        ...


class DraftStore(Protocol):
    """Keeps drafts; they are written in the transactions of an `InvoiceStore`."""

    def draft(self, tenant: str, name: str) -> StoredDraft:
        """Return a draft by its id, whatever became of it; raises Missing."""
        ...

    def drafts(
        self,
        tenant: str,
        *,
        limit: int,
        after: str | None = None,
        customer: str | None = None,
        run: str | None = None,
    ) -> list[StoredDraft]:
        """Return open drafts in the order of their ids, those after the id `after`."""
        ...

    def open_of(self, tenant: str, customers: Sequence[str]) -> dict[str, tuple[StoredDraft, ...]]:
        """Return the open drafts of customers, in the order of their ids; of none no entry."""
        ...

    def waiting(self, tenant: str, *, limit: int, after: str = "") -> list[Waiting]:
        """Return open drafts in the order of their ids, those after an id, without their bodies."""
        ...

    def drafts_due(self, now_us: int, limit: int) -> list[tuple[str, str]]:
        """Return tenant and id of open drafts whose time has come, the longest due first."""
        ...


class InvoiceStore(Protocol):
    """Keeps invoices and where billing stands.

    Raises, from every method:
        Unavailable: the store cannot be reached; nothing of the call has happened.
    """

    def transaction(self, tenant: str) -> AbstractContextManager[InvoiceTransaction]:
        """Open a write transaction; committed when the block ends, rolled back when it raises.

        Guarantees: on a normal end everything is on stable storage; one writer at a time.
        """
        ...

    @property
    def drafts(self) -> DraftStore:
        """Drafts, in the same store."""
        ...

    def books(self, tenant: str, part: Part | None = None) -> Books:
        """Return where billing stands, as of one instant; of everybody where no part is named."""
        ...

    def invoice(self, tenant: str, name: str) -> StoredInvoice:
        """Return an invoice by its id or number; raises Missing."""
        ...

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
        """Return invoices in the order of their numbers, those after the number `after`.

        With `newest` the order is the other way round, and `after` too. With `shown` only those
        that it holds.
        """
        ...

    def runs(self, tenant: str, *, limit: int, name: str | None = None) -> list[BillingRun]:
        """Return billing runs, newest first; only the one with id `name` where given."""
        ...


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What one invoice, and one customer in a day, may come to before a run stops and says so.

    Attributes:
        lines_max: of one invoice.
        total_minor_max: of one invoice, above or below zero.
        invoices_a_day_max: of one customer within 24 hours.
    """

    lines_max: int = 20_000
    total_minor_max: int = 10**13
    invoices_a_day_max: int = 50


class Billing(msgspec.Struct, frozen=True, kw_only=True):
    """The ports that billing works with, for one tenant.

    Attributes:
        tz: version of the time zone data, for the manifests.
        bounds: what is sane.
    """

    tenant: str
    catalog: CatalogStore
    invoices: InvoiceStore
    accounts: Accounts
    usage: UsageReader
    clock: Clock
    ids: Ids
    tz: str
    bounds: Bounds = Bounds()
