"""What holds for fees whose units change, and for what is carried over."""

import random
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tallybook.catalog.price import PercentagePrice, Price
from tallybook.kernel.period import Period, parse_moment, zone
from tallybook.kernel.timestamps import DAY_US, HOUR_US, format_us
from tallybook.rate.charge import rate
from tallybook.rate.fee import rate_fee
from tallybook.rate.metered import Metered, PricedEvent, metered_events
from tallybook.rate.recurring import Held
from tests.support.recurring import Carried
from tests.unit.rate.test_laws_all import REGIONS, prices

ZONE = "Europe/Berlin"
TZ = zone(ZONE)
MARCH = Period(*(parse_moment(text, TZ, "at") for text in ("2026-03-01", "2026-04-01")))
"""743 hours: the clock changes on the 29th."""

INSTANTS = st.integers(MARCH.start_us // HOUR_US - 100, MARCH.end_us // HOUR_US + 100).map(
    lambda hour: hour * HOUR_US
)
COUNTS = st.decimals(min_value=0, max_value=50, places=1)
UNITS = st.lists(st.tuples(INSTANTS, COUNTS), max_size=6, unique_by=lambda one: one[0]).map(sorted)
FEES = st.decimals(min_value=0, max_value=1000, places=2)
DAYS = st.integers(0, 31).map(lambda day: parse_moment(f"2026-03-{day + 1:02d}", TZ, "at")
                              if day < 31 else MARCH.end_us)  # fmt: skip


def fee(amount: Decimal, how: str, part: Period, units: list[tuple[int, Decimal]]) -> Decimal:
    return rate_fee(amount, how, part, MARCH, TZ, units).amount  # type: ignore[arg-type]


@given(FEES, st.sampled_from(["day", "second"]), UNITS, DAYS)
def test_a_fee_in_two_parts_is_the_whole(
    amount: Decimal, how: str, units: list[tuple[int, Decimal]], at: int
) -> None:
    assume(MARCH.start_us < at < MARCH.end_us)
    first, second = Period(MARCH.start_us, at), Period(at, MARCH.end_us)
    parts = fee(amount, how, first, units) + fee(amount, how, second, units)
    assert abs(parts - fee(amount, how, MARCH, units)) < Decimal("1e-20")


@given(FEES, st.sampled_from(["day", "second", "none"]), UNITS, COUNTS)
def test_more_units_never_cost_less(
    amount: Decimal, how: str, units: list[tuple[int, Decimal]], more: Decimal
) -> None:
    units = [(MARCH.start_us - DAY_US, Decimal(1)), *[u for u in units if u[0] > MARCH.start_us]]
    grown = [(at, count + more) for at, count in units]
    assert fee(amount, how, MARCH, units) <= fee(amount, how, MARCH, grown)


@given(FEES, UNITS)
def test_a_fee_by_day_is_the_sum_of_its_days(
    amount: Decimal, units: list[tuple[int, Decimal]]
) -> None:
    """The number of a day is that at its end; before the first there is one."""
    total = Fraction(0)
    for day in range(1, 32):
        end = parse_moment(f"2026-03-{day + 1:02d}", TZ, "at") if day < 31 else MARCH.end_us
        known = [count for at, count in units if at < end]
        total += Fraction(known[-1] if known else 1) * Fraction(amount) / 31
    found = fee(amount, "day", MARCH, units)
    assert abs(Fraction(found) - total) < Fraction(1, 10**40)


LEVELS = st.lists(st.tuples(st.decimals(min_value=0, max_value=700, places=2), REGIONS), max_size=4)


