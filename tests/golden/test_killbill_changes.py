"""Kill Bill's worked cases of repairs, billing days, changes, pauses and fixed terms.

A repair is our difference: their RECURRING and REPAIR_ADJ items of an invoice come to the sum of
our lines. Their account's billing day is our anchor.
"""

from decimal import Decimal
from typing import Any

import pytest

from tallybook.adapters.memory.settlements import MemorySettlements
from tallybook.kernel.money import to_minor
from tallybook.settle.receivable.crediting import Ask
from tallybook.settle.receivable.flow import Settling, credit
from tallybook.settle.receivable.noting import LineAsk
from tests.golden.killbill_contracts import anchored, fees, one, recurring, replays
from tests.golden.vectors import require
from tests.support.subscription_story import Story, amounts, fee


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


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
