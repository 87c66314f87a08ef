"""What cannot be billed parks its customer alone, with its reason; the rest goes on."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from tallybook.adapters.memory.invoices import MemoryInvoices, MemoryTransaction
from tallybook.adapters.memory.usage_reader import MemoryUsageReader
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import preview
from tallybook.invoice.run.drafts import finalize_due
from tallybook.invoice.run.listing import named
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.meter.usage import Usage, UsageQuery
from tests.flow.test_drafts import CATALOG, filled, the_draft
from tests.support.billing_world import TENANT, World, at


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


def test_a_draft_is_named_until_it_ends() -> None:
    world = filled(World())
    world.bill("2026-05")
    name = the_draft(world)
    assert named(world.billing.invoices, TENANT, name).head.state == "draft"
    assert named(world.billing.invoices, TENANT, "INV-000001").head.number == "INV-000001"
    with pytest.raises(Missing):
        named(world.billing.invoices, TENANT, "drf_x")
    assert at("2026-06-01") == world.clock.now
