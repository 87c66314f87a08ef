"""Closed periods without new usage are not asked again; what a run bills is the same as if."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tallybook.adapters.memory.invoices import MemoryInvoices
from tallybook.catalog.customer import SubjectSpan
from tallybook.catalog.plan import Plan
from tallybook.invoice.ports import Books, Part
from tallybook.meter.usage import UsageQuery
from tests.support.billing_world import TENANT, World, at

CATALOG = """
[[meters]]
key = "calls"
event_type = "t"
aggregation = "COUNT"

[[meters]]
key = "held"
event_type = "level"
aggregation = "TIME_WEIGHTED"
value = "$.n"

[[meters]]
key = "seats"
event_type = "level"
aggregation = "SUM"
value = "$.n"

[[plans]]
key = "web"
currency = "USD"
[[plans.charges]]
key = "calls"
meter = "calls"
price = { type = "graduated", tiers = [ { up_to = 2, unit_amount = 3 }, { unit_amount = 1 } ] }
[[plans.charges]]
key = "held"
meter = "held"
price = { type = "unit", unit_amount = "0.01" }
[[plans.charges]]
key = "seats"
meter = "seats"
recurring = true
price = { type = "unit", unit_amount = 7 }
[plans.minimum]
amount = 40

[[customers]]
key = "a"
name = "A"
currency = "USD"
zone = "Europe/Berlin"
subjects = ["a1", "a2"]

[[subscriptions]]
key = "a"
customer = "a"
plan = "web"
start = "2026-01-10"

[[customers]]
key = "b"
name = "B"
currency = "USD"
subjects = ["b"]

[[subscriptions]]
key = "b"
customer = "b"
plan = "web"
start = "2026-02-01"
"""


class Forgetful(MemoryInvoices):
    """Does not remember what runs have looked at, so that everything is asked again."""

    def books(self, tenant: str, part: Part | None = None) -> Books:
        """Return where billing stands, and nothing of that."""
        return msgspec.structs.replace(super().books(tenant, part), seen={})


Told = tuple[str, int, str, int]

day = st.integers(1, 27)
events = st.tuples(
    st.sampled_from(["a1", "a2", "b", "new"]),
    st.integers(0, 5),
    st.sampled_from(["t", "level"]),
    day,
)
moves = st.sampled_from(["nothing", "nothing", "mapped", "zone", "prices", "ended"])
months = st.lists(st.tuples(st.lists(events, max_size=5), moves), min_size=2, max_size=5)


def play(world: World, story: list[tuple[list[Told], str]]) -> None:
    """Bill month after month; events are of that month or of one before."""
    world.apply(CATALOG)
    for at_month, (some, move) in enumerate(story, 2):
        for subject, back, kind, on in some:
            month = max(at_month - back, 1)
            world.event(f"2026-{month:02d}-{on:02d}", subject, '{"n": 2}', kind=kind)
        moved(world, move, at_month)
        world.clock.now = at(f"2026-{at_month + 1:02d}-02")
        world.bill(f"2026-{at_month:02d}")


def moved(world: World, move: str, month: int) -> None:
    """Change something that closed periods may depend on."""
    store = world.billing.catalog
    catalog = store.load(TENANT)
    customer = catalog.customers["a"]
    if move == "mapped":
        subjects = (*customer.subjects, SubjectSpan("new"))
        if len(subjects) == 3:
            store.write(TENANT, [msgspec.structs.replace(customer, subjects=subjects)])
    elif move == "zone":
        store.write(TENANT, [msgspec.structs.replace(customer, zone="Asia/Tokyo")])
    elif move == "prices":
        plan: Plan = catalog.plan("web")
        store.write(TENANT, [msgspec.structs.replace(plan, version=plan.version + 1)])
    elif move == "ended":
        ended = msgspec.structs.replace(catalog.subscriptions["b"], end_us=at("2026-03-17"))
        store.write(TENANT, [ended])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(months)
@example([([], "nothing"), ([], "nothing"), ([], "ended"), ([("b", 2, "t", 1)], "nothing")])
def test_nothing_that_is_late_is_missed(story: list[tuple[list[Told], str]]) -> None:
    one, all_of_it = World(), World(invoices=Forgetful())
    play(one, story)
    play(all_of_it, story)
    assert one.bodies() == all_of_it.bodies()


@contextmanager
def asked(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Collect the ends of the windows that are asked for."""
    ends: list[int] = []
    usage = world.usage.usage

    def watched(query: UsageQuery) -> object:
        ends.append(query.bounds[-1])
        return usage(query)

    with monkeypatch.context() as patch:
        patch.setattr(world.usage, "usage", watched)
        yield ends


def simple() -> World:
    """Return a world where one customer was billed for four months."""
    world = World()
    play(world, [([("b", 0, "t", 5)], "nothing") for _ in range(4)])
    world.clock.now = at("2026-07-02")
    return world


def test_what_is_asked_does_not_grow_with_history(monkeypatch: pytest.MonkeyPatch) -> None:
    world = simple()
    with asked(world, monkeypatch) as ends:
        world.bill("2026-06")
    assert min(ends) > at("2026-06-02"), "June alone"


def test_a_late_event_asks_its_period_and_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    world = simple()
    world.event("2026-04-05", "b")
    with asked(world, monkeypatch) as ends:
        run = world.bill("2026-06")
    assert min(ends) == at("2026-05-01")
    (invoice,) = [one for one in world.invoices(run) if one.customer_key == "b"]
    assert {line.period_start[:7] for line in invoice.lines if line.adjustment} == {"2026-04"}
