"""A run that is killed, books that are stale, a catalog that moves: nothing twice or lost."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import pytest

from tallybook.adapters.memory.catalog import MemoryCatalog
from tallybook.adapters.memory.invoices import MemoryInvoices, MemoryTransaction
from tallybook.catalog.catalog import Entry
from tallybook.catalog.customer import Customer
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill
from tallybook.invoice.ports import Books, Part
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Unavailable
from tests.support.billing_world import TENANT, World

CATALOG = """
[[meters]]
key = "calls"
event_type = "t"
aggregation = "COUNT"

[[plans]]
key = "web"
currency = "USD"
[[plans.charges]]
key = "calls"
meter = "calls"
price = { type = "unit", unit_amount = 1 }

[[customer_rules]]
key = "all"
event_type = "t"
plan = "web"
currency = "USD"
"""
CUSTOMERS = 1_100


class FailingInvoices(MemoryInvoices):
    """Fails in the transaction that its countdown reaches."""

    countdown = -1

    @contextmanager
    def transaction(self, tenant: str) -> Iterator[MemoryTransaction]:
        """Fail after everything was written and before it is committed."""
        with super().transaction(tenant) as transaction:
            yield transaction
            self.countdown -= 1
            if self.countdown == 0:
                raise Unavailable("the disk is full")


class StaleInvoices(MemoryInvoices):
    """Answers with books of an earlier time, as a second run at the same time would read them."""

    stale: Books | None = None

    stale_reads = 99

    def books(self, tenant: str, part: Part | None = None) -> Books:
        """Return the stale books, where there are any, a few times."""
        self.stale_reads -= 1
        return self.stale if self.stale and self.stale_reads >= 0 else super().books(tenant, part)


class MovingCatalog(MemoryCatalog):
    """Is changed by somebody else just before the first writes."""

    moves = 0

    def write(
        self,
        tenant: str,
        entries: Sequence[Entry],
        expected: int | None = None,
        facts: Sequence[Fact] = (),
    ) -> int:
        """Let another change go first."""
        if self.moves:
            self.moves -= 1
            super().write(tenant, [Customer(key=f"new-{self.moves}", name="x", currency="USD")])
        return super().write(tenant, entries, expected, facts)


def filled(world: World) -> World:
    world.apply(CATALOG)
    for n in range(CUSTOMERS):
        world.event("2026-05-17", subject=f"10.0.{n // 250}.{n % 250}")
    return world


@pytest.mark.parametrize("countdown", [3, 4, 5])  # after the run's beginning and the newcomers
def test_a_run_that_fails_goes_on_and_bills_everybody_once(countdown: int) -> None:
    store = FailingInvoices()
    world = filled(World(invoices=store))
    store.countdown = countdown
    with pytest.raises(Unavailable):
        world.bill("2026-05", name="run_x")
    assert len(store.invoices(TENANT, limit=10_000)) == (countdown - 3) * 500
    world.event("2026-05-18", subject="10.0.0.0")
    world.clock.now += 1
    steps: list[int] = []
    run = bill(
        world.billing,
        BillRequest(period="2026-05"),
        name="run_x",
        progress=lambda done, total, what: steps.append(done),
    )
    assert (run.state, run.customers, run.invoices) == ("done", CUSTOMERS, CUSTOMERS)
    assert steps == sorted(steps)
    assert steps[-1] == CUSTOMERS
    heads = store.invoices(TENANT, limit=10_000)
    assert [head.number for head in heads] == [f"INV-{n:06d}" for n in range(1, CUSTOMERS + 1)]
    assert len({head.customer for head in heads}) == CUSTOMERS
    assert {head.cut for head in heads} == {CUSTOMERS}, "the snapshot is the run's"
    assert {head.issued_us for head in heads} == {run.started_us}


def test_two_runs_at_once_bill_nobody_twice() -> None:
    store = StaleInvoices()
    world = World(invoices=store)
    world.apply(CATALOG)
    world.event("2026-05-17", subject="a")
    empty = store.books(TENANT)
    world.bill("2026-05")
    world.event("2026-05-17", subject="b")
    store.stale = empty
    run = world.bill("2026-05")
    assert [(p.customer, p.code) for p in run.parked] == [("a", "books-moved")]
    assert [h.customer for h in store.invoices(TENANT, limit=9)] == ["a", "b"]
    assert [h.number for h in store.invoices(TENANT, limit=9)] == ["INV-000001", "INV-000002"]


def test_what_another_run_billed_meanwhile_is_read_again() -> None:
    store = StaleInvoices()
    world = World(invoices=store)
    world.apply(CATALOG)
    world.event("2026-05-17", subject="a")
    store.stale = store.books(TENANT)
    store.stale_reads = 2
    world.bill("2026-05-20")
    world.event("2026-05-18", subject="a")
    store.stale_reads = 2
    run = world.bill("2026-05")
    assert run.parked == ()
    assert [invoice.total for invoice in world.invoices()] == ["1.00", "1.00"]


def test_a_catalog_that_moves_is_read_again() -> None:
    catalog = MovingCatalog()
    world = World(catalog=catalog)
    world.apply(CATALOG)
    world.event("2026-05-17", subject="a")
    catalog.moves = 3
    assert world.bill("2026-05").invoices == 1
    assert set(catalog.load(TENANT).customers) == {"a", "new-0", "new-1", "new-2"}


def test_the_series_is_the_sellers() -> None:
    world = World()
    world.apply(CATALOG + '\n[seller]\nname = "We"\nseries = "R-2026"\n')
    world.event("2026-05-17", subject="a")
    world.bill("2026-05")
    (invoice,) = world.invoices()
    assert (invoice.number, invoice.seller.name) == ("R-2026-000001", "We")
    assert msgspec.json.decode(next(iter(world.bodies().values())))["series"] == "R-2026"
