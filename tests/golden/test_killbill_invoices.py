"""Kill Bill's worked cases of factors, calendars, first invoices, phases, and fees beside usage."""

from collections.abc import Callable
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

from tallybook.catalog.subscription import (
    Alignment,
    SubscriptionSpec,
    check_subscription,
    whole_period,
)
from tallybook.catalog.subscription import open_periods as opened
from tallybook.kernel.errors import Invalid
from tallybook.kernel.period import Period, zone
from tallybook.rate.proration import portion
from tests.golden.killbill_contracts import (
    REPLAYED,
    anchored,
    flat,
    one,
    replays,
)
from tests.golden.vectors import Case, cases, identity, require
from tests.support.billing_world import at
from tests.support.subscription_story import Story, amounts, fee, spans


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


# ---------------------------------------------------------------- factors and calendars


ANNUAL = [
    case
    for case in cases("killbill", "proration.factor.in_advance")
    if case["given"]["billing_period"] == "ANNUAL"
]
REPLAYED.update(case["id"] for case in cases("killbill", "proration.factor.in_advance"))
REPLAYED.update(case["id"] for case in cases("killbill", "periods.in_advance", "periods.in_arrear"))


@pytest.mark.parametrize("case", ANNUAL, ids=identity)
def test_years_in_advance(case: Case) -> None:
    given = case["given"]
    spec = SubscriptionSpec(
        key="s",
        customer="c",
        plan="p",
        start=given["start"],
        end=given["end"],
        anchor=anchored(given["start"], given["bcd"]),
    )
    found = opened(check_subscription(spec, "UTC"), (), at(given["target"]), "UTC", 1, "P1Y")
    total = Decimal(0)
    for one_of in found:
        part = portion("day", Period(one_of.start_us, one_of.end_us),
                       Period(one_of.full_start_us, one_of.full_end_us), zone("UTC"))  # fmt: skip
        total += part.of_amount(Decimal(1))
    terms = [term.strip().split("/") for term in case["expect"]["cycles"].split("+")]
    wanted = sum(Decimal(term[0]) / Decimal(term[1] if term[1:] else 1) for term in terms)
    assert abs(total - wanted) < Decimal("1e-20")


SCALE = [c for c in cases("killbill", "proration.factor.scale") if "multi" not in c["id"]]
REPLAYED.update(case["id"] for case in SCALE)


@pytest.mark.parametrize("case", SCALE, ids=identity)
def test_factors(case: Case) -> None:
    given = case["given"]
    part = Period(at(given["prorated_from"]), at(given["prorated_to"]))
    whole = whole_period(Alignment(anchor_us=part.start_us), "P1M", part.start_us, "UTC")
    factor = portion("day", part, whole, zone("UTC")).of_amount(Decimal(1))
    wanted = Decimal(case["expect"]["factor"])
    assert factor.quantize(wanted, ROUND_HALF_UP) == wanted


@replays("kb-invalid-3")
def test_an_end_before_the_start_is_refused(name: str) -> None:
    given = one(name)["given"]
    spec = SubscriptionSpec(key="s", customer="c", plan="p", start=given["start"], end=given["end"])
    with pytest.raises(Invalid):
        check_subscription(spec, "UTC")


INTERVALS = {"MONTHLY": "P1M", "THIRTY_DAYS": "P30D", "WEEKLY": "P1W", "ANNUAL": "P1Y"}


@replays("kb-periods-1")
def test_whole_periods(name: str) -> None:
    case = one(name)
    start = at(case["given"]["start"])
    for (day, period), wanted in zip(
        case["given"]["cases"], case["expect"]["whole_periods"], strict=True
    ):
        interval, found, end = INTERVALS[period], 0, start
        while end <= at(day):
            found += 1
            end = whole_period(Alignment(anchor_us=start), interval, end, "UTC").end_us
        assert found - 1 == wanted, (day, period)


# ---------------------------------------------------------------- invoices


@replays("kb-gen-lead")
def test_a_partial_first_period(name: str) -> None:
    case = one(name)
    given, expect = case["given"], case["expect"]
    story = Story()
    story.plan("p", fee("p", given["rate"]))
    story.start("p", given["start"], anchor_day=given["bcd"])
    found = story.lines(given["target"])
    assert [list(span[:2]) for span in found] == expect["service_periods"]
    assert amounts(found) == Decimal(expect["total"])


@replays("kb-gen-phase-immediate")
def test_a_change_with_another_billing_day(name: str) -> None:
    case = one(name)
    first, second = case["given"]["events"]
    story = Story()
    for event in (first, second):
        story.plan(f"p{event['bcd']}", fee("p", event["rate"]))
    story.start(f"p{first['bcd']}", first["date"], anchor_day=first["bcd"])
    story.change(second["date"], f"p{second['bcd']}")
    story.anchor(second["date"], anchored(second["date"], second["bcd"]))
    found = story.lines(case["given"]["target"])
    assert len(found) == case["expect"]["items"]
    assert amounts(found) == Decimal(case["expect"]["total"])


