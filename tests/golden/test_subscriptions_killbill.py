"""Kill Bill's worked cases of subscriptions: alignment, changes, pauses, repairs, fixed terms.

A repair is our difference: their RECURRING and REPAIR_ADJ items of an invoice come to the sum of
our lines. Their account's billing day is our anchor.
"""

from collections.abc import Callable
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

from tallybook.adapters.memory.settlements import MemorySettlements
from tallybook.catalog.subscription import (
    Alignment,
    SubscriptionSpec,
    check_subscription,
    whole_period,
)
from tallybook.catalog.subscription import open_periods as opened
from tallybook.kernel.errors import Invalid
from tallybook.kernel.money import to_minor
from tallybook.kernel.period import Period, zone
from tallybook.rate.proration import portion
from tallybook.settle.receivable.crediting import Ask
from tallybook.settle.receivable.flow import Settling, credit
from tallybook.settle.receivable.noting import LineAsk
from tests.golden.vectors import Case, cases, identity, require
from tests.support.billing_world import at
from tests.support.subscription_story import Story, amounts, fee, spans


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


AREAS = (
    "proration.factor.in_advance", "proration.factor.scale", "proration.factor.fixed_30_days",
    "proration.fixed_30_days", "proration.validation", "periods.in_advance", "periods.in_arrear",
    "calendar", "invoice.recurring", "invoice.change", "invoice.idempotence", "invoice.scenario",
    "invoice.fixed_plus_recurring", "invoice.phases", "invoice.repair", "invoice.controls",
    "repair", "repair.tree.view", "repair.tree.merge", "bcd.change", "change.period",
    "pause_resume", "in_arrear", "fixed_term", "in_arrear+usage", "usage.plus_recurring",
)  # fmt: skip
KNOWN = {case["id"]: case for case in cases("killbill", *AREAS)}
REPLAYED: set[str] = set()


def one(name: str) -> Case:
    """Return a case that is replayed here."""
    return KNOWN[name]


def replays(*names: str) -> pytest.MarkDecorator:
    """Mark a test that replays these cases; where they are absent it is skipped."""
    REPLAYED.update(names)
    there = not KNOWN or all(name in KNOWN for name in names)
    assert there, names
    return pytest.mark.parametrize("name", names)


def recurring(case: Case) -> list[list[tuple[str, str, Decimal]]]:
    """Return the recurring items of every invoice."""
    return [
        [
            (item["start"], item["end"], Decimal(item["amount"]))
            for item in items
            if item["type"] == "RECURRING"
        ]
        for items in case["expect"]["invoices"]
    ]


def fees(case: Case) -> list[Decimal]:
    """Return what the recurring items and repairs of every invoice come to."""
    counted = {"RECURRING", "REPAIR_ADJ"}
    return [
        sum((Decimal(i["amount"]) for i in items if i["type"] in counted), Decimal(0))
        for items in case["expect"]["invoices"]
    ]


def anchored(start: str, bcd: int) -> str:
    """Return the billing day in the month of a start."""
    return f"{start[:8]}{bcd:02d}"


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


def flat(amount: str, key: str = "p") -> dict[str, object]:
    return {key: {"type": "flat", "amount": amount}}


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


# ---------------------------------------------------------------- repairs


def tree(existing: list[dict[str, Any]], anchor: str | None = None) -> Story:
    """Return a story in which these items are billed: fees, and repairs as pauses."""
    story = Story()
    fees_of = [item for item in existing if item["type"] == "RECURRING"]
    for item in fees_of:
        story.plan(f"p{item['amount']}", fee("p", item.get("rate", item["amount"])))
    if fees_of:
        first = fees_of[0]
        story.start(f"p{first['amount']}", first["start"], anchor=anchor or first["start"])
        story.run(fees_of[-1]["start"])
    for item in existing:
        if item["type"] == "REPAIR_ADJ":
            story.pause(item["start"])
            if item["end"] < fees_of[-1]["end"]:
                story.resume(item["end"])
    return story


@replays("kb-tree-blocked")
def test_what_is_left_of_a_period(name: str) -> None:
    case = one(name)
    items = case["given"]["items"]
    story = tree(items)
    story.run(items[0]["end"][:8] + "01")
    last = story.lines("2014-01-31")
    wanted = [Decimal(item["amount"]) for item in case["expect"]["items"]]
    assert last == []
    billed = story.world.billing.invoices.books("default").billed
    found = [sum(b.amount_minor for b in groups.values()) for _, groups in sorted(billed.items())]
    assert [Decimal(minor) / 100 for minor in found if minor][:3] == wanted


@replays("kb-tree-simple-repair")
def test_what_a_change_leaves(name: str) -> None:
    case = one(name)
    first, second, repair = case["given"]["items"]
    story = Story()
    story.plan("old", fee("old", first["rate"]))
    story.plan("new", fee("new", second["rate"], proration="none"))
    story.start("old", first["start"])
    story.run(first["start"])
    story.change(repair["start"], "new")
    story.run(repair["start"])
    billed = story.world.billing.invoices.books("default").billed
    found = [Decimal(b.amount_minor) / 100 for _, g in sorted(billed.items()) for b in g.values()]
    assert sorted(found) == [Decimal(item["amount"]) for item in case["expect"]["items"]]