@given(prices(), LEVELS, st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_a_level_that_stays_costs_what_it_costs(
    price: Price, level: list[tuple[Decimal, str | None]], days: list[int]
) -> None:
    assume(not (isinstance(price, PercentagePrice) and price.of_events()))
    events = [PricedEvent(quantity=q, dimensions={"region": region}) for q, region in level]
    used = metered_events(price, events)
    held = tuple(Held(since="x", days=d, quantity=used.quantity, cells=used.cells) for d in days)
    daily = Metered(quantity=used.quantity, cells=used.cells, held=held, full_days=sum(days))
    assert abs(rate(price, daily).amount - rate(price, used).amount) < Decimal("1e-40")


EVENTS = st.lists(
    st.tuples(
        INSTANTS,
        st.integers(-3, 5),
        st.sampled_from(["add", "add", "remove"]),
    ),
    max_size=12,
)


def told(aggregation: str, proration: str, events: list[tuple[int, int, str]]) -> Carried:
    made = Carried(
        aggregation=aggregation, proration=proration, zone_name=ZONE,
        start="2026-03-01", end="2026-04-01",
        releases={"op": ("remove",)} if aggregation == "UNIQUE_COUNT" else {},
    )  # fmt: skip
    for at, value, op in events:
        made.add(format_us(at), value, op=op)
    return made


def level_at(aggregation: str, events: list[tuple[int, int, str]], before_us: int) -> int:
    """Return the level just before an instant, one event after the other."""
    known = [event for event in sorted(events, key=lambda e: e[0]) if event[0] < before_us]
    match aggregation:
        case "COUNT":
            return len(known)
        case "SUM":
            return sum(value for _, value, _ in known)
        case "LATEST":
            return known[-1][1] if known else 0
        case _:
            there = {value: op == "add" for _, value, op in known}
            return sum(there.values())


def present_in(events: list[tuple[int, int, str]], start: int, end: int) -> int:
    """Return how many different values are there at some time between two instants."""
    there = {v: op == "add" for at, v, op in sorted(events, key=lambda e: e[0]) if at < start}
    seen = {value for value, here in there.items() if here}
    return len(seen | {value for at, value, op in events if start <= at < end and op == "add"})


@pytest.mark.parametrize("aggregation", ["COUNT", "SUM", "LATEST", "UNIQUE_COUNT"])
@given(EVENTS, st.integers(1, 31))
def test_levels_day_by_day(aggregation: str, events: list[tuple[int, int, str]], days: int) -> None:
    total = Fraction(0)
    for day in range(1, days + 1):
        start, end = (parse_moment(f"2026-03-{d:02d}", TZ, "at") if d < 32 else MARCH.end_us
                      for d in (day, day + 1))  # fmt: skip
        unique = aggregation == "UNIQUE_COUNT"
        total += present_in(events, start, end) if unique else level_at(aggregation, events, end)
    made = told(aggregation, "day", events)
    facts = made.facts(until=format_us(end))
    found = facts[()].value if facts else Decimal(0)
    assert abs(Fraction(found) - total / 31) <= Fraction(1, 2 * 10**12)


@pytest.mark.parametrize("aggregation", ["COUNT", "SUM", "LATEST", "UNIQUE_COUNT"])
@given(EVENTS)
def test_levels_hour_by_hour(aggregation: str, events: list[tuple[int, int, str]]) -> None:
    hours = range(MARCH.start_us, MARCH.end_us, HOUR_US)
    borders = sorted({MARCH.start_us, MARCH.end_us, *(at for at, _, _ in events if at in hours)})
    total = Fraction(0)
    for start, end in pairwise(borders):
        total += level_at(aggregation, events, start + 1) * (end - start)
    facts = told(aggregation, "second", events).facts()
    found = facts[()].value if facts else Decimal(0)
    whole = MARCH.end_us - MARCH.start_us
    assert abs(Fraction(found) - total / whole) <= Fraction(1, 2 * 10**12)


@pytest.mark.parametrize("proration", ["day", "second", "none"])
@given(EVENTS, st.randoms(use_true_random=False))
def test_the_order_of_arrival_decides_nothing(
    proration: str, events: list[tuple[int, int, str]], shuffler: random.Random
) -> None:
    made = told("SUM", proration, events)
    shuffled = list(events)
    shuffler.shuffle(shuffled)
    assert {g: f.value for g, f in made.facts().items()} == {
        g: f.value for g, f in told("SUM", proration, shuffled).facts().items()
    }
