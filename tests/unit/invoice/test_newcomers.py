"""New subjects become customers once, whatever else is written meanwhile."""

import pytest

from tallybook.catalog.catalog import Archive
from tallybook.catalog.flow import put
from tallybook.invoice.due import BillRequest, check_request
from tallybook.invoice.newcomers import newcomers, register_newcomers
from tallybook.kernel.errors import Conflict, Invalid
from tests.support.billing_world import TENANT, World

CATALOG = """
[[plans]]
key = "web"
currency = "USD"
charges = [{ key = "fee", price = { type = "flat", amount = 1 } }]

[[customers]]
key = "taken"
currency = "USD"

[[customer_rules]]
key = "all"
event_type = "t"
plan = "web"
currency = "USD"
"""


@pytest.fixture
def world() -> World:
    made = World()
    made.apply(CATALOG)
    made.event("2026-05-02", subject="new")
    return made


def test_a_subject_whose_key_is_taken_is_parked(world: World) -> None:
    world.event("2026-05-03", subject="taken")
    parked = register_newcomers(world.billing.catalog, world.usage, TENANT, world.seq)
    assert [(one.customer, one.code) for one in parked] == [("taken", "conflict")]
    catalog = world.billing.catalog.load(TENANT)
    assert set(catalog.customers) == set(catalog.subscriptions) | {"taken"} == {"new", "taken"}


def test_of_two_newcomers_with_one_key_the_second_is_parked(world: World) -> None:
    other = CATALOG[CATALOG.index("[[customer_rules]]") :].replace('"all"', '"zed"')
    other = other.replace('event_type = "t"', 'event_type = "u"\ncustomer_key = "n{subject}"')
    world.apply(CATALOG + other)
    world.event("2026-05-04", subject="ew", kind="u")
    parked = register_newcomers(world.billing.catalog, world.usage, TENANT, world.seq)
    assert [(one.customer, one.code) for one in parked] == [("new", "conflict")]


def test_a_rule_out_of_use_makes_nobody(world: World) -> None:
    put(world.billing.catalog, TENANT, [Archive("rule", "all")])
    found = newcomers(world.billing.catalog.load(TENANT), world.usage, TENANT, world.seq)
    assert found == ([], [])


@pytest.mark.parametrize("refusals", [1, 2, 1000])
def test_a_catalog_that_changes_meanwhile_is_read_again_but_not_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    store = world.billing.catalog
    write, tries = store.write, []

    def moved(*told: object) -> int:
        tries.append(told)
        if len(tries) <= refusals:
            raise Conflict("the catalog was changed meanwhile")
        return write(*told)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "write", moved)
    if refusals == 1000:
        with pytest.raises(Conflict):
            register_newcomers(store, world.usage, TENANT, world.seq)
        assert len(tries) < refusals
    else:
        assert register_newcomers(store, world.usage, TENANT, world.seq) == []
        assert len(tries) == refusals + 1
        assert "new" in store.load(TENANT).customers


@pytest.mark.parametrize("both", [{}, {"period": "2026-05", "until_us": 1}])
def test_a_run_is_asked_for_in_one_way(both: dict[str, object]) -> None:
    with pytest.raises(Invalid, match="give either period"):
        check_request(BillRequest(**both), 5)  # type: ignore[arg-type]
