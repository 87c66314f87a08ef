"""Lago's worked cases of charge models, rounding and spending minimums, through a small mapping."""

from collections.abc import Iterable
from decimal import Decimal

import pytest

from tallybook.catalog.price import Price, parse_price
from tallybook.kernel.errors import Invalid
from tallybook.kernel.money import to_minor
from tallybook.kernel.period import Period, parse_moment, zone
from tallybook.kernel.timestamps import DAY_US
from tallybook.rate.charge import rate
from tallybook.rate.fee import rate_fee
from tallybook.rate.metered import PricedEvent, metered_events
from tallybook.rate.proration import WHOLE, Portion
from tests.golden.vectors import Case, cases, identity, require

UTC = zone("UTC")


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


RANGES = {
    "graduated_ranges": "graduated",
    "volume_ranges": "volume",
    "graduated_percentage_ranges": "graduated_percentage",
}
NAMES = {
    "rate": "rate",
    "fixed_amount": "fixed_amount",
    "free_units_per_events": "free_events",
    "free_units_per_total_aggregation": "free_amount",
    "per_transaction_min_amount": "event_min",
    "per_transaction_max_amount": "event_max",
}


def tier(row: Case) -> Case:
    unit = {"rate": row["rate"]} if "rate" in row else {"unit_amount": row["per_unit_amount"]}
    bound = {"up_to": str(row["to_value"])} if row["to_value"] is not None else {}
    return unit | bound | {"flat_amount": row["flat_amount"]}


def lago_price(properties: Case) -> Price:
    for name, kind in RANGES.items():
        if name in properties:
            return parse_price({"type": kind, "tiers": [tier(row) for row in properties[name]]})
    if "package_size" in properties:
        package = {"package_size": str(properties["package_size"]), "amount": properties["amount"]}
        free = str(properties["free_units"])
        return parse_price({"type": "package", "free_units": free} | package)
    if "rate" in properties:
        return percentage(properties)
    return parse_price({"type": "unit", "unit_amount": properties["amount"] or "0"})


def percentage(properties: Case) -> Price:
    """Numbers may be JSON numbers, absent or null."""
    own = {NAMES[name]: value for name, value in properties.items() if name in NAMES}
    stated = {name: value for name, value in own.items() if value is not None}
    whole = {"free_events": int(stated.pop("free_events"))} if "free_events" in stated else {}
    return parse_price({"type": "percentage"} | whole | {k: str(v) for k, v in stated.items()})


def cost(price: Price, values: Iterable[object]) -> Decimal:
    """Return what events of these amounts cost, in their order."""
    events = [PricedEvent(quantity=Decimal(str(value))) for value in values]
    return rate(price, metered_events(price, events)).amount


def cents(amount: Decimal) -> int:
    return to_minor(amount, "USD")


TOTALS = [
    case
    for case in cases(
        "lago",
        *(f"charge_model.{name}" for name in ("standard", "graduated", "volume", "package")),
        "charge_model.graduated_percentage",
    )
    if "pricing_group_keys" not in case["given"]["properties"]
]


