"""The field's worked cases of recurring usage: what is carried over, and prorated."""

from decimal import ROUND_CEILING, Decimal
from fractions import Fraction

import pytest

from tallybook.kernel.decimals import plain_builtins
from tallybook.kernel.period import parse_moment
from tallybook.kernel.timestamps import DAY_US, format_us
from tallybook.rate.charge import rate
from tallybook.rate.fee import rate_fee
from tallybook.rate.metered import Metered
from tallybook.rate.recurring import Held
from tests.golden.test_prices_lago import MARCH, UTC, cents, lago_price
from tests.golden.vectors import Case, cases, identity, require
from tests.support.recurring import Carried


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


SUM = {"type": "unit", "unit_amount": "1"}


def following(text: str) -> str:
    """Return the instant after the last one of a period that is written with its last second."""
    last = parse_moment(text, UTC, "to")
    return format_us((last // DAY_US + 1) * DAY_US)


def carried(given: Case, **own: object) -> Carried:
    """Return the charge and the period of a case; its days are of `full_period_days`."""
    period = given["period"]
    start = parse_moment(period["from"], UTC, "from")
    end = format_us(start + given.get("full_period_days", 31) * DAY_US)
    return Carried(start=period["from"], end=following(period["to"]), full_end=end, **own)  # type: ignore[arg-type]


def ceiling(value: Decimal, places: int = 5) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), ROUND_CEILING)


SETS = cases("lago", "aggregation.unique_count.prorated", "aggregation.unique_count")


@pytest.mark.parametrize("case", SETS, ids=identity)
def test_lago_sets(case: Case) -> None:
    """A value counts on the days on which it is there at some time."""
    given = case["given"]
    prorated = "full_period_days" in given
    seats = carried(
        given,
        aggregation="UNIQUE_COUNT",
        proration="day" if prorated else "none",
        releases={"op": ("remove",)},
    )
    for event in given["events"]:
        seats.add(event["at"], event["id"], op=event.get("operation_type", "add"))
        if "toggle_off_after" in event:
            assert event["toggle_off_after"] == "1h"
            seats.add(event["at"].replace("T01", "T02"), event["id"], op="remove")
    found = seats.facts()[()].value
    assert ceiling(found) == Decimal(case["expect"]["aggregation"])


SUMS = cases("lago", "aggregation.sum.prorated")
ROUNDING = {"function": "ceil", "precision": 2}


@pytest.mark.parametrize("case", SUMS, ids=identity)
@pytest.mark.parametrize("proration", ["day", "second"])
def test_lago_sums(case: Case, proration: str) -> None:
    """By day and by second are the same here: every event of the period is at midnight.

    Units are rounded after the average, and before a day is priced: only the first is theirs.
    """
    given = case["given"]
    price = SUM
    if "rounding" in given:
        assert given["rounding"] == ROUNDING
        conversion = {"operation": "multiply", "factor": "1", "rounding": "ceiling", "precision": 2}
        price = SUM | {"unit_conversion": conversion}  # type: ignore[dict-item]
    units = carried(given, proration=proration, price=price)
    for event in given["events"]:
        for _ in range(event.get("times", 1)):
            units.add(event["at"], event["value"])
    wanted = Decimal(case["expect"]["aggregation"])
    if "rounding" in given:
        if proration == "second":
            assert units.rated().amount == wanted
        assert sum(json_value(event.data) for event in units.events) == Decimal("29.434")
    else:
        assert ceiling(units.rated().amount) == wanted
        assert ceiling(units.facts()[()].value) == wanted
    if "events_count" in case["expect"]:
        assert len(units.events) == case["expect"]["events_count"]


def json_value(data: str) -> Decimal:
    return Decimal(data.removeprefix('{"v":').removesuffix("}"))


WEIGHTED = cases("lago", "aggregation.weighted_sum", "aggregation.weighted_sum.recurring")


@pytest.mark.parametrize("case", WEIGHTED, ids=identity)
def test_lago_weighted_sums(case: Case) -> None:
    """A sum that is carried over, by second: the average over the period."""
    given = case["given"]
    units = carried(given, proration="second")
    if "initial_value" in given:
        units.add("2020-01-01", given["initial_value"])
    for event in given["events"]:
        units.add(event["at"], event["value"])
    facts = units.facts()
    value = facts[()].value if () in facts else Decimal(0)
    assert round(value, 5) == Decimal(case["expect"]["aggregation_rounded_5"])


def test_lago_history_of_another_subscription() -> None:
    """AGG-21: what is carried over is the customer's, whichever subscription it came under."""
    (case,) = cases("lago", "aggregation.sum.upgrade")
    units = Carried(proration="none")
    for event in case["given"]["events"]:
        when = "2026-05-10" if event.get("in_period") else "2026-04-10"
        for _ in range(event.get("times", 1)):
            units.add(when, event["value"])
    assert units.rated().amount == Decimal(case["expect"]["aggregation"])


