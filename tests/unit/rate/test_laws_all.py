"""What holds for every type of price with anything around it."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from tallybook.catalog.price import (
    MatrixPrice,
    PercentagePrice,
    Price,
    UnitConversion,
    VolumePrice,
    parse_price,
    price_json,
)
from tallybook.kernel.decimals import EXACT, plain
from tallybook.kernel.money import to_minor
from tallybook.rate.charge import rate
from tallybook.rate.metered import PricedEvent, metered_events
from tallybook.rate.modifiers import convert
from tallybook.rate.proration import WHOLE, Portion
from tallybook.rate.step import added

AMOUNTS = st.decimals(min_value=0, max_value=10**6, places=4).map(plain)
PERCENTS = st.decimals(min_value=0, max_value=100, places=3).map(plain)
POSITIVE = st.decimals(min_value="0.001", max_value=10**4, places=3).map(plain)
SMALL = st.decimals(min_value=0, max_value=200, places=2).map(plain)
REGIONS = st.sampled_from(["eu", "us", None])


@st.composite
def tiers(draw: st.DrawFn, unit: str) -> list[dict[str, str]]:
    bounds = sorted(draw(st.sets(st.integers(1, 500), max_size=4)))
    made = [{unit: draw(AMOUNTS), "flat_amount": draw(AMOUNTS)} for _ in range(len(bounds) + 1)]
    return [
        row | ({"up_to": str(b)} if b else {}) for row, b in zip(made, [*bounds, 0], strict=True)
    ]


def dicts(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=optional)


CONVERSIONS = st.fixed_dictionaries(
    {"operation": st.sampled_from(["multiply", "divide"]), "factor": POSITIVE},
    optional={
        "rounding": st.sampled_from(["none", "ceiling", "floor", "half_up"]),
        "precision": st.integers(0, 4),
    },
)
AROUND = dicts(
    unit_conversion=CONVERSIONS,
    free_units=SMALL,
    discount_percent=PERCENTS,
    maximum_amount=AMOUNTS,
    minimum_amount=AMOUNTS,
    pricing_unit=st.fixed_dictionaries({"name": st.just("CRD"), "conversion_rate": POSITIVE}),
)
CELLS = st.lists(
    st.fixed_dictionaries(
        {"match": st.fixed_dictionaries({"region": REGIONS}), "unit_amount": AMOUNTS}
    ),
    min_size=1, max_size=3, unique_by=lambda cell: cell["match"]["region"],
)  # fmt: skip
OWN: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "unit": st.fixed_dictionaries({"unit_amount": AMOUNTS}),
    "graduated": st.fixed_dictionaries({"tiers": tiers("unit_amount")}),
    "volume": st.fixed_dictionaries({"tiers": tiers("unit_amount")}),
    "package": st.fixed_dictionaries({"package_size": POSITIVE, "amount": AMOUNTS}),
    "percentage": st.fixed_dictionaries(
        {"rate": PERCENTS},
        optional={
            "fixed_amount": SMALL, "free_events": st.integers(0, 4), "free_amount": SMALL,
            "event_min": SMALL, "event_max": SMALL,
        },
    ),
    "graduated_percentage": st.fixed_dictionaries({"tiers": tiers("rate")}),
    "matrix": st.fixed_dictionaries(
        {"dimensions": st.just(["region"]), "cells": CELLS, "default_unit_amount": AMOUNTS}
    ),
    "dynamic": st.fixed_dictionaries({"multiplier": AMOUNTS}),
}  # fmt: skip


def accepted(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a price without what contradicts itself."""
    for least, most in (("minimum_amount", "maximum_amount"), ("event_min", "event_max")):
        if least in raw and most in raw:
            raw[least], raw[most] = sorted((raw[least], raw[most]), key=Decimal)
    if raw["type"] == "percentage" and raw.keys() & {
        "fixed_amount", "free_events", "event_min", "event_max"
    }:  # fmt: skip
        raw.pop("free_units", None)
        raw.get("unit_conversion", {}).pop("rounding", None)
        if raw.get("unit_conversion", {}).get("operation") == "multiply":
            raw.pop("free_amount", None)  # mostly endless in the meter's own unit
    return raw


@st.composite
def prices(draw: st.DrawFn, *kinds: str) -> Price:
    """Return any price."""
    kind = draw(st.sampled_from(kinds or tuple(OWN)))
    return parse_price(accepted({"type": kind} | draw(OWN[kind]) | draw(AROUND)))


VALUES = st.decimals(min_value=-300, max_value=300, places=3)
EVENTS = st.lists(
    st.builds(
        lambda value, region: PricedEvent(quantity=value, dimensions={"region": region}),
        VALUES, REGIONS,
    ),
    max_size=8,
)  # fmt: skip
USED = st.lists(
    st.builds(
        lambda value, region: PricedEvent(quantity=abs(value), dimensions={"region": region}),
        VALUES, REGIONS,
    ),
    max_size=8,
)  # fmt: skip


def cost(price: Price, events: list[PricedEvent], minimum: Portion | None = WHOLE) -> Decimal:
    return rate(price, metered_events(price, events), minimum).amount


@given(prices(), EVENTS)
def test_nothing_is_negative_and_the_steps_add_up(price: Price, events: list[PricedEvent]) -> None:
    rated = rate(price, metered_events(price, events))
    assert rated.amount >= 0
    shown = added(Decimal(step.amount) for step in rated.steps if step.unit is None)
    assert abs(shown - rated.amount) < Decimal("1e-9")
    assert rated.steps


@given(prices(), USED, USED)
def test_more_usage_never_costs_less_but_by_volume(
    price: Price, events: list[PricedEvent], later: list[PricedEvent]
) -> None:
    assume(not isinstance(price, VolumePrice))
    assert cost(price, events) <= cost(price, [*events, *later])


