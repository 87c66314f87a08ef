"""A small world to bill in: memory adapters, a clock that is set, events that are added."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from tallybook.adapters.memory.accounts import MemoryAccounts
from tallybook.adapters.memory.catalog import MemoryCatalog
from tallybook.adapters.memory.invoices import MemoryInvoices
from tallybook.adapters.memory.usage_reader import MemoryUsageReader
from tallybook.catalog.document import parse_document
from tallybook.catalog.flow import apply
from tallybook.catalog.ports import CatalogStore
from tallybook.invoice.document import Invoice, decode_invoice
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill
from tallybook.invoice.ports import Accounts, Billing, BillingRun, InvoiceStore
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.period import parse_moment, zone
from tallybook.meter.usage import StoredEvent

TENANT = "default"


ACME = """
[[customers]]
key = "acme"
currency = "USD"
subjects = ["s"]

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "{plan}"
start = 2026-05-01
"""


def acme(plan: str = "web") -> str:
    """Return, as TOML, a customer of USD with the subject 's', on a plan since May 2026."""
    return ACME.format(plan=plan)


def at(text: str, name: str = "UTC") -> int:
    """Return the instant of a date or time."""
    return parse_moment(text, zone(name), "at")


@dataclass
class SetClock:
    """A clock that stands still."""

    now: int = 0

    def now_us(self) -> int:
        """Return what was set."""
        return self.now


@dataclass
class CountingIds:
    """Ids in a row."""

    numbers: "count[int]" = field(default_factory=lambda: count(1))

    def new(self, prefix: str) -> str:
        """Return the next id."""
        return f"{prefix}_{next(self.numbers):04d}"


class World:
    """Ports and shortcuts; times are texts such as '2026-05-17'."""

    def __init__(
        self,
        catalog: CatalogStore | None = None,
        invoices: InvoiceStore | None = None,
        accounts: Accounts | None = None,
    ) -> None:
        """Start empty, at the beginning of 2027; `accounts` belong to `invoices`."""
        self.kept = invoices if isinstance(invoices, MemoryInvoices) else MemoryInvoices()
        self.clock = SetClock(at("2027-01-01"))
        self.usage = MemoryUsageReader()
        self.seq = 0
        self.billing = Billing(
            tenant=TENANT,
            catalog=catalog or MemoryCatalog(self._tell),
            invoices=invoices or self.kept,
            accounts=accounts or MemoryAccounts(self.kept),
            usage=self.usage,
            clock=self.clock,
            ids=CountingIds(),
            tz="2026.1",
        )

    def _tell(self, tenant: str, facts: Sequence[Fact]) -> None:
        with self.kept.transaction(tenant) as transaction:
            transaction.books.tell(facts)

    def apply(self, text: str) -> None:
        """Apply a catalog.toml."""
        apply(self.billing.catalog, TENANT, parse_document(text))

    def event(
        self,
        when: str,
        subject: str = "s",
        data: str = "{}",
        kind: str = "t",
        seq: int | None = None,
    ) -> StoredEvent:
        """Add one event as a commit of its own."""
        self.seq += 1
        event = StoredEvent(
            id=f"e{self.seq}",
            source="test",
            type=kind,
            subject=subject,
            time_us=at(when),
            received_us=self.clock.now,
            commit_seq=self.seq if seq is None else seq,
            data=data,
            ext=None,
            problem=None,
            row_hash=self.seq * 7919,
        )
        self.usage.add(TENANT, [event])
        return event

    def bill(self, what: str, name: str | None = None) -> BillingRun:
        """Bill a month ('2026-05') or until an instant ('2026-05-10')."""
        month = len(what) == len("2026-05")
        request = BillRequest(period=what) if month else BillRequest(until_us=at(what))
        return bill(self.billing, request, name=name)

    def invoices(self, run: BillingRun | None = None) -> list[Invoice]:
        """Return invoices in the order of their numbers; only those of a run where given."""
        store = self.billing.invoices
        heads = store.invoices(TENANT, limit=100_000, run=run.id if run else None)
        return [decode_invoice(store.invoice(TENANT, head.id).body) for head in heads]

    def bodies(self) -> dict[str, str]:
        """Return every stored canonical JSON by number."""
        store = self.billing.invoices
        heads = store.invoices(TENANT, limit=100_000)
        return {head.number: store.invoice(TENANT, head.id).body for head in heads}
