"""OpenMeter's worked cases of prices, discounts and unit conversion, through a small mapping."""

from decimal import Decimal

import pytest

from tallybook.catalog.price import Price, parse_price
from tallybook.kernel.errors import Invalid
from tallybook.kernel.money import allocate, from_minor, to_minor
from tallybook.rate.charge import rate
from tallybook.rate.metered import PricedEvent, metered_events
from tallybook.rate.proration import WHOLE
from tallybook.rate.tiers import packages
from tests.golden.vectors import Case, cases, identity, require


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


def tiers_of(raw: list[dict[str, str | None]]) -> list[dict[str, str]]:
    names = {"up_to": "up_to", "flat": "flat_amount", "unit": "unit_amount"}
    tiers = [{names[k]: v for k, v in tier.items() if v is not None} for tier in raw]
    return [tier | ({} if len(tier.keys() - {"up_to"}) else {"unit_amount": "0"}) for tier in tiers]


def own_fields(raw: Case) -> Case:
    match raw["type"]:
        case "tiered":
            return {"type": raw["mode"], "tiers": tiers_of(raw["tiers"])}
        case "package":
            size, amount = raw["quantity_per_package"], raw["amount"]
            return {"type": "package", "package_size": size, "amount": amount}
        case "flat":
            return {"type": "flat", "amount": raw["amount"]}
        case "dynamic":
            return {"type": "dynamic", "multiplier": raw["multiplier"]}
        case _:
            return {"type": "unit", "unit_amount": raw["unit_amount"]}


def openmeter_price(given: Case) -> Price:
    """Return the price of a case with everything that stands around it."""
    raw = given["price"]
    around = {
        "unit_conversion": given.get("unit_conversion"),
        "free_units": given.get("usage_discount"),
        "discount_percent": given.get("percentage_discount"),
        "maximum_amount": raw.get("maximum"),
        "minimum_amount": raw.get("minimum"),
    }
    stated = {name: value for name, value in around.items() if value is not None}
    return parse_price(own_fields(raw) | stated)


AREAS = (
    *(f"price-{name}" for name in ("unit", "flat", "graduated", "volume", "package", "dynamic")),
    "discount-usage",
    "unit-conversion",
    "rerating-delta",
    "rerating-late-usage",
    "llm-cost",
)
ALL = cases("openmeter", *AREAS)
LINES = [case for case in ALL if "line_position" in case["given"]]
FUNCTIONS = [case for case in ALL if "function" in case["given"]]
DIFFERENT = {"om-price-volume-001": "150"}
"""What we answer instead; each stands on docs/algorithms/differences.md."""


def minor(price: Price, quantity: Decimal, *, over: bool = True) -> int:
    """Return what a quantity costs, rounded; a minimum is due when the period is over."""
    return to_minor(rate(price, quantity, WHOLE if over else None).amount, "USD")


@pytest.mark.parametrize("case", LINES, ids=identity)
def test_openmeter_lines(case: Case) -> None:
    """A line is the cumulated amount after it less what was billed before it."""
    given = case["given"]
    price = openmeter_price(given)
    before, used = Decimal(given["usage_before_line"]), Decimal(given["usage_in_line"])
    amount = minor(price, before + used, over=given["line_position"] != "mid_split")
    if Decimal(given["already_billed_for_period"]):
        amount -= to_minor(Decimal(given["already_billed_for_period"]), "USD")
    elif given["line_position"] != "single" and before:
        amount -= minor(price, before, over=False)
    if given["line_position"] == "mid_split" and given["price"]["type"] == "flat":
        amount -= minor(price, before)  # it was billed in advance
    expected = DIFFERENT.get(case["id"], case["expect"]["total"])
    assert from_minor(amount, "USD") == Decimal(expected)


