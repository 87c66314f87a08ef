"""Drafts kept up to date while they wait: docs/algorithms/invoice-life.md"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal

import msgspec
import pytest

from tallybook.invoice.manifest import Extra
from tallybook.invoice.ports import Billing, Bounds, InvoiceTransaction, Part, Spent
from tallybook.invoice.run.batch import refreshing
from tallybook.invoice.run.batch.refreshing import Known, keep_fresh
from tallybook.invoice.run.drafts import discard, finalize, finalize_due, refresh
from tallybook.kernel.errors import Conflict
from tallybook.kernel.timestamps import DAY_US
from tallybook.settle.receivable.flow import put_extras
from tests.support.billing_world import TENANT, World, at
from tests.support.draft_world import (
    CATALOG,
    EACH,
    MANY,
    counted,
    due_drafts,
    filled,
    open_drafts,
    totals,
)
from tests.support.settled_world import SettledWorld


@pytest.fixture
def world(any_world: SettledWorld) -> SettledWorld:
    filled(any_world)
    return any_world


class Keeper:
    """A job runner's memory of the drafts, and which it composed in each round."""

    def __init__(self, world: World) -> None:
        self.world, self.known = world, Known()

    def round(self) -> list[str]:
        """Return whose drafts were composed anew."""
        now = self.world.clock.now = self.world.clock.now + 1
        self.known, done = keep_fresh(self.world.billing, self.known)
        fresh = [one.customer for one in open_drafts(self.world) if one.refreshed_us == now]
        assert done == len(fresh)
        return sorted(fresh)


def test_late_events_are_on_the_drafts_of_those_they_concern(world: World) -> None:
    due_drafts(world)
    world.clock.now = at("2026-06-01")
    keeper = Keeper(world)
    everybody = ["acme", "c0", "c1", "c2", "c3", "c4"]
    assert keeper.round() == everybody
    assert keeper.round() == []
    world.event("2026-05-30", subject="s1")
    world.event("2026-06-01", subject="s2")  # not of the month
    assert keeper.round() == ["c1"]
    assert totals(world)["c1"] == 300
    assert keeper.round() == []
    world.apply(CATALOG + MANY + '[[coupons]]\nkey = "c"\npercent = 1\n')
    assert keeper.round() == everybody, "the catalog is another"
    world.clock.now += DAY_US
    assert keeper.round() == everybody, "each day anew"
    discard(world.billing, next(one.id for one in open_drafts(world) if one.customer == "c1"))
    assert keeper.round() == []


BASE = """
[[plans]]
key = "base"
currency = "USD"
[[plans.charges]]
key = "fee"
price = { type = "flat", amount = 5 }
[[plans.charges]]
key = "calls"
meter = "calls"
price = { type = "unit", unit_amount = 1 }

[[customers]]
key = "firm"
currency = "USD"
subjects = []

[[customers]]
key = "west"
currency = "USD"
subjects = ["w"]
zone = "America/Los_Angeles"
parent = "firm"

[[subscriptions]]
key = "firm"
customer = "firm"
plan = "base"
start = 2026-05-01

[[subscriptions]]
key = "west"
customer = "west"
plan = "base"
start = 2026-05-01
"""


@pytest.mark.parametrize("asked", ["2026-05", "2026-06-01T07:00:00Z"])
def test_the_first_usage_is_on_a_draft_that_had_fees_alone(world: World, asked: str) -> None:
    world.apply(CATALOG + BASE)
    world.clock.now = at("2026-06-02")
    world.bill(asked)
    keeper = Keeper(world)
    assert keeper.round() == ["acme", "firm"]
    assert totals(world)["firm"] == 1000
    world.event("2026-06-01T07:00:00Z", subject="w")  # not of the month, over there
    assert keeper.round() == []
    world.event("2026-06-01T06:59:59Z", subject="w")
    assert keeper.round() == ["firm"]
    assert totals(world)["firm"] == 1100


def test_a_draft_is_composed_anew_where_books_or_accounts_moved(world: World) -> None:
    due_drafts(world)
    keeper = Keeper(world)
    keeper.round()
    with world.billing.invoices.transaction(TENANT) as transaction:
        transaction.claim({"c2": world.billing.invoices.books(TENANT, part("c2")).versions["c2"]})
    assert keeper.round() == ["c2"]
    spent = Spent(customer="c3", version=0, invoice="i", number="1", currency="USD", at_us=1)
    with world.billing.invoices.transaction(TENANT) as transaction:
        transaction.books.spend([spent])
    assert keeper.round() == ["c3"]
    assert keeper.round() == []


def part(customer: str) -> Part:
    return Part(customers=[customer], subscriptions=())


