"""Every story of docs/algorithms/subscriptions.md, billed."""

import pytest

from tallybook.catalog.amendment import Uncancel
from tallybook.invoice.audit.reconcile import reconcile
from tallybook.invoice.audit.verify import verify_all
from tests.support.subscription_story import Story, fee
from tests.unit.invoice.test_pages import table


def told(story: Story, day: str) -> str:
    """Return the lines of a bill as the page writes them."""
    invoice = story.run(day)
    lines = () if invoice is None else invoice.lines
    found = [
        (x.period_start, f"{x.plan} {x.period_start[5:10]}..{x.period_end[5:10]} {x.amount}")
        for x in lines
    ]
    return ", ".join(text for _, text in sorted(found, key=lambda one: one[0])) or "none"


def decide(story: Story, words: list[str], day: str) -> None:
    match words:
        case ["plan", plan]:
            story.change(day, plan)
        case ["pause"]:
            story.pause(day)
        case ["resume"]:
            story.resume(day)
        case ["uncancel"]:
            story.decide(Uncancel(at_us=story.at(day), recorded_us=0))
        case ["cancel"]:
            story.cancel(day)
        case _:
            assert words == ["cancel-without-credit"]
            story.cancel(day, credit=False)


@pytest.mark.parametrize("row", table("subscriptions.md", "story"), ids=str)
def test_stories(row: list[str]) -> None:
    steps, lines = row
    first, *rest = steps.split("; ")
    story = Story()
    for key, amount, timing in (("old", 31, "advance"), ("new", 62, "advance")):
        story.plan(key, fee(key, amount, timing=timing))
    story.plan("late", fee("late", 31, timing="arrears"))
    story.start(first, "2026-05-01")
    found = ""
    for step in rest:
        *words, day = step.split()
        if words == ["bill"]:
            found = told(story, f"2026-{day}")
        else:
            decide(story, words, f"2026-{day}")
    assert found == lines
    billing = story.world.billing
    assert [one for one in verify_all(billing, list(story.world.bodies())) if not one.ok] == []
    assert reconcile(billing, story.world.usage).differences == ()
