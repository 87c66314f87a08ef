"""Laws of money: in any number of parts, and whenever it was decided, the same is billed."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from tallybook.catalog.amendment import Amendment
from tallybook.invoice.audit.reconcile import reconcile
from tallybook.invoice.audit.verify import verify_all
from tallybook.kernel.timestamps import DAY_US, format_us
from tests.support.billing_world import at
from tests.support.subscription_story import Story, decisions, fee

START = at("2026-01-20")
DAYS = st.integers(0, 200).map(lambda day: START + day * DAY_US)
DECIDED = decisions(DAYS, 5)
STEPS = st.lists(st.sampled_from(["bill", "decide"]), max_size=10)
USED = st.lists(st.integers(0, 220), max_size=4)


def begun(used: list[int]) -> Story:
    story = Story()
    seats = fee("seats", "31", interval="P1M")
    calls = {"key": "calls", "meter": "calls", "price": {"type": "unit", "unit_amount": "1"}}
    story.meter("calls")
    story.plan("a", seats, fee("late", "7", timing="arrears"), calls)
    story.plan("b", fee("seats", "45", proration="second"), fee("week", 7, interval="P1W"), calls)
    story.plan("y", fee("seats", "365", interval="P1Y"), minimum={"amount": "50"}, interval="P1M")
    story.start("a", "2026-01-20", anchor_day=31)
    for day in used:
        story.world.event(format_us(START + day * DAY_US + 1))
    return story


@settings(max_examples=60, deadline=None)
@given(DECIDED, st.lists(st.integers(0, 200), max_size=6), STEPS, USED)
def test_in_parts_as_at_once(
    decided: list[Amendment], days: list[int], steps: list[str], used: list[int]
) -> None:
    end = "2026-08-20"
    once = begun(used)
    once.decide(*decided)
    total = once.total(end)

    parts = begun(used)
    waiting = list(decided)
    billed = Decimal(0)
    bills = iter(sorted(days))
    for step in steps:
        if step == "decide" and waiting:
            parts.decide(waiting.pop(0))
        day = next(bills, None) if step == "bill" else None
        if day is not None:
            billed += parts.total(format_us(START + day * DAY_US))
    parts.decide(*waiting)
    billed += parts.total(end)
    assert billed == total
    assert parts.run(end) is None, "nothing is left to bill"
    billing = parts.world.billing
    assert [one for one in verify_all(billing, list(parts.world.bodies())) if not one.ok] == []
    assert reconcile(billing, parts.world.usage).differences == ()
