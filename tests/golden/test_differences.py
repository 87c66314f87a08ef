"""Every worked case is replayed, or stands with its reason on the list of differences."""

from pathlib import Path

import pytest

from tests.golden import killbill_contracts as contracts_killbill
from tests.golden import test_events as events
from tests.golden import test_grants as grants
from tests.golden import test_killbill_changes, test_killbill_invoices
from tests.golden import test_meters as meters
from tests.golden import test_periods as periods
from tests.golden import test_prepaid as prepaid
from tests.golden import test_prices_killbill as killbill
from tests.golden import test_prices_lago as lago
from tests.golden import test_prices_openmeter as openmeter
from tests.golden import test_progressive as progressive
from tests.golden import test_recurring as recurring
from tests.golden import test_settlement as settlement
from tests.golden import test_subscriptions_lago as contracts_lago
from tests.golden import test_subscriptions_openmeter as contracts_openmeter
from tests.golden import test_totals_commitments as commitments
from tests.golden import test_totals_coupons as coupons
from tests.golden import test_totals_elsewhere as totals
from tests.golden.vectors import cases, require

PAGE = Path(__file__).resolve().parents[2] / "docs" / "algorithms" / "differences.md"
FILLING = (test_killbill_changes, test_killbill_invoices)
"""Whatever their tests replay stands in `contracts_killbill.REPLAYED`."""
BOUNDS = {case["id"] for case in cases("killbill", "invoice.safety_bounds")}
"""Replayed by tests/unit/invoice/run/test_bounds.py."""
REPLAYED = {
    "openmeter": (openmeter.REPLAYED - set(openmeter.DIFFERENT))
    | meters.REPLAYED
    | {case["id"] for case in periods.FEES}
    | totals.REPLAYED["openmeter"]
    | contracts_openmeter.REPLAYED
    | grants.REPLAYED
    | prepaid.REPLAYED["openmeter"]
    | events.REPLAYED["openmeter"],
    "lago": (lago.REPLAYED - set(lago.DIFFERENT))
    | recurring.REPLAYED
    | meters.REPLAYED
    | coupons.REPLAYED
    | commitments.REPLAYED
    | contracts_lago.REPLAYED
    | settlement.REPLAYED["lago"]
    | progressive.REPLAYED
    | prepaid.REPLAYED["lago"]
    | events.REPLAYED["lago"],
    "killbill": killbill.REPLAYED
    | meters.REPLAYED
    | totals.REPLAYED["killbill"]
    | contracts_killbill.REPLAYED
    | settlement.REPLAYED["killbill"]
    | BOUNDS,
}


@pytest.mark.parametrize("system", REPLAYED)
def test_every_case_is_replayed_or_listed(system: str) -> None:
    """Whatever its area: a case that is added has to be replayed, or to be given a reason."""
    require()
    page = PAGE.read_text(encoding="utf-8")
    known = {case["id"] for case in cases(system)}
    assert len(known) > 90
    missing = [name for name in sorted(known - REPLAYED[system]) if f"`{name}`" not in page]
    assert missing == []
    listed = [name for name in sorted(known & REPLAYED[system]) if f"`{name}`" in page]
    assert listed == [], "these are equal; the list is of differences"
