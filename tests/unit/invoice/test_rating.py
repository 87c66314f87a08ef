"""An item is rated with what its charge needs, for the part of the period that counts."""

from decimal import Decimal

import msgspec

from tallybook.catalog.plan import Charge
from tallybook.catalog.price import parse_price
from tallybook.invoice.manifest import Item, Position
from tallybook.invoice.rating import NOTHING, Fact, price_of, rated_item
from tallybook.kernel.timestamps import DAY_US

MINIMUM = Charge(
    key="c",
    name="c",
    meter="m",
    price=parse_price({"type": "unit", "unit_amount": "1", "minimum_amount": "30"}),
)
FEE = Charge(key="c", name="c", price=parse_price({"type": "flat", "amount": "30"}))


def item(end_day: int, until_day: int) -> Item:
    """Return an item of a period of 30 days that starts on day 0."""
    return Item(
        position=Position("s", "c", 0), plan="p", plan_version=1, end_us=end_day * DAY_US,
        full_start_us=0, full_end_us=30 * DAY_US, until_us=until_day * DAY_US,
        meter=None, meter_version=None, adjustment=False,
    )  # fmt: skip


def amount(charge: Charge, end_day: int, until_day: int, used: int = 0) -> Decimal:
    fact = Fact(Decimal(used), used, used) if used else NOTHING
    return rated_item(item(end_day, until_day), charge, fact, "UTC").amount


def test_a_minimum_is_of_the_part_of_a_period_that_is_over() -> None:
    assert amount(MINIMUM, 30, 29, used=7) == 7
    assert amount(MINIMUM, 30, 30, used=7) == 30
    assert amount(MINIMUM, 10, 10, used=7) == 10
    assert amount(MINIMUM, 10, 10, used=11) == 11


def test_what_ended_before_it_began_costs_nothing() -> None:
    assert amount(MINIMUM, 0, 0) == 0
    assert amount(FEE, 0, 0) == 0
    assert amount(FEE, 10, 10) == 10


def test_a_price_of_events_without_events_costs_nothing() -> None:
    raw = {"type": "percentage", "rate": "1", "fixed_amount": "2"}
    charge = Charge(key="c", name="c", meter="m", price=parse_price(raw))
    assert amount(charge, 30, 30) == 0


def test_the_items_own_price_comes_before_the_plans() -> None:
    own = msgspec.structs.replace(item(30, 30), price=parse_price({"type": "flat", "amount": "6"}))
    assert rated_item(own, FEE, NOTHING, "UTC").amount == 6
    assert price_of(own, FEE) == own.price
    assert price_of(item(30, 30), FEE) == FEE.price


def test_units_are_those_of_the_plan_until_the_subscription_has_its_own() -> None:
    three = msgspec.structs.replace(FEE, quantity=Decimal(3))
    assert amount(three, 30, 30) == 90
    grown = msgspec.structs.replace(item(30, 30), quantities=((10 * DAY_US, Decimal(6)),))
    rated = rated_item(grown, three, NOTHING, "UTC")
    assert (rated.amount, rated.quantity) == (3 * 10 + 6 * 20, 6)


def test_a_minimum_says_of_which_part_it_is() -> None:
    rated = rated_item(item(10, 10), MINIMUM, Fact(Decimal(7), 7, 7), "UTC")
    assert rated.steps[-1].text == "minimum of 30 × 10 of 30 days = 10: 7 is 3 short of it"


def test_a_minimum_without_proration_is_whole_in_a_partial_period() -> None:
    whole = msgspec.structs.replace(MINIMUM, proration="none")
    assert amount(whole, 10, 10, used=7) == 30
