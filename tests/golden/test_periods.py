"""The field's worked cases for periods and proration."""

from decimal import Decimal
from fractions import Fraction

import pytest

from tallybook.catalog.subscription import StoredPeriod, SubscriptionSpec, check_subscription
from tallybook.catalog.subscription import open_periods as opened
from tallybook.kernel.money import from_minor, to_minor
from tallybook.kernel.period import Period, days_between, parse_moment, zone
from tallybook.kernel.timestamps import format_us
from tallybook.rate.fee import rate_fee
from tests.golden.vectors import Case, cases, require

UTC = zone("UTC")


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


def identity(case: Case) -> str:
    return str(case["id"])


def at(text: str) -> int:
    return parse_moment(text, UTC, "at")


def periods(given: Case) -> list[StoredPeriod]:
    """Return the monthly periods of a subscription that start at or before the target."""
    spec = SubscriptionSpec(
        key="s",
        customer="c",
        plan="p",
        start=given["start"],
        end=given["end"],
        anchor_day=given["bcd"],
    )
    subscription = check_subscription(spec, "UTC")
    return list(opened(subscription, (), at(given["target"]), "UTC", 1))


CYCLES = [
    case
    for case in cases("killbill", "proration.factor.in_advance")
    if case["given"]["billing_period"] == "MONTHLY"
]


@pytest.mark.parametrize("case", CYCLES, ids=identity)
def test_killbill_cycles_in_advance(case: Case) -> None:
    total = Fraction(0)
    for period in periods(case["given"]):
        part = days_between(period.start_us, period.end_us, UTC)
        total += Fraction(part, days_between(period.full_start_us, period.full_end_us, UTC))
    wanted = sum(Fraction(term.strip()) for term in case["expect"]["cycles"].split("+"))
    assert total == wanted


SERVICE = cases("killbill", "periods.in_advance", "periods.in_arrear")


@pytest.mark.parametrize("case", SERVICE, ids=identity)
def test_killbill_service_periods(case: Case) -> None:
    given = case["given"]
    found = periods(given)
    if given["billing_mode"] == "IN_ARREAR":
        found = [period for period in found if period.end_us <= at(given["target"])]
    dates = [[format_us(p.start_us)[:10], format_us(p.end_us)[:10]] for p in found]
    assert dates == case["expect"]["service_periods"]


FEES = [c for c in cases("openmeter", "proration") if c["id"] != "om-proration-005"]
"""-005 has an empty full period, which cannot be made here: a period is never empty."""


@pytest.mark.parametrize("case", FEES, ids=identity)
@pytest.mark.parametrize("proration", ["day", "second"])
def test_openmeter_proration(case: Case, proration: str) -> None:
    given = case["given"]
    part, whole = (Period(*map(at, given[name])) for name in ("service_period", "full_period"))
    mode = proration if given["proration_enabled"] else "none"
    rated = rate_fee(Decimal(given["amount"]), mode, part, whole, UTC)  # type: ignore[arg-type]
    rounded = from_minor(to_minor(rated.amount, given["currency"]), given["currency"])
    assert rounded == Decimal(case["expect"]["amount"])


def test_most_cases_are_replayed() -> None:
    assert (len(CYCLES) >= 10, len(SERVICE) >= 4, len(FEES) >= 3) == (True, True, True)