@replays("kb-merge-none", "kb-merge-initial-block", "kb-merge-block-unblock")
def test_merged(name: str) -> None:
    """What is proposed is all that shall be billed: the rest is paused, or ends."""
    case = one(name)
    given = case["given"]
    proposed = given["proposed"]
    story = tree(given["existing"] or [])
    if not given["existing"]:
        (item,) = proposed
        story.plan("p", fee("p", item["rate"]))
        story.start("p", item["start"])
        until = item["start"]
    else:
        first = next(item for item in given["existing"] if item["type"] == "RECURRING")
        story.run(first["start"])
        until = first["start"][:8] + "28"
        if not proposed:
            story.cancel(first["start"])
        elif proposed[0]["start"] > first["start"]:
            story.pause(first["start"])
            story.resume(proposed[0]["start"])
        else:
            story.cancel(proposed[0]["end"])
    wanted = sum(Decimal(item["amount"]) for item in case["expect"]["new_items"])
    assert story.total(until) == wanted


def credit_of(story: Story, amount: str) -> None:
    """Give so much back of the only line of the newest invoice; their item adjustment."""
    kept = MemorySettlements(story.world.kept)
    settling = Settling(billing=story.world.billing, settlements=kept, payments=kept)
    newest = story.world.invoices()[-1]
    minor = -to_minor(Decimal(amount), story.currency)
    ask = Ask(reason="adjusted", lines=(LineAsk(line="1", amount_minor=minor),))
    credit(settling, newest.id, ask)


@replays("kb-merge-adj-small", "kb-merge-adj-full")
def test_a_repair_gives_back_at_most_what_adjustments_left(name: str) -> None:
    case = one(name)
    existing, proposed = case["given"]["existing"], case["given"]["proposed"]
    story = tree(existing)
    credit_of(story, existing[1]["amount"])
    story.cancel(proposed[0]["end"])
    wanted = sum(Decimal(item["amount"]) for item in case["expect"]["new_items"])
    assert story.total(existing[0]["start"][:8] + "28") == wanted


@replays("kb-repair-after-adj")
def test_a_change_after_an_adjustment(name: str) -> None:
    case = one(name)
    given = case["given"]
    story = Story()
    story.plan("shotgun", fee("fee", "249.95"))
    story.plan("blowdart", fee("fee", "9.95"))
    (billed, adjusted, _), (new, repair, _) = case["expect"]["invoices"]
    story.start("shotgun", billed["start"], anchor_day=given["account_bcd"])
    assert story.total(billed["start"]) == Decimal(billed["amount"])
    credit_of(story, adjusted["amount"])
    assert adjusted["amount"] == "-" + given["item_adjustment"]["amount"] + ".00"
    story.change(given["change"]["on"], "blowdart")
    found = story.lines(given["change"]["on"])
    assert [amount for _, _, amount in found] == [Decimal(repair["amount"]), Decimal(new["amount"])]


@replays("kb-merge-bcd-noop")
def test_another_billing_day_leaves_what_is_billed(name: str) -> None:
    case = one(name)
    story = tree(case["given"]["existing"][:1])
    story.run("2014-06-01")
    story.anchor("2014-05-15", "2014-05-15")
    assert story.run("2014-06-14") is None
    assert case["expect"]["new_items"] == []


@replays("kb-merge-m2a")
def test_a_month_becomes_a_year(name: str) -> None:
    case = one(name)
    given = case["given"]
    year = given["proposed"][-1]
    story = tree(given["existing"][:1])
    story.run(given["existing"][-1]["start"])
    story.plan("year", fee("year", year["rate"], interval="P1Y"))
    story.change(year["start"], "year")
    story.anchor(year["start"], year["start"])
    wanted = sum(Decimal(item["amount"]) for item in case["expect"]["new_items"])
    assert story.total(year["start"]) == wanted


@replays("kb-repair-annual-to-monthly")
def test_a_year_becomes_a_month_on_its_first_day(name: str) -> None:
    case = one(name)
    story = Story()
    story.plan("year", fee("fee", "2399.95", interval="P1Y"))
    story.plan("month", fee("fee", "249.95"))
    story.start("year", "2012-05-01", anchor="start")
    found = [story.total("2012-05-01")]
    story.change("2012-05-01", "month")
    found += [story.total(day) for day in ("2012-05-01", "2012-06-01")]
    assert found == fees(case)


# ---------------------------------------------------------------- billing days, changes, pauses


@replays("kb-bcd-in-trial")
def test_a_billing_day_chosen_in_the_trial(name: str) -> None:
    case = one(name)
    given = case["given"]
    story = Story()
    phases = [{"key": "trial", "length": "P30D", "charges": []}]
    story.plan("shotgun", fee("p", "249.95"), phases=phases)
    story.start("shotgun", given["created"])
    change = given["bcd_change"]
    story.anchor(change["on"], anchored(given["created"], change["new_bcd"]))
    found = [story.lines(items[0][0]) for items in recurring(case)]
    assert found == recurring(case)