def test_what_was_billed_elsewhere_ends_a_draft(world: World) -> None:
    due_drafts(world)
    keeper = Keeper(world)
    keeper.round()
    world.apply((CATALOG + MANY).replace("grace_days = 3", "grace_days = 0"))
    world.bill("2026-05")
    assert len(open_drafts(world)) == 6
    assert keeper.round() == []
    assert open_drafts(world) == []
    assert counted(world) == EACH
    assert keeper.known == Known(cut=keeper.known.cut)
    keeper.round()
    assert keeper.known == Known()


def test_one_that_cannot_be_composed_says_so_and_holds_up_no_other(world: World) -> None:
    due_drafts(world)
    whole = world.billing
    keeper = Keeper(world)
    world.billing = msgspec.structs.replace(whole, bounds=Bounds(total_minor_max=499))
    keeper.known, done = keep_fresh(world.billing, keeper.known)
    assert done == 6
    (bad,) = [one for one in open_drafts(world) if one.parked is not None]
    assert (bad.customer, bad.head.total_minor) == ("c4", 500)
    assert bad.parked is not None
    assert bad.parked.code == "total-out-of-bounds"
    assert keeper.round() == []
    world.billing = whole
    world.event("2026-05-30", subject="s4")
    assert keeper.round() == ["c4"]
    assert [one.parked for one in open_drafts(world)] == [None] * 6


def test_drafts_that_are_moved_meanwhile_are_seen_in_the_next_round(world: World) -> None:
    due_drafts(world)
    keeper = Keeper(world)
    keeper.round()
    store, opened = world.billing.invoices, world.billing.invoices.transaction
    tries = 0

    def refusing(tenant: str) -> AbstractContextManager[InvoiceTransaction]:
        nonlocal tries
        tries += 1
        if tries in {1, 3}:  # all together, then the second of them alone
            raise Conflict("somebody was faster", code="books-moved")
        return opened(tenant)

    store.transaction = refusing  # type: ignore[method-assign]
    for n in range(3):
        world.event("2026-05-30", subject=f"s{n}")
    assert len(keeper.round()) == 2
    assert len(keeper.round()) == 1
    assert keeper.round() == []
    assert [totals(world)[f"c{n}"] for n in range(3)] == [200, 300, 400]


def test_many_drafts_are_refreshed_a_bounded_number_a_round(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    due_drafts(world)
    monkeypatch.setattr(refreshing, "DRAFTS_AT_ONCE", 4)
    monkeypatch.setattr(refreshing, "_PLACES_AT_ONCE", 3)
    keeper = Keeper(world)
    assert [len(keeper.round()) for _ in range(3)] == [4, 2, 0]
    for n in range(5):
        world.event("2026-05-30", subject=f"s{n}")
    assert [len(keeper.round()) for _ in range(3)] == [4, 1, 0]
    assert [totals(world)[f"c{n}"] for n in range(5)] == [200, 300, 400, 500, 600]


GUEST = '[[customers]]\nkey = "guest"\ncurrency = "USD"\nsubjects = []\n'


def adopted(world: SettledWorld) -> str:
    """Return the draft of a customer with one charge, who got a parent since."""
    world.apply(CATALOG + GUEST)
    day = at("2026-05-03")
    visit = Extra(id="x1", name="Visit", amount=Decimal(30), start_us=day, end_us=day)
    put_extras(world.settling, "guest", [visit])
    world.bill("2026-05")
    (draft,) = [one for one in open_drafts(world) if one.customer == "guest"]
    world.apply(CATALOG + GUEST + 'parent = "quick"\n')
    return draft.id


def test_the_draft_of_a_customer_who_gets_a_parent_ends_and_the_parent_pays(
    world: SettledWorld,
) -> None:
    name = adopted(world)
    keeper = Keeper(world)
    assert keeper.round() == ["acme"]
    assert keeper.round() == []
    assert world.billing.invoices.drafts.draft(TENANT, name).state == "empty"
    world.bill("2026-05")
    paid = world.invoices()[-1]
    assert (paid.customer_key, paid.total) == ("quick", "30.00")
    assert [line.customer for line in paid.lines] == ["guest"]


def test_a_parent_is_not_billed_by_the_draft_of_its_child(world: SettledWorld) -> None:
    name = adopted(world)
    with pytest.raises(Conflict, match="nothing left to bill"):
        finalize(world.billing, name)
    assert [one.total for one in world.invoices()] == ["1.00"]


@pytest.mark.parametrize("ending", [refresh, finalize_due])
def test_such_a_draft_ends_whoever_comes_to_it_first(
    world: SettledWorld, ending: Callable[[Billing, str], object]
) -> None:
    name = adopted(world)
    ending(world.billing, name)
    assert world.billing.invoices.drafts.draft(TENANT, name).state == "empty"
    assert [one.total for one in world.invoices()] == ["1.00"]
