"""OpenMeter's worked cases of subscriptions: steps of a calendar, anchors, edits within a period.

Their edits prorate to the second; so do the fees here.
"""

from decimal import Decimal
from typing import Any

import pytest

from tallybook.catalog.entitlement.recurrence import Recurrence, parse_interval
from tallybook.catalog.subscription import Alignment, divides, whole_period
from tallybook.kernel.timestamps import format_us
from tests.golden.vectors import Case, cases, identity, require
from tests.support.billing_world import at
from tests.support.subscription_story import Story, fee


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


AREAS = (
    "calendar-divisibility", "calendar-recurrence", "billing-anchor", "subscription-proration",
)  # fmt: skip
KNOWN = {case["id"]: case for case in cases("openmeter", *AREAS)}
REPLAYED: set[str] = {
    case["id"] for case in cases("openmeter", "calendar-divisibility", "calendar-recurrence")
}


def replays(*names: str) -> pytest.MarkDecorator:
    """Mark a test that replays these cases; where they are absent it is skipped."""
    REPLAYED.update(names)
    assert not KNOWN or all(name in KNOWN for name in names), names
    return pytest.mark.parametrize("name", names)


@pytest.mark.parametrize("case", cases("openmeter", "calendar-divisibility"), ids=identity)
def test_intervals_in_each_other(case: Case) -> None:
    given = case["given"]
    assert divides(given["smaller"], given["larger"]) == case["expect"]["divisible"]


@pytest.mark.parametrize("case", cases("openmeter", "calendar-recurrence"), ids=identity)
def test_steps_from_an_anchor(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    anchor, when = at(given["anchor"]), at(given["at"])
    if "period" in expect:
        found = whole_period(Alignment(anchor_us=anchor), given["interval"], when, "UTC")
        assert [found.start_us, found.end_us] == [at(text) for text in expect["period"]]
        return
    steps = Recurrence(interval=parse_interval("interval", given["interval"]), anchor_us=anchor)
    assert given["function"] in {"previous_boundary", "next_boundary"}
    strict = given["boundary"] == "exclusive"
    if given["function"] == "previous_boundary":
        found_us = steps.step(steps.number_at(when - strict))
    else:
        found_us = steps.step(steps.number_at(when - (not strict)) + 1)
    assert found_us == at(expect["result"])


@replays("om-billing-anchor-001")
def test_a_first_period_cut_at_the_anchor(name: str) -> None:
    case = KNOWN[name]
    given = case["given"]
    story = Story()
    story.plan("p", fee("p", 10, timing="arrears", proration="second"))
    story.start("p", given["start"], anchor=given["billing_anchor"])
    (line,) = case["expect"]["lines"]
    assert story.run(just_before(line["invoice_at"])) is None
    (found,) = story.lines(line["invoice_at"])
    assert found[:2] == (line["period"][0][:10], line["period"][1][:10])


def just_before(when: str) -> str:
    return format_us(at(when) - 1)


def item(text: str, key: str, given: Case) -> dict[str, Any]:
    """Return the fee that 'flat 5 in advance' means."""
    _, amount, _, timing = text.split()
    proration = "second" if given["proration"] else "none"
    timing = {"advance": "advance", "arrears": "arrears"}[timing]
    return fee(key, amount, timing=timing, proration=proration)


@replays("om-subscription-proration-001", "om-subscription-proration-009")
def test_cancelled_within_a_period(name: str) -> None:
    case = KNOWN[name]
    given = case["given"]
    story = Story()
    (line,) = case["expect"]["lines"]
    if "items" in given:
        (entry,) = given["items"]
        story.plan("p", item(entry["price"], "p", given) | {"interval": entry["cadence"]})
    else:
        story.plan("p", item(given["item"], "p", given))
    story.start("p", given["start"], anchor=given.get("billing_anchor"))
    story.cancel(given["cancel_at"])
    assert story.run(just_before(line["invoice_at"])) is None
    (found,) = story.lines(line["invoice_at"])
    assert found == (line["period"][0][:10], line["period"][1][:10], Decimal(line["amount"]))


@replays("om-subscription-proration-003", "om-subscription-proration-007")
def test_an_edit_in_advance(name: str) -> None:
    """A line of 0.00 is shown here; theirs disappears."""
    case = KNOWN[name]
    given, expect = case["given"], case["expect"]
    story = Story()
    story.plan("old", item(given["item"], "old", given))
    story.plan("new", item(given["edit"]["new_item"], "new", given))
    story.start("old", given["start"])
    story.change(given["edit"]["at"], "new")
    last = "2024-02-01"
    wanted = expect.get("lines") or [expect["draft_line"], *expect["pending_lines"]]
    found = [line for line in story.lines(last) if line[2]]
    spans = [(x["period"][0][:10], x["period"][1][:10], Decimal(x["amount"])) for x in wanted]
    assert found == spans


@replays("om-subscription-proration-005")
def test_an_edit_without_proration(name: str) -> None:
    case = KNOWN[name]
    given = case["given"]
    story = Story()
    story.plan("old", item(given["item"], "old", given))
    story.plan("new", item(given["edit"]["new_item"], "new", given))
    story.start("old", given["start"])
    story.change(given["edit"]["at"], "new")
    wanted = case["expect"]["lines"]
    found = story.lines(wanted[-1]["invoice_at"])
    assert [amount for *_, amount in found] == [Decimal(line["amount"]) for line in wanted]


@replays("om-subscription-proration-011")
def test_phases_within_a_period(name: str) -> None:
    case = KNOWN[name]
    given, expect = case["given"], case["expect"]
    story = Story()
    phases = [{"key": "first", "length": given["phases"][0]["duration"]}]
    charges = [item(text, text.split()[-1], given) for text in given["phases"][0]["items"][:2]]
    story.plan("p", *charges, phases=phases)
    story.start("p", given["start"])
    story.cancel(given["cancel_at"])
    found = story.run(given["cancel_at"])
    assert found is not None
    for charge, key in (("advance", "in_advance"), ("arrears", "in_arrears")):
        lines = [line for line in found.lines if line.charge == charge]
        lines.sort(key=lambda line: line.period_start)
        assert [line.amount for line in lines] == [
            expect["first"][key],
            *(f"{Decimal(amount):.2f}" for amount in expect["second"][key]),
        ]
        spans = [(line.period_start, line.period_end) for line in lines]
        wanted = [expect["first"]["period"], *expect["second"]["periods"]]
        assert spans == [tuple(format_us(at(text)) for text in span) for span in wanted]
