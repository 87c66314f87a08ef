"""Every row of docs/algorithms/subscriptions.md and the intervals of periods.md, recomputed."""

from typing import get_args

import pytest

from tallybook.catalog.amendment import Amendment, Cancel, Pause, PlanChange, Resume, Uncancel
from tallybook.catalog.subscription import (
    Alignment,
    Stretch,
    Subscription,
    timeline,
    whole_period,
)
from tallybook.catalog.subscription.states import CHARGING, LEAVING, Command
from tallybook.kernel.timestamps import format_us
from tests.support.billing_world import at
from tests.unit.invoice.test_pages import table


@pytest.mark.parametrize(
    ("first", "states"), [("charged", CHARGING), ("leaving", LEAVING)], ids=["charged", "leaving"]
)
def test_the_state_tables(first: str, states: dict[tuple[str, str], str]) -> None:
    rows = table("subscriptions.md", first)
    found = {
        (row[0], command): cell
        for row in rows
        for command, cell in zip(get_args(Command), row[1:], strict=True)
        if cell != "-"
    }
    assert found == states


def amendment(text: str) -> Amendment:
    """Return what 'plan new 05-12' means."""
    word, *rest, day = text.split()
    at_us = at(f"2026-{day}")
    match word:
        case "plan":
            return PlanChange(at_us=at_us, recorded_us=0, plan=rest[0])
        case "pause":
            return Pause(at_us=at_us, recorded_us=0)
        case "resume":
            return Resume(at_us=at_us, recorded_us=0)
        case "uncancel":
            return Uncancel(at_us=at_us, recorded_us=0)
        case _:
            assert word == "cancel"
    return Cancel(at_us=at_us, recorded_us=0)


def day(us: int | None) -> str:
    return "" if us is None else format_us(us)[5:10]


def told(stretches: tuple[Stretch, ...]) -> str:
    spans = [f"{day(one.start_us)}..{day(one.end_us)} {one.plan}" for one in stretches]
    return ", ".join(spans) or "none"


@pytest.mark.parametrize("row", table("subscriptions.md", "decided"), ids=str)
def test_stretches(row: list[str]) -> None:
    decided, stretches = row
    texts = [] if decided == "nothing" else decided.split(", ")
    subscription = Subscription(
        key="s",
        customer="c",
        plan="old",
        start_us=at("2026-05-01"),
        amendments=tuple(amendment(text) for text in texts),
    )
    assert told(timeline(subscription)) == stretches


@pytest.mark.parametrize("row", table("periods.md", "interval"), ids=str)
def test_whole_periods(row: list[str]) -> None:
    interval, anchor, zone, instant, whole = row
    aligned = Alignment(int(anchor)) if anchor.isdigit() else Alignment(1, at(anchor, zone))
    found = whole_period(aligned, interval, at(instant, zone), zone)
    start, end = whole.split("..")
    assert (found.start_us, found.end_us) == (at(start), at(end))
