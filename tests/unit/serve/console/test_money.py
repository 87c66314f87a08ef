"""What recurs a month, and the chart of a balance."""

from decimal import Decimal

import msgspec
import pytest

from tallybook.kernel.timestamps import DAY_US
from tallybook.serve.console.books.money import months, recurring
from tallybook.serve.console.charts import Point, stairs
from tests.support.billing_world import TENANT, World, at

CATALOG = """
[[meters]]
key = "m"
event_type = "t"
aggregation = "COUNT"
[[plans]]
key = "team"
currency = "EUR"
[[plans.charges]]
key = "seat"
price = { type = "flat", amount = 12 }
[[plans.charges]]
key = "year"
interval = "P1Y"
price = { type = "flat", amount = 120 }
[[plans.charges]]
key = "start"
once = true
price = { type = "flat", amount = 500 }
[[plans.charges]]
key = "use"
meter = "m"
price = { type = "unit", unit_amount = 5 }
[[plans.phases]]
key = "trial"
length = "P1M"
charges = ["use"]
[[customers]]
key = "acme"
currency = "EUR"
[[subscriptions]]
key = "acme"
customer = "acme"
plan = "team"
start = 2026-01-01
end = 2026-06-01
quantities = { seat = "3" }
prices = { seat = { type = "flat", amount = "10" } }
"""


@pytest.mark.parametrize(
    ("day", "minor"),
    [("2025-12-31", None), ("2026-01-15", 0), ("2026-02-15", 4000), ("2026-06-01", None)],
)
def test_fixed_fees_of_what_is_active_count_as_one_months(day: str, minor: int | None) -> None:
    world = World()
    world.apply(CATALOG)
    found = recurring(world.billing.catalog.load(TENANT), at(day))
    assert found.get("EUR") == minor


def test_archived_subscriptions_do_not_recur() -> None:
    world = World()
    world.apply(CATALOG)
    catalog = world.billing.catalog.load(TENANT)
    gone = msgspec.structs.replace(catalog, archived=frozenset({("subscription", "acme")}))
    assert recurring(gone, at("2026-03-01")) == {}


def test_periods_in_months() -> None:
    assert [months(text) for text in ("P1M", "P1Y")] == [Decimal(1), Decimal(12)]
    assert Decimal("0.2299") < months("P1W") < Decimal("0.2300")


def test_a_balance_is_drawn_as_stairs_twice() -> None:
    assert stairs([], "c") == stairs([Point(0, Decimal(1))], "c") == ""
    days = [Point(0, Decimal(50)), Point(10 * DAY_US, Decimal(-5)), Point(20 * DAY_US, Decimal(0))]
    drawn = str(stairs(days, "Balance <of> w"))
    assert drawn.count("<svg") == 2
    assert "Balance &lt;of&gt; w" in drawn
    assert "01-21" in drawn
    hours = str(stairs([Point(0, Decimal(1)), Point(DAY_US // 2, Decimal(2))], "c"))
    assert "12:00" in hours