def test_lago_recurring_until_the_end_of_the_subscription() -> None:
    """SUB-21: their last day is one that counts, so the period ends when it is over.

    They round the units up to five places before the price; the cents are the same.
    """
    (case,) = cases("lago", "proration.recurring_charge.terminate")
    given = case["given"]
    units = Carried(
        price={"type": "unit", "unit_amount": given["charge"]["amount"]},
        start=given["subscription_at"], end=following(given["terminated_at"]),
        full_start="2022-12-01", full_end="2023-01-01",
    )  # fmt: skip
    units.add(given["event"]["at"], given["event"]["amount"])
    assert cents(units.rated().amount) == case["expect"]["charge_fee_cents"]


TIERS = cases("lago", "charge_model.graduated.prorated")


@pytest.mark.parametrize("case", TIERS, ids=identity)
def test_lago_tiers_of_what_is_carried_over(case: Case) -> None:
    """Each level is priced for the part of the period for which it was there.

    They give each change with the part that is left of the period; between two changes lies the
    difference of these parts, which in some cases is negative: the rule does not mind.
    """
    given = case["given"]
    full = given["full_units_per_event"]
    pairs = zip(given["prorated_units_per_event"], full, strict=True)
    left = [Fraction(str(prorated)) / units for prorated, units in pairs]
    parts = [a - b for a, b in zip(left, [*left[1:], Fraction(0)], strict=True)]
    whole = 1
    for part in parts:
        whole = whole * part.denominator
    held, level = [], Decimal(0)
    for units, part in zip(full, parts, strict=True):
        level += units
        held.append(Held(since="x", days=int(part * whole), quantity=level))
    price = lago_price(given["properties"])
    amount = rate(price, Metered(quantity=level, held=tuple(held), full_days=whole)).amount
    places = 2
    if case["expect"]["amount_rounding"].startswith("ceil"):
        assert ceiling(amount, places) == Decimal(case["expect"]["amount"])
    else:
        assert round(amount, places) == Decimal(case["expect"]["amount"])


def test_lago_tiers_from_month_to_month() -> None:
    """PGR-13: the amount of the month so far, as if no event came after it."""
    (case,) = cases("lago", "charge_model.graduated.prorated.sequence")
    given, expect = case["given"], case["expect"]
    tiers = lago_price(given["properties"])
    months = {
        month: Carried(price=plain_builtins(tiers), start=start, end=end)
        for month, start, end in [
            ("2023-09", "2023-09-01", "2023-10-01"),
            ("2023-10", "2023-10-01", "2023-11-01"),
        ]
    }
    for event in given["events"]:
        for month in months.values():
            month.add(event["at"], event["amount"])
    for row in expect["current_usage"]:
        month = months[row["at"][:7]]
        seen = sum(event["at"] <= row["at"] for event in given["events"])
        if seen:
            level = sum(e["amount"] for e in given["events"][:seen])
            assert Decimal(level) == Decimal(row["units"])
        assert cents(month.rated(cut=seen).amount) == row["amount_cents"], row
    september = months["2023-09"].rated(cut=6)
    assert cents(september.amount) == expect["invoice_2023_10_01_total_cents"]


def test_lago_in_advance() -> None:
    """AGG-18: in advance, what is above the largest number so far."""
    (case,) = cases("lago", "aggregation.sum.pay_in_advance")
    given = case["given"]
    now, most = given["previous_current_aggregation"], given["previous_max_aggregation"]
    units = [
        (MARCH.start_us + day, Decimal(count))
        for day, count in enumerate([most, now, now + given["event"]])
    ]
    one = [rate_fee(Decimal(1), "none", MARCH, MARCH, UTC, units[:n], "advance") for n in (2, 3)]
    assert one[1].amount - one[0].amount == Decimal(case["expect"]["billable_units"])


def test_lago_prorated_event() -> None:
    """PSU-09: what one event adds."""
    known = cases("lago", "aggregation.sum.prorated.pay_in_advance")
    case = next(case for case in known if case["id"] == "PSU-09")
    units = Carried(start="2023-05-01", end="2023-06-01")
    units.add(case["given"]["event"]["at"], case["given"]["event"]["value"])
    assert ceiling(units.rated().amount) == Decimal(case["expect"]["billable_units"])


AREAS = (
    "aggregation.unique_count",
    "aggregation.unique_count.prorated",
    "aggregation.sum.prorated",
    "aggregation.sum.prorated.pay_in_advance",
    "aggregation.sum.pay_in_advance",
    "aggregation.sum.upgrade",
    "aggregation.weighted_sum",
    "aggregation.weighted_sum.recurring",
    "charge_model.graduated.prorated",
    "charge_model.graduated.prorated.sequence",
    "proration.recurring_charge.terminate",
)
REPLAYED = {c["id"] for part in (SETS, SUMS, WEIGHTED, TIERS) for c in part} | {
    "AGG-18", "AGG-21", "SUB-21", "PGR-13", "PSU-09",
}  # fmt: skip