@replays("kb-gen-idempotent")
def test_a_second_run_makes_no_invoice(name: str) -> None:
    given = one(name)["given"]
    story = Story()
    (event,) = given["events"]
    story.plan("p", fee("p", event["rate"]))
    story.start("p", event["date"], anchor_day=event["bcd"])
    assert story.run(given["first_target"]) is not None
    assert story.run(given["second_target"]) is None


@replays("kb-gen-mixed")
def test_a_fee_once_beside_one_each_month(name: str) -> None:
    case = one(name)
    given = case["given"]
    story = Story()
    story.plan("p", fee("setup", given["fixed"], once=True), fee("monthly", given["rate"]))
    story.start("p", given["start"], anchor_day=given["bcd"])
    found = [len(story.lines(target)) for target in given["targets"]]
    assert found == case["expect"]["items_per_invoice"]


@replays("kb-gen-trial-discount")
def test_phases(name: str) -> None:
    case = one(name)
    given = case["given"]
    trial, discount, evergreen = given["phases"]
    days = date.fromisoformat(discount["from_"]) - date.fromisoformat(trial["from_"])
    story = Story()
    phases = [
        {"key": "trial", "length": f"P{days.days}D", "charges": []},
        {"key": "discount", "length": "P6M", "prices": flat(discount["rate"])},
    ]
    story.plan("p", fee("p", evergreen["rate"]), phases=phases)
    story.start("p", trial["from_"], anchor_day=given["bcd"])
    wanted = case["expect"]["invoices"]
    for target, invoice in zip(given["targets"], wanted, strict=True):
        found = story.lines(target)
        if "total" in invoice:
            assert amounts(found) == Decimal(invoice["total"])
        if target != given["targets"][0]:
            assert len(found) == invoice["items"]
            assert found[0][0] == invoice.get("first_item_start", found[0][0])


@replays("kb-gen-chaos")
def test_five_subscriptions_over_a_year(name: str) -> None:
    story = Story()
    for amount in (8, 12, 20, 30, 40, 10, 15, 24):
        story.plan(f"m{amount}", fee("fee", amount))
    story.plan("year", fee("year", 100, interval="P1Y"))

    def new(key: str, plan: str, day: str, bcd: int) -> None:
        story.start(plan, day, key=key, anchor=anchored(day, bcd))

    steps: dict[str, Callable[[str], None]] = {
        "2011-01-05": lambda d: new("S1", "m8", d, 5),
        "2011-03-10": lambda d: new("S2", "m20", d, 10),
        "2011-04-05": lambda d: story.change(d, "m12", "S1"),
        "2011-04-29": lambda d: story.cancel(d, "S1"),
        "2011-05-20": lambda d: new("S3", "m10", d, 20),
        "2011-06-07": lambda d: new("S4", "m15", d, 7),
        "2011-06-10": lambda d: story.change(d, "m30", "S2"),
        "2011-06-21": lambda d: new("S5", "m20", d, 10),
        "2011-07-31": lambda d: story.change_anchored(d, "year", "S3"),
        "2011-08-07": lambda d: story.change(d, "m24", "S4"),
        "2011-09-10": lambda d: story.change(d, "m40", "S2"),
        "2011-10-07": lambda d: story.cancel(d, "S5"),
    }
    for invoice in one(name)["expect"]["invoices"]:
        day = invoice["target"]
        if day in steps:
            steps[day](day)
        found = story.lines(day)
        assert (day, len(found), amounts(found)) == (
            day,
            invoice["items"],
            Decimal(invoice["total"]),
        )


@replays("kb-gen-full-repair")
def test_a_history_that_was_another(name: str) -> None:
    expect = one(name)["expect"]
    story = Story()
    for key, amount in (("base", 10), ("dear", 13)):
        story.plan(key, fee(key, amount))
    for key, amount in (("addon1", 5), ("addon2", 20)):
        story.plan(key, fee(key, amount), kind="add-on")
    story.start("base", "2012-04-25", key="base", anchor_day=25)
    assert story.total("2012-04-25") == Decimal(expect["invoice1_total"])
    for key in ("addon1", "addon2"):
        story.start(key, "2012-04-28", key=key, base="base")
    second = story.lines("2012-04-28")
    assert [str(amount) for *_, amount in second] == expect["invoice2"]["amounts"]
    story.change("2012-04-25", "dear", "base")
    story.cancel("2012-04-28", "addon2")
    third = story.lines("2012-05-01")
    assert len(third) == expect["invoice3"]["items"]
    assert amounts(third) == Decimal(expect["invoice3"]["total"])