@given(prices(), EVENTS, st.randoms(use_true_random=False))
def test_order_decides_nothing_but_which_events_are_free(
    price: Price, events: list[PricedEvent], shuffler: Any
) -> None:
    if isinstance(price, PercentagePrice) and price.of_events():
        assume(price.free_events is None and price.free_amount is None)
    shuffled = list(events)
    shuffler.shuffle(shuffled)
    assert cost(price, events) == cost(price, shuffled)


@given(prices(), st.lists(EVENTS, min_size=1, max_size=4))
def test_billing_in_parts_is_billing_once(price: Price, parts: list[list[PricedEvent]]) -> None:
    billed, seen = 0, []
    for number, part in enumerate(parts, 1):
        seen += part
        over = WHOLE if number == len(parts) else None
        billed += to_minor(cost(price, seen, over), "USD") - billed
    assert billed == to_minor(cost(price, [e for part in parts for e in part]), "USD")


@given(prices(), EVENTS)
def test_discount_then_maximum_then_minimum(price: Price, events: list[PricedEvent]) -> None:
    amount = cost(price, events)
    in_money = price.pricing_unit.conversion_rate if price.pricing_unit else Decimal(1)  # type: ignore[union-attr]
    most, least = price.maximum_amount, price.minimum_amount  # type: ignore[union-attr]
    if most is not None:
        assert amount <= EXACT.multiply(most, in_money)
    if least is not None:
        assert amount >= EXACT.multiply(least, in_money)
        assert cost(price, events, None) <= amount


@given(prices("percentage"), EVENTS)
def test_the_compiled_clamp_is_the_clamp(price: PercentagePrice, events: list[PricedEvent]) -> None:
    """Event by event, as docs/algorithms/percentages.md says it, in exact fractions."""
    assume(price.of_events())
    bare = PercentagePrice(
        rate=price.rate, fixed_amount=price.fixed_amount, free_events=price.free_events,
        free_amount=price.free_amount, event_min=price.event_min, event_max=price.event_max,
        unit_conversion=price.unit_conversion,
    )  # fmt: skip
    scale = Fraction(1)
    if bare.unit_conversion is not None:
        factor = Fraction(bare.unit_conversion.factor)
        scale = factor if bare.unit_conversion.operation == "multiply" else 1 / factor
    total, due = Fraction(0), Fraction(0)
    allowance = bare.free_events is not None or bare.free_amount is not None
    for number, event in enumerate(events, 1):
        value = Fraction(event.quantity) * scale
        before, total = total, total + value
        part, free = value, False
        if allowance and (bare.free_events is None or number <= bare.free_events):
            limit = None if bare.free_amount is None else Fraction(bare.free_amount)
            above = Fraction(0) if limit is None else max(total - limit, Fraction(0))
            earlier = Fraction(0) if limit is None else max(before - limit, Fraction(0))
            part, free = above - earlier, above == 0
        charge = part * Fraction(bare.rate) / 100
        if not free:
            charge += Fraction(bare.fixed_amount or 0)
            charge = max(charge, Fraction(bare.event_min)) if bare.event_min is not None else charge
            charge = min(charge, Fraction(bare.event_max)) if bare.event_max is not None else charge
        due += charge
    difference = Fraction(cost(bare, events)) - max(due, Fraction(0))
    assert abs(difference) < Fraction(1, 10**40)


@given(PERCENTS, SMALL, EVENTS)
def test_an_allowance_of_events_that_never_ends_changes_nothing(
    percent: str, free: str, events: list[PricedEvent]
) -> None:
    total = parse_price({"type": "percentage", "rate": percent, "free_amount": free})
    assume(Decimal(free))
    single = parse_price(
        {"type": "percentage", "rate": percent, "free_amount": free, "free_events": 1000}
    )
    assert cost(total, events) == cost(single, events)


@given(AMOUNTS, AROUND, USED)
def test_a_matrix_that_knows_no_difference_is_a_unit_price_of_each_region(
    amount: str, around: dict[str, Any], events: list[PricedEvent]
) -> None:
    around.pop("unit_conversion", None)  # it rounds each combination
    cells = [{"match": {"region": "eu"}, "unit_amount": amount}]
    matrix = {"type": "matrix", "dimensions": ["region"], "cells": cells}
    one = parse_price(accepted({"type": "unit", "unit_amount": amount} | around))
    many = parse_price(accepted(matrix | {"default_unit_amount": amount} | around))
    assert isinstance(many, MatrixPrice)
    assert cost(one, events) == cost(many, events)


@given(CONVERSIONS, st.decimals(min_value=0, max_value=10**6, places=6))
def test_rounding_of_units_is_to_the_nearest_step(raw: dict[str, Any], quantity: Decimal) -> None:
    price = parse_price({"type": "unit", "unit_amount": "1", "unit_conversion": raw})
    conversion = price.unit_conversion  # type: ignore[union-attr]
    assert isinstance(conversion, UnitConversion)
    factor = Fraction(conversion.factor)
    exact = Fraction(quantity) * (factor if conversion.operation == "multiply" else 1 / factor)
    found = Fraction(convert(conversion, quantity))
    step = Fraction(1, 10**conversion.precision)
    match conversion.rounding:
        case "ceiling":
            assert exact <= found < exact + step
        case "floor":
            assert exact - step < found <= exact
        case "half_up":
            assert -step / 2 < exact - found < step / 2 or found - exact == step / 2
        case _:
            assert abs(exact - found) < Fraction(1, 10**60)


@given(prices())
def test_stored_and_read_again_is_the_same(price: Price) -> None:
    assert parse_price(price_json(price)) == price
