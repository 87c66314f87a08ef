"""Stories of fees that are charged once, and of seats by tiers."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from tallybook.catalog.amendment import QuantityChange
from tallybook.invoice.audit.verify import verify
from tests.support.subscription_story import Story, fee

PAGE = Path(__file__).resolve().parents[2] / "docs" / "algorithms" / "plans.md"
ROW = re.compile(r"^\| `(\w+)` \|(.*?)\| (\d+, \d+, \d+, \d+) \|$", re.MULTILINE)
ROWS = ROW.findall(PAGE.read_text(encoding="utf-8"))
ENDS = ("2026-05-31", "2026-06-30", "2026-07-31", "2026-08-31")
TIERS = {
    "type": "graduated",
    "tiers": [{"up_to": "5", "unit_amount": "31"}, {"unit_amount": "15.5"}],
}


def setup(amount: int) -> dict[str, object]:
    return fee("setup", amount, once=True)


def story_of(plan: str) -> Story:
    story = Story()
    story.plan("a", fee("monthly", 1), setup(10))
    story.plan("b", fee("monthly", 1), setup(20))
    story.plan("c", fee("monthly", 1))
    phases = [{"key": "trial", "length": "P1M", "charges": ["monthly"]}, {"key": "later"}]
    story.plan("ramp", fee("monthly", 1), setup(30), phases=phases)
    story.start(plan, "2026-05-01")
    return story


def charged(story: Story, until: str) -> int:
    """Bill up to an instant, and return what setup fees come to."""
    invoice = story.run(until)
    if invoice is None:
        return 0
    assert verify(story.world.billing, invoice.number).ok
    return sum(line.amount_minor for line in invoice.lines if line.charge == "setup") // 100


def decide(story: Story, decided: str) -> None:
    for one in filter(None, (text.strip() for text in decided.split(","))):
        what, when, *more = one.split()
        getattr(story, what)(when, *more)


@pytest.mark.parametrize("late", [False, True], ids=["known", "late"])
@pytest.mark.parametrize(("plan", "decided", "wanted"), ROWS, ids=str)
def test_the_worked_table(plan: str, decided: str, wanted: str, *, late: bool) -> None:
    story = story_of(plan)
    months = [int(amount) for amount in wanted.split(", ")]
    if late:
        first = charged(story, "2026-05-31")
        decide(story, decided)
        assert first + sum(charged(story, end) for end in ENDS) == sum(months)
    else:
        decide(story, decided)
        assert [charged(story, end) for end in ENDS] == months
    assert charged(story, ENDS[-1]) == 0


def test_the_page_has_its_table() -> None:
    assert len(ROWS) == 8


def test_who_ends_before_the_beginning_gets_it_back() -> None:
    story = story_of("a")
    assert charged(story, "2026-05-02") == 10
    story.cancel("2026-05-01")
    assert charged(story, "2026-05-03") == -10


def test_a_plan_put_in_place_of_the_first_gives_back_its_fee() -> None:
    story = story_of("a")
    assert charged(story, "2026-05-02") == 10
    story.change("2026-05-01", "c")
    assert charged(story, "2026-05-03") == -10
    story.change("2026-05-01", "b")
    assert charged(story, "2026-05-04") == 20


def test_a_change_before_what_was_billed_leaves_it_where_it_is() -> None:
    story = story_of("c")
    story.change("2026-07-01", "a")
    assert [charged(story, end) for end in ENDS] == [0, 0, 10, 0]
    story.change("2026-06-01", "a")
    assert charged(story, ENDS[-1]) == 0


def test_a_version_with_a_fee_charges_nobody_who_is_there() -> None:
    story = story_of("c")
    assert charged(story, "2026-05-31") == 0
    story.plan("c", fee("monthly", 1), setup(40))
    assert [charged(story, end) for end in ENDS] == [0, 0, 0, 0]
    story.start("c", "2026-08-31", key="new")
    assert charged(story, ENDS[-1]) == 40


def test_a_fee_in_longer_periods_too() -> None:
    story = Story()
    story.plan("p", fee("monthly", 1), setup(10) | {"interval": "P1Y"})
    story.start("p", "2026-05-01")
    assert [charged(story, end) for end in (*ENDS, "2027-06-30")] == [10, 0, 0, 0, 0]


def test_seats_by_tiers() -> None:
    story = Story()
    story.plan("p", fee("seats", 0) | {"price": TIERS, "quantity": "5"})
    story.start("p", "2026-05-01", quantities={"seats": "4"})
    assert story.total("2026-05-01") == 124
    change = QuantityChange(
        at_us=story.at("2026-05-22"), recorded_us=0, charge="seats", quantity=Decimal(7)
    )
    story.decide(change)
    invoice = story.run("2026-05-22")
    assert invoice is not None
    (line,) = invoice.lines
    assert (line.amount, line.quantity, line.now.quantity) == ("20.00", "3", "7")
    assert [step.amount for step in line.steps] == ["84", "60"]
    assert verify(story.world.billing, invoice.number).ok
    assert story.total("2026-06-01") == 186
