"""Every case of a price is replayed, or stands with its reason on the list of differences."""

from pathlib import Path

import pytest

from tests.golden import test_meters as meters
from tests.golden import test_periods as periods
from tests.golden import test_prices_killbill as killbill
from tests.golden import test_prices_lago as lago
from tests.golden import test_prices_openmeter as openmeter
from tests.golden import test_recurring as recurring
from tests.golden import test_settlement as settlement
from tests.golden import test_subscriptions_killbill as contracts_killbill
from tests.golden import test_subscriptions_lago as contracts_lago
from tests.golden import test_subscriptions_openmeter as contracts_openmeter
from tests.golden import test_totals as totals
from tests.golden.vectors import cases, require

PAGE = Path(__file__).resolve().parents[2] / "docs" / "algorithms" / "differences.md"
AREAS = {
    "openmeter": (
        *openmeter.AREAS, *meters.AREAS["openmeter"],
        "money-rounding", "money-allocation", "proration",
        *totals.AREAS["openmeter"], *contracts_openmeter.AREAS,
    ),
    "lago": (
        *(f"charge_model.{name}" for name in (
            "standard", "standard.pricing_unit", "graduated", "graduated_percentage", "volume",
            "package", "percentage", "percentage.min_max", "percentage.instant",
            "percentage.sequence", "dynamic", "dynamic.sequence", "dynamic.aggregation",
        )),
        "aggregation.rounding", "aggregation.sum.rounding",
        "spending_minimum", "spending_minimum.termination", "spending_minimum.filters",
        "filter.most_specific_wins",
        "pay_in_advance.count.standard", "pay_in_advance.sum.package",
        "fixed_charge.units_change",
        *recurring.AREAS, *meters.AREAS["lago"], *totals.AREAS["lago"],
        *contracts_lago.AREAS, *settlement.AREAS["lago"],
    ),
    "killbill": (
        "usage.consumable.ALL_TIERS", "usage.consumable.TOP_TIER", "usage.consumable.multi_unit",
        "usage.consumable.incremental", "usage.rounding", "usage.capacity",
        "usage.capacity.scenario", "usage.zero", "usage.scenario",
        *meters.AREAS["killbill"], *totals.AREAS["killbill"],
        *contracts_killbill.AREAS, *settlement.AREAS["killbill"],
    ),
}  # fmt: skip
REPLAYED = {
    "openmeter": (openmeter.REPLAYED - set(openmeter.DIFFERENT))
    | meters.REPLAYED
    | {case["id"] for case in periods.FEES}
    | totals.REPLAYED["openmeter"]
    | contracts_openmeter.REPLAYED,
    "lago": (lago.REPLAYED - set(lago.DIFFERENT))
    | recurring.REPLAYED
    | meters.REPLAYED
    | totals.REPLAYED["lago"]
    | contracts_lago.REPLAYED
    | settlement.REPLAYED["lago"],
    "killbill": killbill.REPLAYED
    | meters.REPLAYED
    | totals.REPLAYED["killbill"]
    | contracts_killbill.REPLAYED
    | settlement.REPLAYED["killbill"],
}


@pytest.mark.parametrize("system", AREAS)
def test_every_case_of_a_price_is_replayed_or_listed(system: str) -> None:
    require()
    page = PAGE.read_text(encoding="utf-8")
    replayed = REPLAYED[system]
    known = {case["id"] for case in cases(system, *AREAS[system])}
    assert len(known) > 15
    missing = [name for name in sorted(known - replayed) if f"`{name}`" not in page]
    assert missing == []
    listed = [name for name in sorted(known & replayed) if f"`{name}`" in page]
    assert listed == [], "these are equal; the list is of differences"
