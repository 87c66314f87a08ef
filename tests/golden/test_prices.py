"""The field's worked cases for the five prices, through a small mapping."""

from decimal import Decimal
from pathlib import Path

import pytest

from tallybook.catalog.price import Price, parse_price
from tallybook.kernel.money import allocate, from_minor, to_minor
from tallybook.rate.charge import rate
from tallybook.rate.tiers import packages
from tests.golden.vectors import Case, cases, require

PAGE = Path(__file__).resolve().parents[2] / "docs" / "algorithms" / "differences.md"
LATER = {"minimum", "maximum", "usage_discount", "percentage_discount", "credits_on_run_1"}
"""Modifiers of a price that change the outcome; the five prices alone do not have them."""


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


def identity(case: Case) -> str:
    return str(case["id"])


def modified(case: Case) -> bool:
    given = case["given"]
    return bool(LATER & (set(given) | set(given.get("price", {}))))


def tiers_of(raw: list[dict[str, str | None]]) -> list[dict[str, str]]:
    names = {"up_to": "up_to", "flat": "flat_amount", "unit": "unit_amount"}
    tiers = [{names[k]: v for k, v in tier.items() if v is not None} for tier in raw]
    return [tier | ({} if len(tier.keys() - {"up_to"}) else {"unit_amount": "0"}) for tier in tiers]


def openmeter_price(raw: Case) -> Price:
    match raw["type"]:
        case "tiered":
            return parse_price({"type": raw["mode"], "tiers": tiers_of(raw["tiers"])})
        case "package":
            size, amount = raw["quantity_per_package"], raw["amount"]
            return parse_price({"type": "package", "package_size": size, "amount": amount})
        case "flat":
            return parse_price({"type": "flat", "amount": raw["amount"]})
        case _:
            return parse_price({"type": "unit", "unit_amount": raw["unit_amount"]})


PRICES = [f"price-{name}" for name in ("unit", "flat", "graduated", "volume", "package")]
OPENMETER = [case for case in cases("openmeter", *PRICES) if not modified(case)]
LINES = [case for case in OPENMETER if "usage_in_line" in case["given"]]
FUNCTIONS = [case for case in OPENMETER if "function" in case["given"]]
DIFFERENT = {"om-price-volume-001": "150"}
"""What we answer instead; each stands on docs/algorithms/differences.md."""


@pytest.mark.parametrize("case", LINES, ids=identity)
def test_openmeter_lines(case: Case) -> None:
    """A line is the cumulated amount after it less the cumulated amount before it."""
    given = case["given"]
    price = openmeter_price(given["price"])
    before, used = Decimal(given["usage_before_line"]), Decimal(given["usage_in_line"])
    amount = rate(price, before + used).amount
    if given["line_position"] != "single" and before:
        amount -= rate(price, before).amount
    if given["line_position"] == "mid_split" and given["price"]["type"] == "flat":
        amount -= rate(price, before).amount
    expected = DIFFERENT.get(case["id"], case["expect"]["total"])
    assert amount == Decimal(expected)


