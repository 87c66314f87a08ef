"""A parent pays for its children: one invoice, whose lines say whose they are."""

import pytest

from tallybook.catalog.catalog import Archive
from tallybook.invoice.audit.verify import explain, verify
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import preview
from tallybook.invoice.run.payers import payers
from tests.support.billing_world import TENANT, World

CATALOG = """
[seller]
name = "We"
taxes = ["vat"]

[[taxes]]
key = "vat"
rate = 19

[[taxes]]
key = "low"
rate = 7

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
[[plans.charges]]
key = "seat"
taxes = ["low"]
price = { type = "flat", amount = 10 }

[[customers]]
key = "group"
currency = "USD"
subjects = ["g"]
zone = "Europe/Berlin"

[[customers]]
key = "north"
currency = "USD"
subjects = ["n"]
parent = "group"

[[customers]]
key = "south"
currency = "USD"
subjects = ["s"]
parent = "group"
zone = "Asia/Tokyo"

[[customers]]
key = "alone"
currency = "USD"
subjects = ["a"]

[[subscriptions]]
key = "g"
customer = "group"
plan = "web"
start = 2026-05-01

[[subscriptions]]
key = "n"
customer = "north"
plan = "web"
start = 2026-05-01

[[subscriptions]]
key = "s"
customer = "south"
plan = "web"
start = 2026-05-01

[[subscriptions]]
key = "z"
customer = "alone"
plan = "web"
start = 2026-05-01
"""


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(CATALOG)
    for subject, count in {"g": 1, "n": 2, "s": 3, "a": 4}.items():
        for _ in range(count):
            world.event("2026-05-17", subject=subject)
    return world


def test_a_parent_gets_one_invoice_for_itself_and_its_children(world: World) -> None:
    run = world.bill("2026-05")
    assert (run.customers, run.invoices, run.parked) == (2, 2, ())
    alone, group = world.invoices()
    assert (alone.customer_key, group.customer_key) == ("alone", "group")
    assert [(line.customer, line.charge, line.amount) for line in group.lines] == [
        ("", "calls", "1.00"),
        ("", "seat", "10.00"),
        ("north", "calls", "2.00"),
        ("north", "seat", "10.00"),
        ("south", "calls", "3.00"),
        ("south", "seat", "10.00"),
    ]
    assert [member.key for member in group.manifest.members] == ["north", "south"]
    assert [(tax.tax, tax.base, tax.amount) for tax in group.taxes] == [
        ("low", "30.00", "2.10"),
        ("vat", "6.00", "1.14"),
    ]
    assert [tax.key for tax in group.manifest.taxes] == ["low", "vat"]
    assert verify(world.billing, group.number).ok
    assert explain(world.billing, group.number, "5").count == 3


def test_late_usage_of_a_child_is_an_adjustment_on_its_parents_next_invoice(world: World) -> None:
    world.bill("2026-05")
    world.event("2026-05-18", subject="n")
    run = world.bill("2026-06")
    (group,) = [one for one in world.invoices(run) if one.customer_key == "group"]
    late = [line for line in group.lines if line.adjustment]
    assert [(line.customer, line.amount) for line in late] == [("north", "1.00")]


def test_the_preview_of_a_child_is_that_of_its_payer(world: World) -> None:
    draft = preview(world.billing, BillRequest(period="2026-05"), "north")
    assert draft is not None
    assert draft.invoice.customer_key == "group"
    assert len(draft.lines) == 6


def test_charges_of_who_is_gone_or_not_asked_for_make_no_payer() -> None:
    world = World()
    world.apply(CATALOG)
    catalog = world.billing.catalog.load(TENANT)
    everybody = set(payers(catalog))
    assert set(payers(catalog, ["group"], {"alone"})) == {"group"}
    world.billing.catalog.write(TENANT, [Archive("subscription", "alone")])
    world.billing.catalog.write(TENANT, [Archive("customer", "alone")])
    later = world.billing.catalog.load(TENANT)
    assert set(payers(later, None, {"alone"})) == everybody - {"alone"}