@pytest.mark.parametrize("case", FUNCTIONS, ids=identity)
def test_openmeter_functions(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    if given["function"] == "packages_needed":
        count = packages(Decimal(given["quantity"]), Decimal(given["quantity_per_package"]))
        assert count == Decimal(expect["packages"])
        return
    price = openmeter_price(given)
    if given["function"] == "cumulative_total":
        assert rate(price, Decimal(given["quantity"])).amount == Decimal(expect["total"])
    elif given["function"] == "tier_for_quantity":
        assert rate(price, Decimal(given["quantity"])).steps[0].tier == expect["tier"]
    else:
        total = rate(price, Decimal(given["to_quantity"])).amount
        assert total == Decimal(expect["cumulative_total_at_to"])


RERATING = [case for case in ALL if case["area"].startswith("rerating")]


@pytest.mark.parametrize("case", RERATING, ids=identity)
def test_openmeter_rerating(case: Case) -> None:
    """Rate the whole, round it, bill the difference; credits do not change what is billed."""
    given = case["given"]
    price = openmeter_price(given)
    rows = given.get("cumulative_usage_at_each_run")
    if rows is None:
        rows = [row[-1] for row in given["cumulative_usage_seen_by_each_run"]]
    billed, lines = 0, []
    for run, usage in enumerate(rows, 1):
        now = minor(price, Decimal(usage), over=run == given.get("final_run"))
        lines.append(from_minor(now - billed, given["currency"]))
        billed = now
    assert lines == [Decimal(text) for text in case["expect"]["billed_by_each_run"]]


CONVERSIONS = [c for c in ALL if {"raw_quantity", "validate_unit_conversion"} & set(c["given"])]


@pytest.mark.parametrize("case", CONVERSIONS, ids=identity)
def test_openmeter_unit_conversion(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    raw = given.get("unit_conversion") or given["validate_unit_conversion"]
    unit = {"type": "unit", "unit_amount": "1", "unit_conversion": raw}
    if "error" in expect:
        with pytest.raises(Invalid, match=r"factor must be above 0|precision must be 0 to"):
            parse_price(unit)
        return
    quantity = Decimal(given["raw_quantity"])
    assert rate(parse_price(unit), quantity).amount == Decimal(expect["billed_quantity"])
    if "converted" in expect:
        exact = parse_price(unit | {"unit_conversion": raw | {"rounding": "none"}})
        assert rate(exact, quantity).amount == Decimal(expect["converted"])


DISCOUNTS = [case for case in ALL if case["area"] == "discount-usage"]


@pytest.mark.parametrize("case", DISCOUNTS, ids=identity)
def test_openmeter_usage_discount(case: Case) -> None:
    """The first units of the period are free, however it is cut into lines."""
    given, expect = case["given"], case["expect"]
    if "error" in expect:
        with pytest.raises(Invalid, match="unknown field `free_units`"):
            openmeter_price(given)
        return
    one = {"type": "unit", "unit_amount": "1"}
    price = openmeter_price({"price": one} | given)
    if "price" not in given:
        before, used = Decimal(given["usage_before_line"]), Decimal(given["usage_in_line"])
        earlier = rate(price, before).amount
        assert earlier == Decimal(expect["billable_before_line"])
        assert rate(price, before + used).amount - earlier == Decimal(expect["billable_in_line"])
        return
    total = billed = Decimal(0)
    for used_text, line in zip(given["progressive_lines_usage"], expect["lines"], strict=True):
        total += Decimal(used_text)
        now = rate(price, total).amount
        assert now - billed == Decimal(line["amount"])
        billed = now


COSTS = [case for case in ALL if case["area"] == "llm-cost"]


@pytest.mark.parametrize("case", COSTS, ids=identity)
def test_openmeter_costs_by_model(case: Case) -> None:
    """A cost for each provider, model and kind of token is a matrix price."""
    given = case["given"]
    names = ["provider", "model", "token_type"]
    cells = [{"match": match, "unit_amount": cost} for match, cost in given["unit_costs"]]
    nobody = {"match": {"provider": "nobody"}, "unit_amount": "1"}
    price = parse_price({"type": "matrix", "dimensions": names, "cells": [*cells, nobody]})
    place = 0 if given["group_by"] == ["subject"] else 3
    groups: dict[str, list[PricedEvent]] = {}
    for row in given["usage"]:
        dimensions = dict(zip(names, row[1:4], strict=True))
        event = PricedEvent(quantity=Decimal(row[4]), dimensions=dimensions)
        groups.setdefault(row[place], []).append(event)
    for row in case["expect"]["rows"]:
        events = groups[row.get("token_type") or row.get("subject") or "alice"]
        if row["cost"] is None:
            with pytest.raises(Invalid, match="no cell of the matrix prices provider unknown"):
                rate(price, metered_events(price, events))
        else:
            assert rate(price, metered_events(price, events)).amount == Decimal(row["cost"])


ROUNDING = cases("openmeter", "money-rounding")


@pytest.mark.parametrize("case", ROUNDING, ids=identity)
def test_openmeter_rounding(case: Case) -> None:
    currency = case["given"]["currency"].replace("custom, 4 digits", "CLF")
    minor = to_minor(Decimal(case["given"]["amount"]), currency)
    assert from_minor(minor, currency) == Decimal(case["expect"]["rounded"])


TIES = "om-money-allocation-003"
ALLOCATIONS = [c for c in cases("openmeter", "money-allocation") if "error" not in c["expect"]]
"""An amount with more digits than its currency cannot be written: ours are in minor units."""


@pytest.mark.parametrize("case", ALLOCATIONS, ids=identity)
def test_openmeter_allocation(case: Case) -> None:
    """Their ties go to the smaller key, ours to the earlier weight: give them in key order."""
    given, expect = case["given"], case["expect"]
    currency = given["currency"].replace("custom, 4 digits", "CLF")
    weights = given.get("weights") or given.get("item_amounts") or given["weights_in_order"]
    pairs = sorted(dict(weights).items())
    whole = [int(Decimal(weight).scaleb(2)) for _, weight in pairs]
    parts = allocate(to_minor(Decimal(given["amount"]), currency), whole)
    shares = {key: from_minor(p, currency) for (key, _), p in zip(pairs, parts, strict=True)}
    wanted = expect.get("allocations") or expect["allocations_in_order"]
    if case["id"] == TIES:
        assert sum(shares.values()) == Decimal(given["amount"])
    else:
        assert shares == {key: Decimal(text) for key, text in dict(wanted).items()}


PARTS = (LINES, FUNCTIONS, RERATING, CONVERSIONS, DISCOUNTS, COSTS, ROUNDING, ALLOCATIONS)
REPLAYED = {case["id"] for part in PARTS for case in part} - {TIES}