@pytest.mark.parametrize("case", FUNCTIONS, ids=identity)
def test_openmeter_functions(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    if given["function"] == "packages_needed":
        count = packages(Decimal(given["quantity"]), Decimal(given["quantity_per_package"]))
        assert count == Decimal(expect["packages"])
        return
    price = openmeter_price(given["price"])
    if given["function"] == "cumulative_total":
        assert rate(price, Decimal(given["quantity"])).amount == Decimal(expect["total"])
    elif given["function"] == "tier_for_quantity":
        assert rate(price, Decimal(given["quantity"])).steps[0].tier == expect["tier"]
    else:
        total = rate(price, Decimal(given["to_quantity"])).amount
        assert total == Decimal(expect["cumulative_total_at_to"])


RERATING = [
    case
    for case in cases("openmeter", "rerating-delta", "rerating-late-usage")
    if not modified(case) and case["given"]["price"]["type"] != "dynamic"
]


@pytest.mark.parametrize("case", RERATING, ids=identity)
def test_openmeter_rerating(case: Case) -> None:
    """Rate the whole, round it, bill the difference."""
    given = case["given"]
    price = openmeter_price(given["price"])
    rows = given.get("cumulative_usage_at_each_run")
    if rows is None:
        rows = [row[-1] for row in given["cumulative_usage_seen_by_each_run"]]
    billed, lines = 0, []
    for usage in rows:
        now = to_minor(rate(price, Decimal(usage)).amount, given["currency"])
        lines.append(from_minor(now - billed, given["currency"]))
        billed = now
    assert lines == [Decimal(text) for text in case["expect"]["billed_by_each_run"]]


@pytest.mark.parametrize("case", cases("openmeter", "money-rounding"), ids=identity)
def test_openmeter_rounding(case: Case) -> None:
    currency = case["given"]["currency"].replace("custom, 4 digits", "CLF")
    minor = to_minor(Decimal(case["given"]["amount"]), currency)
    assert from_minor(minor, currency) == Decimal(case["expect"]["rounded"])


ALLOCATIONS = [c for c in cases("openmeter", "money-allocation") if "error" not in c["expect"]]


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
    if case["id"] == "om-money-allocation-003":
        assert sum(shares.values()) == Decimal(given["amount"])
    else:
        assert shares == {key: Decimal(text) for key, text in dict(wanted).items()}


LAGO_RANGES = {"graduated_ranges": "graduated", "volume_ranges": "volume"}
LAGO = [
    case
    for case in cases(
        "lago",
        "charge_model.standard",
        "charge_model.graduated",
        "charge_model.volume",
        "charge_model.package",
    )
    if not case["given"]["properties"].get("free_units")
    and "pricing_group_keys" not in case["given"]["properties"]
    and isinstance(case["given"].get("events", {}), dict)
]


def lago_price(properties: Case) -> Price:
    for name, kind in LAGO_RANGES.items():
        if name in properties:
            tiers = [
                {"unit_amount": row["per_unit_amount"], "flat_amount": row["flat_amount"]}
                | ({"up_to": str(row["to_value"])} if row["to_value"] is not None else {})
                for row in properties[name]
            ]
            return parse_price({"type": kind, "tiers": tiers})
    if "package_size" in properties:
        size = str(properties["package_size"])
        return parse_price(
            {"type": "package", "package_size": size, "amount": properties["amount"]}
        )
    return parse_price({"type": "unit", "unit_amount": properties["amount"] or "0"})


@pytest.mark.parametrize("case", LAGO, ids=identity)
def test_lago_charge_models(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    units = given.get("units") or str(given["events"]["count"])
    amount = rate(lago_price(given["properties"]), Decimal(units)).amount
    wanted = expect.get("amount") or str(Decimal(expect["amount_cents"]).scaleb(-2))
    assert amount == Decimal(wanted)


def blocks_of_one(case: Case) -> bool:
    tiers = case["given"].get("tiers", [])
    rows = [row for tier in tiers for row in (tier.values() if "FOO" in tier else [tier])]
    return bool(rows) and all(row["block_size"] == 1 for row in rows)


KILLBILL = [
    case
    for case in cases(
        "killbill",
        "usage.consumable.ALL_TIERS",
        "usage.consumable.TOP_TIER",
        "usage.consumable.multi_unit",
        "usage.consumable.incremental",
    )
    if blocks_of_one(case)
]


def killbill_price(policy: str, rows: list[Case]) -> Price:
    """Their tiers have sizes, ours have bounds; past the last size the last tier goes on."""
    bound, tiers = 0, []
    for row in rows:
        bound += row["max_blocks"] if policy == "ALL_TIERS" else 0
        up_to = bound if policy == "ALL_TIERS" else row["max_blocks"]
        tiers.append({"unit_amount": row["price"], "up_to": str(up_to)})
    del tiers[-1]["up_to"]
    return parse_price({"type": "graduated" if policy == "ALL_TIERS" else "volume", "tiers": tiers})


@pytest.mark.parametrize("case", KILLBILL, ids=identity)
def test_killbill_tiers(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    units: dict[str, Decimal] = {}
    for _, unit, quantity in given.get("usage", []):
        units[unit] = units.get(unit, Decimal(0)) + quantity
    units |= {unit: Decimal(q) for unit, q in given.get("usage_now", {}).items()}
    if not units:
        price = killbill_price(given["policy"], given["tiers"])
        assert rate(price, Decimal(given["units"])).amount == Decimal(expect["total"])
        return
    total = Decimal(0)
    for unit, quantity in units.items():
        rows = [tier[unit] for tier in given["tiers"]]
        total += rate(killbill_price(given["policy"], rows), quantity).amount
    billed = Decimal(given.get("already_billed", {}).get("total", "0"))
    assert total - billed == Decimal(expect.get("total") or expect["delta_total"])


def test_a_rerun_never_bills_a_fraction() -> None:
    """kb-cons-fraction-of-cent: 55 × 0.067 = 3.685, rounded to 3.69, billed 3.69 before."""
    (case,) = cases("killbill", "usage.rounding")
    given = case["given"]
    unit = parse_price({"type": "unit", "unit_amount": given["price"]})
    now = to_minor(rate(unit, Decimal(given["units"])).amount, "USD")
    assert now - to_minor(Decimal(given["already_billed"]), "USD") == 0


def test_most_cases_are_replayed_and_differences_are_written_down() -> None:
    counts = [len(part) for part in (LINES, FUNCTIONS, RERATING, LAGO, KILLBILL)]
    assert counts >= [10, 10, 15, 14, 4], counts
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in DIFFERENT if f"`{name}`" not in page] == []