@replays("kb-gen-regression-170")
def test_a_pause_that_is_taken_back(name: str) -> None:
    case = one(name)
    given = case["given"]
    period, repaired = given["existing"]
    story = Story()
    story.plan("p", fee("p", given["rate"]))
    story.start("p", period["start"], anchor_day=given["bcd"])
    assert story.total(period["start"]) == Decimal(period["amount"])
    story.pause(repaired["start"])
    story.resume(repaired["end"])
    assert story.total(repaired["end"]) == Decimal(repaired["amount"])
    story.resume(repaired["start"])
    items = case["expect"]["items"]
    assert story.total(given["target"]) == sum(Decimal(item["amount"]) for item in items)
    assert story.run(given["target"]) is None


@replays("kb-gen-auto-invoice-off")
def test_a_subscription_out_of_use_is_caught_up_with(name: str) -> None:
    case = one(name)
    given = case["given"]
    story = Story()
    for key, sub in zip(("one", "two"), given["subs"], strict=True):
        story.plan(key, fee(key, sub["rate"]))
        story.start(key, given["start"], key=key, anchor_day=given["bcd"])
    days = [run.split(":")[0] for run in given["runs"]]
    first = story.total(days[0])
    story.archive("one")
    second = story.total(days[1])
    story.start("one", given["start"], key="one", anchor_day=given["bcd"])
    totals = [first, second, story.total(days[2])]
    assert totals == [Decimal(total) for total in case["expect"]["totals"]]


# ---------------------------------------------------------------- fees beside usage


def unit(key: str, amount: object) -> dict[str, Any]:
    """Return a usage charge in arrears, as it is written."""
    return {"key": key, "meter": "m", "price": {"type": "unit", "unit_amount": str(amount)}}


def used(story: Story, usage: list[list[Any]]) -> None:
    """Add so many events of each day."""
    for day, many in usage:
        for _ in range(many):
            story.world.event(f"{day}T12:00:00Z")


def items_of(items: list[dict[str, Any]], *types: str) -> list[tuple[str, str, Decimal]]:
    """Return (start, end, amount) of items that come to anything, by start."""
    found = [(x["start"], x["end"], Decimal(x["amount"])) for x in items if x["type"] in types]
    return sorted(one for one in found if one[2])


@replays("kb-arrear-last-day")
def test_arrears_of_add_ons_from_the_last_day_of_a_month(name: str) -> None:
    case = one(name)
    given, expect = case["given"], case["expect"]["invoices"]
    start, late = given["created"], given["new_addon"]
    story = Story()
    story.meter("m")
    story.plan("base", fee("base", 1000, timing="arrears"))
    addon = (fee("fee", 900, timing="arrears"), unit("bullets", "1.00"))
    story.plan("addon", *addon, kind="add-on")
    story.plan("other", *addon, kind="add-on")
    story.plan("late", fee("fee", late["rate"], timing="arrears"), kind="add-on")
    story.start("base", start, anchor_day=31)
    story.start("addon", start, key="addon", base="s")
    used(story, given["usage"])
    first = story.lines("2025-04-30")
    story.start("late", late["on"], key="late", base="s")
    story.change(given["addon_change"], "other", key="addon")
    second = story.lines(given["addon_change"])
    assert [first, second] == [items_of(items, "RECURRING", "USAGE") for items in expect]


@replays("kb-fixed-recurring-usage")
def test_a_change_within_a_block_that_is_lifted(name: str) -> None:
    """A block is a pause; lifted, nothing was ever paused."""
    case = one(name)
    given = case["given"]
    first, blocked, lifted = case["expect"]["invoices"]
    story = Story()
    story.meter("m")
    story.plan("low", fee("low", 20), unit("usage", "1.00"))
    story.plan("high", fee("high", 20), unit("usage", "3.00"))
    story.start("low", given["created"], anchor_day=given["bcd"])
    assert story.lines(given["created"]) == items_of(first, "RECURRING")
    used(story, given["usage"])
    story.pause(given["created"])
    change = given["change"][:10]
    assert story.total(change) == items_of(blocked, "REPAIR_ADJ")[0][2]
    story.resume(given["created"])
    story.change(change, "high")
    invoice = story.run("2026-07-01")
    assert invoice is not None
    assert spans(invoice) == items_of(lifted, "RECURRING", "USAGE")
    assert -sum(Decimal(used_of.amount) for used_of in invoice.credits) == sum(
        Decimal(item["amount"]) for item in lifted if item["type"] == "CBA_ADJ"
    )
    assert invoice.payable == "64.00"
