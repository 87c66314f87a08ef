"""docs/algorithms/periods.md: periods follow each other without gap or drift."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.catalog.subscription import (
    StoredPeriod,
    Subscription,
    SubscriptionSpec,
    check_subscription,
    open_periods,
)
from tallybook.kernel.errors import Invalid
from tallybook.kernel.period import parse_moment, zone
from tallybook.kernel.timestamps import DAY_US, format_us


def at(text: str, name: str = "UTC") -> int:
    return parse_moment(text, zone(name), "at")


def made(start: str, until: str, name: str = "UTC", **more: object) -> list[StoredPeriod]:
    spec = SubscriptionSpec(key="s", customer="c", plan="p", start=start, **more)  # type: ignore[arg-type]
    subscription = check_subscription(spec, name)
    return list(open_periods(subscription, (), at(until, name), name, 1))


def days(periods: list[StoredPeriod]) -> list[tuple[str, str]]:
    return [(format_us(p.start_us)[5:10], format_us(p.end_us)[5:10]) for p in periods]


def test_the_31st_does_not_drift() -> None:
    periods = made("2026-01-31", "2026-04-15", anchor_day=31)
    assert days(periods) == [("01-31", "02-28"), ("02-28", "03-31"), ("03-31", "04-30")]


def test_a_partial_first_and_last_period_remember_the_whole() -> None:
    first, last = made("2026-05-17", "2026-07-01", end="2026-06-10")
    assert days([first, last]) == [("05-17", "06-01"), ("06-01", "06-10")]
    assert format_us(first.full_start_us)[5:10] == "05-01"
    assert format_us(last.full_end_us)[5:10] == "07-01"


def test_a_period_that_starts_exactly_at_the_horizon_is_opened() -> None:
    assert len(made("2026-05-01", "2026-06-01")) == 2
    assert len(made("2026-05-01", "2026-05-31T23:59:59.999999")) == 1


def test_a_zone_with_a_clock_change_has_a_month_of_23_hours_less_or_more() -> None:
    (march, _) = made("2026-03-01", "2026-04-01", "Europe/Berlin")
    assert march.end_us - march.start_us == 31 * DAY_US - DAY_US // 24


def test_a_changed_zone_begins_with_the_next_period() -> None:
    subscription = Subscription(key="s", customer="c", plan="p", start_us=at("2026-05-01"))
    may, june = open_periods(subscription, (), at("2026-06-01"), "UTC", 1)
    assert june.start_us == may.end_us
    following = next(open_periods(subscription, (may, june), at("2026-08-01"), "Asia/Kolkata", 2))
    assert following.start_us == june.end_us
    assert following.end_us == at("2026-08-01", "Asia/Kolkata")
    assert following.plan_version == 2


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("anchor_day", {"anchor_day": 32}),
        ("start", {"start": "soon"}),
        ("end", {"end": "2026-01-01"}),
        ("key", {"key": "no spaces"}),
    ],
)
def test_a_refusal_names_the_field(field: str, more: dict[str, object]) -> None:
    plain = {"key": "s", "customer": "c", "plan": "p", "start": "2026-02-01"} | more
    with pytest.raises(Invalid) as caught:
        check_subscription(SubscriptionSpec(**plain), "UTC")  # type: ignore[arg-type]
    assert caught.value.field == field


@given(
    st.integers(0, 400),
    st.integers(1, 31),
    st.sampled_from(["UTC", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"]),
)
def test_periods_touch_and_lie_in_their_whole(day: int, anchor: int, name: str) -> None:
    start = at("2026-01-01", name) + day * DAY_US
    subscription = Subscription(key="s", customer="c", plan="p", start_us=start, anchor_day=anchor)
    periods = list(open_periods(subscription, (), start + 500 * DAY_US, name, 1))
    assert periods[0].start_us == start
    for before, after in itertools.pairwise(periods):
        assert before.end_us == after.start_us == after.full_start_us
    assert all(p.full_start_us <= p.start_us < p.end_us == p.full_end_us for p in periods)