@pytest.mark.parametrize("case", TOTALS, ids=identity)
def test_lago_totals(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    units, events = given.get("units"), given.get("events")
    if units is None:
        units = str(events["count"]) if isinstance(events, dict) else events[0]["amount"]
    amount = rate(lago_price(given["properties"]), Decimal(units)).amount
    wanted = expect.get("amount") or str(Decimal(expect["amount_cents"]).scaleb(-2))
    assert amount == Decimal(wanted)


def test_lago_grouped_prices() -> None:
    """STD-07: a price for each value of a property is a charge with `split_by`."""
    (case,) = (c for c in cases("lago", "charge_model.standard") if c["id"] == "STD-07")
    price = lago_price(case["given"]["properties"])
    events = [event["region"] for event in case["given"]["events"]]
    for group in case["expect"]["groups"]:
        amount = rate(price, Decimal(events.count(group["region"]))).amount
        assert cents(amount) == group["amount_cents"]


def test_lago_prices_in_a_custom_unit() -> None:
    """STD-09: 300 units at 1 credit, a credit is 0.50."""
    (case,) = cases("lago", "charge_model.standard.pricing_unit")
    given, expect = case["given"], case["expect"]
    unit = given["pricing_unit"]
    credit = {"name": unit["short_name"], "conversion_rate": unit["conversion_rate"]}
    raw = {"type": "unit", "unit_amount": given["properties"]["amount"], "pricing_unit": credit}
    rated = rate(parse_price(raw), Decimal(sum(event["credits"] for event in given["events"])))
    assert cents(rated.amount) == expect["amount_cents"]
    in_credits = sum(Decimal(step.amount) for step in rated.steps if step.unit == "CRD")
    assert cents(in_credits) == expect["pricing_unit_amount_cents"]


DIFFERENT = {"PCT-01": "0.75"}
"""What we answer instead; each stands on docs/algorithms/differences.md."""
PERCENTAGES = cases("lago", "charge_model.percentage")


def events_of(given: Case) -> list[Decimal]:
    """Return events with these running totals, and the rest in the last of them."""
    running = [Decimal(total) for total in given["running_total_of_free_window"]]
    while len(running) < given["events_count"]:
        running.append(Decimal(given["units"]) if len(running) + 1 == given["events_count"] else
                       running[-1] if running else Decimal(0))  # fmt: skip
    return [now - before for before, now in zip([Decimal(0), *running], running, strict=False)]


@pytest.mark.parametrize("case", PERCENTAGES, ids=identity)
def test_lago_percentages(case: Case) -> None:
    amount = cost(lago_price(case["given"]["properties"]), events_of(case["given"]))
    assert amount == Decimal(DIFFERENT.get(case["id"], case["expect"]["amount"]))


BOUNDS = cases("lago", "charge_model.percentage.min_max")


@pytest.mark.parametrize("case", BOUNDS, ids=identity)
def test_lago_bounds_of_an_event(case: Case) -> None:
    """Without their licence the bounds are left out."""
    given = case["given"]
    properties = {
        name: value
        for name, value in given["properties"].items()
        if given["min_max_enabled"] or not name.startswith("per_transaction")
    }
    assert cost(lago_price(properties), given["events"]) == Decimal(case["expect"]["amount"])


INSTANT = cases("lago", "charge_model.percentage.instant")


@pytest.mark.parametrize("case", INSTANT, ids=identity)
def test_lago_one_event(case: Case) -> None:
    amount = cost(percentage(case["given"]), [case["given"]["units"]])
    assert amount == Decimal(case["expect"]["amount"])


SEQUENCES = cases("lago", "charge_model.percentage.sequence")


@pytest.mark.parametrize("case", SEQUENCES, ids=identity)
def test_lago_event_after_event(case: Case) -> None:
    given = case["given"]
    price = lago_price(given["properties"])
    for count, after in enumerate(case["expect"]["after_each_event"], 1):
        amount = cents(cost(price, given["events"][:count]))
        assert amount == after.get("amount_cents", after["total_amount_cents"])


def test_lago_dynamic() -> None:
    """The meter sums the amounts that events carry."""
    (one,) = cases("lago", "charge_model.dynamic")
    from_cents = parse_price({"type": "dynamic", "multiplier": "0.01"})
    amount = rate(from_cents, Decimal(one["given"]["precise_total_amount_cents"])).amount
    assert amount == Decimal(one["expect"]["amount"])
    (sequence,) = cases("lago", "charge_model.dynamic.sequence")
    carried = [event["precise_total_amount_cents"] for event in sequence["given"]["events"]]
    for count, after in enumerate(sequence["expect"]["after_each_event"], 1):
        assert cents(cost(from_cents, carried[:count])) == after["total_amount_cents"]
    (many,) = cases("lago", "charge_model.dynamic.aggregation")
    inside = [event for event in many["given"]["events"] if event["in_period"]]
    carried = [e["precise_total_amount_cents"] for e in inside for _ in range(e["times"])]
    total = cost(parse_price({"type": "dynamic", "multiplier": "1"}), carried)
    assert total == Decimal(many["expect"]["precise_total_amount_cents"])


ROUNDING = cases("lago", "aggregation.rounding", "aggregation.sum.rounding")
FUNCTIONS = {"round": "half_up", "ceil": "ceiling", "floor": "floor"}


@pytest.mark.parametrize("case", ROUNDING, ids=identity)
def test_lago_rounding_of_units(case: Case) -> None:
    """A precision below zero is a division: to hundreds is by 100, and the price is for 100."""
    given, expect = case["given"], case["expect"]
    how = given.get("rounding", given)
    precision = how["precision"] or 0
    conversion = {
        "operation": "divide",
        "factor": str(10 ** max(-precision, 0)),
        "rounding": FUNCTIONS[how["function"]],
        "precision": max(precision, 0),
    }
    one = str(10 ** max(-precision, 0))
    price = parse_price({"type": "unit", "unit_amount": one, "unit_conversion": conversion})
    units = [given["units"]] if "units" in given else given["events"]
    assert cost(price, units) == Decimal(expect.get("units") or expect["aggregation"])
    if precision < 0:
        with pytest.raises(Invalid, match="precision must be 0 to 12"):
            parse_price(
                {"type": "unit", "unit_amount": "1"}
                | {"unit_conversion": conversion | {"precision": precision}}
            )


def with_minimum(price: Case, minimum_cents: int) -> Price:
    return parse_price(price | {"minimum_amount": str(Decimal(minimum_cents).scaleb(-2))})


def test_lago_spending_minimum() -> None:
    """SPM-01: 7.00 of at least 10.00 are used, 3.00 are trued up."""
    (case,) = cases("lago", "spending_minimum")
    given = case["given"]
    price = with_minimum({"type": "unit", "unit_amount": "0.01"}, given["min_amount_cents"])
    used = Decimal(given["used_amount_cents"])
    missing = rate(price, used).amount - rate(price, used, None).amount
    assert cents(missing) == case["expect"]["true_up_cents"]


SHARE = Portion(25, 28, "days")
"""1 to 25 February: the subscriptions of these cases end on the 25th."""


def test_lago_spending_minimum_of_a_partial_period() -> None:
    """SPM-04: 8.00 of at least 10.00 × 25/28; SPM-05: the minimum is of all filters together."""
    (case,) = cases("lago", "spending_minimum.termination")
    charge, expect = case["given"]["charge"], case["expect"]
    unit = {"type": "unit", "unit_amount": charge["amount"]}
    price = with_minimum(unit, charge["min_amount_cents"])
    used = Decimal(case["given"]["events"])
    amount = cents(rate(price, used, SHARE).amount)
    assert amount == expect["usage_fee"]["amount_cents"] + expect["true_up_fee"]["amount_cents"]
    (case,) = cases("lago", "spending_minimum.filters")
    charge, expect = case["given"]["charge"], case["expect"]
    cells = [
        {"match": {"region": one["region"]}, "unit_amount": one["amount"]}
        for one in charge["filters"]
    ]
    matrix = {"type": "matrix", "dimensions": ["region"], "cells": cells}
    price = with_minimum(
        matrix | {"default_unit_amount": charge["amount"]}, charge["min_amount_cents"]
    )
    events = [
        PricedEvent(quantity=Decimal(1), dimensions=event) for event in case["given"]["events"]
    ]
    used = metered_events(price, events)
    assert cents(rate(price, used, None).amount) == sum(expect["usage_fees_cents"])
    missing = cents(rate(price, used, SHARE).amount) - sum(expect["usage_fees_cents"])
    assert missing == expect["true_up_fee"]["amount_cents"]


def test_lago_most_specific_filter() -> None:
    """FLT-01: each event is priced by one filter: the one that names most."""
    (case,) = cases("lago", "filter.most_specific_wins")
    filters, known = case["given"]["filters"], case["given"]["metric_values"]
    names = ["steps", "size", "model"]
    cells = []
    for number, conditions in enumerate(filters.values(), 1):
        combinations: list[dict[str, str]] = [{}]
        for name, allowed in conditions.items():
            values = known[name] if allowed == "ALL" else allowed
            combinations = [one | {name: value} for one in combinations for value in values]
        cells += [{"match": one, "unit_amount": str(number)} for one in combinations]
    once = {tuple(sorted(cell["match"].items())): cell for cell in reversed(cells)}
    raw = {"type": "matrix", "dimensions": names, "cells": list(once.values())}
    price = parse_price(raw | {"default_unit_amount": "0"})

    def filter_of(**dimensions: str) -> str:
        event = PricedEvent(quantity=Decimal(1), dimensions=dimensions)
        return f"f{rate(price, metered_events(price, [event])).amount}"

    target = case["given"]["target"]
    matching = {name: value[0] for name, value in case["expect"]["matching"].items()}
    assert filter_of(**matching) == target
    assert filter_of(**matching, model="other") == target
    for ignored in case["expect"]["ignored"]:
        for steps in ignored["steps"]:
            model = {"model": ignored["model"][0]} if "model" in ignored else {}
            assert filter_of(steps=steps, size=ignored["size"][0], **model) != target


PAY_IN_ADVANCE = cases("lago", "pay_in_advance.count.standard", "pay_in_advance.sum.package")


@pytest.mark.parametrize("case", PAY_IN_ADVANCE, ids=identity)
def test_lago_marginal_cost(case: Case) -> None:
    """A fee an event is what it adds to the cumulated amount."""
    price = lago_price(case["given"]["properties"])
    total, before = Decimal(0), rate(price, Decimal(0)).amount
    for event, fee in zip(case["given"]["events"], case["expect"]["fees"], strict=True):
        total += event["amount"] if isinstance(event, dict) else 1
        now = rate(price, total, WHOLE).amount
        assert cents(now - before) == fee["amount_cents"]
        before = now


UNITS = cases("lago", "fixed_charge.units_change")
MARCH = Period(parse_moment("2024-03-01", UTC, "at"), parse_moment("2024-04-01", UTC, "at"))


@pytest.mark.parametrize("case", UNITS, ids=identity)
def test_lago_units_of_a_fee_in_advance(case: Case) -> None:
    """Without proration the largest number of units so far is what is paid for."""
    given = case["given"]
    fee, billed = given["fixed_charge"], 0
    units: list[tuple[int, Decimal]] = []
    assert given["subscription_at"] == "2024-03-01"
    for day, count in enumerate([fee["units"], *given["unit_changes"]]):
        units.append((MARCH.start_us + day * DAY_US, Decimal(count)))
        rated = rate_fee(Decimal(fee["amount"]), "none", MARCH, MARCH, UTC, units, "advance")
        wanted = case["expect"]["invoice_fees_cents"][day]
        assert cents(rated.amount) - billed == wanted
        billed += wanted


REPLAYED = {
    case["id"]
    for part in (TOTALS, PERCENTAGES, BOUNDS, INSTANT, SEQUENCES, ROUNDING, PAY_IN_ADVANCE, UNITS)
    for case in part
} | {"STD-07", "STD-09", "DYN-01", "DYN-03", "DYN-04", "SPM-01", "SPM-04", "SPM-05", "FLT-01"}
