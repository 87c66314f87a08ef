"""What cannot be billed parks its customer alone, with its reason; the rest goes on."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from tallybook.adapters.memory.invoices import MemoryInvoices, MemoryTransaction
from tallybook.adapters.memory.usage_reader import MemoryUsageReader
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import preview, start_run
from tallybook.invoice.ports import Bounds
from tallybook.invoice.run.batch.finalizing import finalize_all_due
from tallybook.invoice.run.batch.refreshing import refresh_all
from tallybook.invoice.run.drafts import discard, finalize_due
from tallybook.invoice.run.listing import named
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.meter.usage import Usage, UsageQuery
from tests.support.billing_world import TENANT, World, at
from tests.support.draft_world import CATALOG, due_drafts, filled, the_draft


class TooLarge(MemoryUsageReader):
    """Cannot sum the usage of one subject, nor of anybody asked with it."""

    subject = "q"
    asked = 0

    def usage(self, query: UsageQuery) -> list[Usage]:
        """Answer, unless that subject is asked about."""
        self.asked += 1
        if any(owner.subject == self.subject for owner in query.owners):
            raise Invalid("38 digits", code="sum-out-of-range")
        return super().usage(query)


def world_of(reader: MemoryUsageReader, store: MemoryInvoices | None = None) -> World:
    world = World(invoices=store) if store else World()
    world.usage = reader
    world.billing = msgspec.structs.replace(world.billing, usage=reader)
    return world


def test_usage_that_cannot_be_summed_parks_its_customer_alone() -> None:
    world = filled(world_of(TooLarge()))
    run = world.bill("2026-05")
    assert [(one.customer, one.code) for one in run.parked] == [("quick", "sum-out-of-range")]
    assert (run.customers, run.drafts, run.state) == (2, 1, "done")
    with pytest.raises(Invalid, match="38 digits"):
        preview(world.billing, BillRequest(period="2026-05"), "quick")


def test_a_run_over_nobody_ends() -> None:
    world = World()
    assert world.bill("2026-05").state == "done"
    world.apply(CATALOG[: CATALOG.index("[[subscriptions]]")])
    assert preview(world.billing, BillRequest(period="2026-05"), "acme") is None


def test_a_contract_that_cannot_be_followed_parks_its_customer() -> None:
    world = filled(World())
    catalog = world.billing.catalog
    lost = msgspec.structs.replace(catalog.load(TENANT).subscriptions["quick"], plan="gone")
    catalog.write(TENANT, [lost])
    run = world.bill("2026-05")
    assert [(one.customer, one.code) for one in run.parked] == [("quick", "not-found")]
    assert (run.customers, run.drafts) == (2, 1)


class Faster(MemoryInvoices):
    """Somebody else is faster, a few times."""

    times = 0
    code = "account-moved"

    @contextmanager
    def transaction(self, tenant: str) -> Iterator[MemoryTransaction]:
        """Refuse at the end, while it lasts."""
        with super().transaction(tenant) as transaction:
            yield transaction
            if self.times:
                self.times -= 1
                raise Conflict("somebody else was faster", code=self.code)


def test_somebody_faster_is_waited_for_and_a_refusal_is_not_repeated() -> None:
    store = Faster()
    world = filled(World(invoices=store))
    world.bill("2026-05", name="run_1")
    name = the_draft(world)
    store.times = 3
    assert finalize_due(world.billing, name) is not None
    store.times, store.code = 1, "closed"
    with pytest.raises(Conflict, match="faster"):
        world.bill("2026-05")


def test_who_is_parked_stays_so_where_the_others_go_one_by_one() -> None:
    store = Faster()
    world = filled(World(invoices=store))
    world.billing = msgspec.structs.replace(world.billing, bounds=Bounds(total_minor_max=150))
    start_run(world.billing, BillRequest(period="2026-05"), "run_1")
    store.times = 1
    run = world.bill("2026-05", name="run_1")
    assert [(one.customer, one.code) for one in run.parked] == [("acme", "total-out-of-bounds")]
    assert (run.customers, run.invoices) == (2, 1)


def test_who_got_the_invoice_of_this_run_meanwhile_is_passed_over() -> None:
    class Twin(MemoryInvoices):
        """Another process goes on with the same run, and is faster."""

        armed = False

        @contextmanager
        def transaction(self, tenant: str) -> Iterator[MemoryTransaction]:
            """Refuse, once everything is done by the other."""
            if self.armed:
                self.armed = False
                world.bill("2026-05", name="run_1")
                raise Conflict("somebody else was faster", code="books-moved")
            with super().transaction(tenant) as transaction:
                yield transaction

    store = Twin()
    world = filled(World(invoices=store))
    start_run(world.billing, BillRequest(period="2026-05"), "run_1")
    store.armed = True
    run = world.bill("2026-05", name="run_1")
    assert (run.customers, run.parked) == (2, ())
    assert [one.number for one in world.invoices()] == ["INV-000001"]
    assert len(store.drafts.drafts(TENANT, limit=9)) == 1


def test_drafts_whose_usage_or_contract_fails_go_alone_and_say_why() -> None:
    reader = TooLarge()
    reader.subject = "nobody"
    world = world_of(reader)
    names = due_drafts(filled(world))
    reader.subject = "s1"
    catalog = world.billing.catalog
    lost = msgspec.structs.replace(catalog.load(TENANT).subscriptions["c2"], plan="gone")
    catalog.write(TENANT, [lost])
    discard(world.billing, names[-1])
    made = finalize_all_due(world.billing, names)
    left = {
        one.customer: one.parked for one in world.billing.invoices.drafts.drafts(TENANT, limit=9)
    }
    why = {who: None if one is None else one.code for who, one in left.items()}
    assert why == {"c1": "sum-out-of-range", "c2": "not-found"}
    assert made == len(names) - 3
    refreshed = refresh_all(world.billing, [*names])
    assert {one.customer for one in refreshed} == {"c1", "c2"}
    assert all(one.parked is not None for one in refreshed)


def test_a_draft_is_named_until_it_ends() -> None:
    world = filled(World())
    world.bill("2026-05")
    name = the_draft(world)
    assert named(world.billing.invoices, TENANT, name).head.state == "draft"
    assert named(world.billing.invoices, TENANT, "INV-000001").head.number == "INV-000001"
    with pytest.raises(Missing):
        named(world.billing.invoices, TENANT, "drf_x")
    assert at("2026-06-01") == world.clock.now
