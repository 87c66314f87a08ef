"""Kill Bill's worked cases of consumable and capacity usage, through a small mapping."""

from decimal import Decimal

import pytest

from tallybook.catalog.price import Price, parse_price
from tallybook.kernel.money import to_minor
from tallybook.rate.charge import rate
from tests.golden.vectors import Case, cases, identity, require


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


ALL = cases(
    "killbill",
    "usage.consumable.ALL_TIERS",
    "usage.consumable.TOP_TIER",
    "usage.consumable.multi_unit",
    "usage.consumable.incremental",
)
CAPACITY = cases("killbill", "usage.capacity", "usage.capacity.scenario", "usage.zero")


def rows_of(tiers: list[Case], unit: str) -> list[Case]:
    return [tier.get(unit, tier) for tier in tiers]


def one_block_size(case: Case) -> bool:
    """Whether all tiers count in blocks of one size; ours have one conversion for all."""
    tiers = case["given"]["tiers"]
    rows = [row for tier in tiers for row in (tier.values() if "FOO" in tier else [tier])]
    return len({row["block_size"] for row in rows}) == 1


CONSUMABLE = [case for case in ALL if one_block_size(case)]


def consumable(policy: str, rows: list[Case]) -> Price:
    """Their tiers have sizes, ours have bounds; past the last size the last tier goes on."""
    bound, tiers = 0, []
    for row in rows:
        bound = row["max_blocks"] + (bound if policy == "ALL_TIERS" else 0)
        tiers.append({"unit_amount": row["price"], "up_to": str(bound)})
    del tiers[-1]["up_to"]
    block = str(rows[0]["block_size"])
    conversion = {"operation": "divide", "factor": block, "rounding": "ceiling"}
    kind = "graduated" if policy == "ALL_TIERS" else "volume"
    return parse_price({"type": kind, "tiers": tiers, "unit_conversion": conversion})


@pytest.mark.parametrize("case", CONSUMABLE, ids=identity)
def test_killbill_tiers(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    units = {unit: Decimal(quantity) for unit, quantity in given.get("usage_now", {}).items()}
    for _, unit, quantity in given.get("usage", []):
        units[unit] = units.get(unit, Decimal(0)) + quantity
    if "units" in given:
        units = {"": Decimal(given["units"])}
    total = sum(
        rate(consumable(given["policy"], rows_of(given["tiers"], unit)), quantity).amount
        for unit, quantity in units.items()
    )
    billed = Decimal(given.get("already_billed", {}).get("total", "0"))
    assert total - billed == Decimal(expect.get("total") or expect["delta_total"])


def test_a_rerun_never_bills_a_fraction() -> None:
    """kb-cons-fraction-of-cent: 55 × 0.067 = 3.685, rounded to 3.69, billed 3.69 before."""
    (case,) = cases("killbill", "usage.rounding")
    given = case["given"]
    unit = parse_price({"type": "unit", "unit_amount": given["price"]})
    now = to_minor(rate(unit, Decimal(given["units"])).amount, "USD")
    assert now - to_minor(Decimal(given["already_billed"]), "USD") == 0


NOTHING = {"up_to": "0.000000000001", "flat_amount": "0"}
"""Without usage nothing is due; our first tier's flat amount would be."""
SCENARIOS = [case for case in CAPACITY if "plan" in case["given"]]


@pytest.mark.parametrize("case", SCENARIOS, ids=identity)
def test_killbill_capacity_of_one_unit(case: Case) -> None:
    """A MAX meter and a volume price of flat amounts."""
    tiers = [NOTHING, {"up_to": "100", "flat_amount": "100"}, {"flat_amount": "1000"}]
    price = parse_price({"type": "volume", "tiers": tiers})
    amounts = []
    for month in ("2012-04", "2012-05", "2012-06"):
        used = [quantity for day, quantity in case["given"]["usage"] if day.startswith(month)]
        amounts.append(rate(price, Decimal(max(used, default=0))).amount)
    expected = [item[0]["amount"] if item else "0" for item in case["expect"]["invoices"]]
    assert amounts == [Decimal(amount) for amount in expected]


BLOCKS = [case for case in cases("killbill", "usage.scenario") if "usage" in case["given"]]


@pytest.mark.parametrize("case", BLOCKS, ids=identity)
def test_killbill_blocks_of_a_period(case: Case) -> None:
    """Blocks of 100 at 2.95: a package; the cancellation day is the last of its period."""
    price = parse_price({"type": "package", "package_size": "100", "amount": "2.95"})
    for (item,) in case["expect"]["invoices"]:
        last = "2012-05-17" if item["end"] == "2012-05-16" else item["end"]
        used = [q for day, q in case["given"]["usage"] if item["start"] <= day < last]
        assert rate(price, Decimal(sum(used))).amount == Decimal(item["amount"])


REPLAYED = {case["id"] for part in (CONSUMABLE, SCENARIOS, BLOCKS) for case in part} | {
    "kb-cons-fraction-of-cent"
}
