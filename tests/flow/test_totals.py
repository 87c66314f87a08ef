"""Stories of totals: a commitment, coupons, contained taxes and shares over several months."""

import pytest

from tallybook.catalog.document import parse_document
from tallybook.catalog.flow import apply
from tallybook.invoice.audit.verify import verify
from tallybook.invoice.document import Invoice
from tallybook.settle.receivable.flow import redeem, void_invoice
from tests.support.billing_world import TENANT, acme
from tests.support.settled_world import SettledWorld

CATALOG = """
[[taxes]]
key = "vat"
rate = "25"
inclusive = true

[[meters]]
key = "calls"
event_type = "t"
aggregation = "COUNT"

[[coupons]]
key = "half"
percent = "50"
duration = "forever"

[[coupons]]
key = "ten"
amount = "10"
currency = "USD"
meters = ["calls"]

[[plans]]
key = "web"
currency = "USD"
taxes = ["vat"]
minimum = { amount = "100", name = "Committed", charges = ["calls"] }
[[plans.charges]]
key = "calls"
meter = "calls"
price = { type = "unit", unit_amount = "10" }
shares = [{ party = "provider", percent = "40" }]
[[plans.charges]]
key = "fee"
timing = "advance"
price = { type = "flat", amount = "31" }
""" + acme()


@pytest.fixture
def world(any_world: SettledWorld) -> SettledWorld:
    any_world.apply(CATALOG)
    return any_world


def lines(invoice: Invoice) -> list[tuple[str, bool, str, str]]:
    return [(one.charge, one.adjustment, one.amount, one.discount) for one in invoice.lines]


def newest(world: SettledWorld) -> Invoice:
    found = world.invoices()[-1]
    assert verify(world.billing, found.number).ok
    return found


def test_a_commitment_shrinks_with_late_usage(world: SettledWorld) -> None:
    world.event("2026-05-10")
    world.event("2026-05-11")
    world.bill("2026-05")
    first = newest(world)
    assert lines(first) == [
        ("calls", False, "20.00", "0.00"),
        ("fee", False, "31.00", "0.00"),
        ("@minimum", False, "80.00", "0.00"),
        ("fee", False, "31.00", "0.00"),
    ]
    (tax,) = first.taxes
    assert (first.total, tax.amount, tax.base) == ("162.00", "32.40", "129.60")
    assert [(share.party, share.amount) for share in first.shares] == [("provider", "6.40")]
    for day in range(1, 4):
        world.event(f"2026-05-2{day}")
    world.bill("2026-06")
    second = newest(world)
    assert lines(second) == [
        ("calls", True, "30.00", "0.00"),
        ("@minimum", True, "-30.00", "0.00"),
        ("@minimum", False, "100.00", "0.00"),
        ("fee", False, "31.00", "0.00"),
    ]
    assert world.balances()["share:provider"] == -(640 + 960)
    assert sum(world.balances().values()) == 0


def test_a_fee_paid_at_half_price_gives_half_back(world: SettledWorld) -> None:
    redeem(world.settling, "half", "acme")
    world.bill("2026-05")
    first = newest(world)
    assert lines(first) == [
        ("fee", False, "31.00", "15.50"),
        ("@minimum", False, "100.00", "50.00"),
        ("fee", False, "31.00", "15.50"),
    ]
    ended = CATALOG.replace("start = 2026-05-01", "start = 2026-05-01\nend = 2026-05-11")
    apply(world.billing.catalog, TENANT, parse_document(ended))
    world.bill("2026-06")
    back = newest(world)
    assert lines(back) == [
        ("fee", True, "-21.00", "-10.50"),
        ("@minimum", True, "-67.74", "-33.87"),
        ("fee", False, "-31.00", "-15.50"),
    ]
    assert (back.taken_back, back.discounts, back.carried) == ("59.87", (), "59.87")
    assert list(world.credits().values()) == [5987]
    assert sum(world.balances().values()) == 0


def test_an_amount_lasts_until_it_is_used_up_and_comes_back_with_a_void(
    world: SettledWorld,
) -> None:
    redeem(world.settling, "half", "acme")
    redeem(world.settling, "ten", "acme")
    world.event("2026-05-10")
    world.bill("2026-05")
    first = newest(world)
    assert [(used.coupon, used.amount) for used in first.discounts] == [
        ("ten", "10.00"),
        ("half", "76.00"),
    ]
    assert lines(first)[0] == ("calls", False, "10.00", "10.00")
    void_invoice(world.settling, first.number)
    world.bill("2026-05")
    again = newest(world)
    assert again.discounts == first.discounts
    world.event("2026-06-10")
    world.bill("2026-06")
    assert [used.coupon for used in newest(world).discounts] == ["half"]
    assert sum(world.balances().values()) == 0