@replays("kb-change-then-bcd")
def test_a_change_and_later_another_billing_day(name: str) -> None:
    case = one(name)
    given = case["given"]
    billed, change = given["already_billed"], given["change"]
    plan, amount = change["plan"].split()
    story = Story()
    story.plan("old", fee("old", billed["amount"]))
    story.plan(plan, fee("new", amount))
    story.start("old", billed["start"])
    story.run(billed["start"])
    story.change(change["on"], plan)
    found = story.lines(change["on"])
    assert amounts(found) == fees(case)[0]
    assert recurring(case)[0][0] in found
    story.anchor(billed["end"], anchored(billed["end"], given["new_bcd"]))
    assert story.lines(billed["end"]) == recurring(case)[1]


@replays("kb-bcd-on-ops")
def test_a_billing_day_that_comes_with_a_plan(name: str) -> None:
    case = one(name)
    given = case["given"]
    story = Story()
    for text in (given["plan"], given["change_eot"]["plan"]):
        story.plan(text.split()[0], fee("p", text.split()[1]))
    story.start(given["plan"].split()[0], given["created"], anchor_day=given["subscription_bcd"])
    change = given["change_eot"]
    story.change(change["effective"], change["plan"].split()[0])
    story.anchor(change["effective"], anchored(change["effective"], change["bcd"]))
    assert [story.lines(items[0][0]) for items in recurring(case)] == recurring(case)


@replays("kb-period-m2a", "kb-period-m2q")
def test_a_change_of_the_interval(name: str) -> None:
    case = one(name)
    given = case["given"]
    billed, change = given["billed"], given["change"]
    interval = "P1Y" if "annual" in change["plan"] else "P3M"
    story = Story()
    story.plan("old", fee("old", billed["amount"]))
    story.plan("new", fee("new", change["plan"].split()[1], interval=interval))
    story.start("old", billed["start"], anchor="start")
    story.run(billed["start"])
    story.change(change["on"], "new")
    wanted, sums = recurring(case), fees(case)
    found = story.lines(change["on"])
    assert wanted[0][0] in found
    assert amounts(found) == sums[0]
    for later in wanted[1:]:
        assert story.lines(later[0][0]) == later


@replays("kb-pause-resume-annual")
def test_a_paused_year(name: str) -> None:
    """After their pause a new year begins on the billing day before it: another anchor."""
    case = one(name)
    given = case["given"]
    billed = given["billed"]
    story = Story()
    story.plan("year", fee("p", billed["amount"], interval="P1Y"))
    story.start("year", billed["start"], anchor="start")
    story.run(billed["start"])
    story.pause(given["pause"])
    sums, wanted = fees(case), recurring(case)
    assert story.total(given["pause"]) == sums[0]
    story.resume(given["resume"])
    story.anchor(given["resume"], given["resume"][:8] + "01")
    assert story.lines(given["resume"]) == wanted[1]
    assert story.lines(wanted[2][0][0]) == wanted[2]


@replays("kb-arrear-pause")
def test_a_pause_in_arrears(name: str) -> None:
    case = one(name)
    given = case["given"]
    story = Story()
    story.plan("p", fee("p", given["rate"], timing="arrears"))
    story.start("p", given["created"], anchor_day=given["bcd"])
    story.pause(given["pause"])
    story.resume(given["resume"])
    assert [story.lines(items[0][1]) for items in recurring(case)] == recurring(case)


@replays("kb-arrear-change-2")
def test_a_change_in_arrears_of_base_and_addon(name: str) -> None:
    case = one(name)
    given = case["given"]
    story = Story()
    for key, kind in (("base", "plan"), ("addon", "add-on")):
        amount = given[key].split("/")[0]
        story.plan(key, fee(key, amount, timing="arrears"), kind=kind)
        story.plan(f"{key}2", fee(f"{key}2", 1, timing="arrears"), kind=kind)
    story.start("base", given["created"], key="base", anchor_day=given["bcd"])
    story.start("addon", given["created"], key="addon", base="base")
    for key in ("base", "addon"):
        story.change(given["change"], f"{key}2", key)
    assert [sorted(story.lines(items[0][1])) for items in recurring(case)] == recurring(case)


@replays("kb-arrear-change-3")
def test_a_change_in_arrears(name: str) -> None:
    case = one(name)
    given = case["given"]
    story = Story()
    day, rate = given["change"].split(" to ")
    story.plan("old", fee("old", given["addon"].split("/")[0], timing="arrears"))
    story.plan("new", fee("new", rate.split("/")[0], timing="arrears"))
    story.start("old", given["created"], anchor_day=given["bcd"])
    story.change(day, "new")
    assert story.lines(day) == recurring(case)[0]


@replays("kb-fixedterm-biennial")
def test_a_fixed_term(name: str) -> None:
    case = one(name)
    story = Story()
    story.plan("p", fee("p", 40, interval="P2Y"))
    start = case["given"]["created"]
    story.start("p", start, end=f"{int(start[:4]) + 3}{start[4:]}", anchor="start")
    assert [story.lines(items[0][0]) for items in recurring(case)] == recurring(case)
