"""Periods: half-open, anchored, tiling time in any zone."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.kernel.errors import Invalid
from tallybook.kernel.period import (
    Period,
    days_between,
    local_us,
    month_period,
    month_start,
    parse_moment,
    zone,
)
from tallybook.kernel.timestamps import DAY_US, HOUR_US, from_us, to_us

ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Asia/Kolkata",
    "Australia/Lord_Howe", "Pacific/Apia", "America/Havana", "Africa/Casablanca",
]  # fmt: skip
INSTANTS = st.integers(
    to_us(datetime(1900, 1, 1, tzinfo=UTC)), to_us(datetime(2100, 1, 1, tzinfo=UTC))
)
DAYS = st.integers(1, 31)


def utc(*parts):
    return to_us(datetime(*parts, tzinfo=UTC))


def local_date(us, name):
    return from_us(us).astimezone(ZoneInfo(name)).date()


@given(INSTANTS, DAYS, st.sampled_from(ZONES))
def test_month_periods_tile_time(at, anchor, name):
    tz = zone(name)
    period = month_period(at, anchor, tz)
    assert at in period
    assert month_period(period.end_us, anchor, tz).start_us == period.end_us
    assert month_period(period.start_us, anchor, tz) == period
    assert month_period(period.end_us - 1, anchor, tz) == period


@given(INSTANTS, DAYS, st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]))
def test_a_period_starts_on_the_anchor_or_the_month_s_last_day(at, anchor, name):
    tz = zone(name)
    start = from_us(month_period(at, anchor, tz).start_us).astimezone(tz)
    following = from_us(month_period(at, anchor, tz).start_us + DAY_US + 2 * HOUR_US).astimezone(tz)
    assert (start.hour, start.minute) == (0, 0)
    assert start.day == anchor or (start.day < anchor and following.day == 1)


def test_the_31st_never_drifts():
    tz = zone("Europe/Berlin")
    at, days = local_us(datetime.fromisoformat("2027-01-31"), tz), []
    for _ in range(14):
        days.append(local_date(at, "Europe/Berlin").day)
        at = month_period(at, 31, tz).end_us
    assert days == [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31, 29]


def test_29_february_only_in_leap_years():
    tz = zone("UTC")
    assert month_start(2028, 2, 29, tz) == utc(2028, 2, 29)
    assert month_start(2027, 2, 29, tz) == utc(2027, 2, 28)
    assert month_start(2000, 2, 30, tz) == utc(2000, 2, 29)
    assert month_start(2100, 2, 30, tz) == utc(2100, 2, 28)


def test_months_carry_into_the_year():
    tz = zone("UTC")
    assert month_start(2026, 13, 5, tz) == utc(2027, 1, 5)
    assert month_start(2026, 0, 31, tz) == utc(2025, 12, 31)
    assert month_start(2026, -11, 1, tz) == utc(2025, 1, 1)


def test_a_month_with_a_clock_change_is_an_hour_off():
    tz = zone("Europe/Berlin")
    march = month_period(utc(2026, 3, 10), 1, tz)
    october = month_period(utc(2026, 10, 10), 1, tz)
    assert march.end_us - march.start_us == 31 * DAY_US - HOUR_US
    assert october.end_us - october.start_us == 31 * DAY_US + HOUR_US


def test_a_skipped_time_is_the_change_and_a_repeated_one_its_first():
    tz = zone("America/New_York")
    assert local_us(datetime.fromisoformat("2026-03-08T02:30"), tz) == utc(2026, 3, 8, 7, 30)
    assert local_us(datetime.fromisoformat("2026-11-01T01:30"), tz) == utc(2026, 11, 1, 5, 30)


def test_days_are_calendar_days_of_the_zone():
    tz = zone("Europe/Berlin")
    assert days_between(utc(2026, 3, 28, 23), utc(2026, 3, 29, 22), tz) == 1  # a day of 23 hours
    assert days_between(utc(2026, 10, 24, 22), utc(2026, 10, 25, 23), tz) == 1  # of 25 hours
    assert days_between(utc(2026, 1, 1, 22, 59), utc(2026, 1, 1, 23), tz) == 1
    assert days_between(utc(2026, 1, 2), utc(2026, 1, 1), tz) == -1


def test_a_period_is_half_open_and_never_empty():
    period = Period(10, 20)
    assert 10 in period
    assert 19 in period
    assert 20 not in period
    for start, end in ((5, 5), (6, 5)):
        with pytest.raises(Invalid):
            Period(start, end)


@given(*[st.integers(-50, 50)] * 4)
def test_clip_is_what_both_share(a, b, c, d):
    if a >= b or c >= d:
        return
    shared = Period(a, b).clip(Period(c, d))
    both = {t for t in range(-50, 51) if t in Period(a, b) and t in Period(c, d)}
    assert both == (set() if shared is None else set(range(shared.start_us, shared.end_us)))


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "a\0b", "."]
)
def test_an_unknown_zone_is_refused(name):
    with pytest.raises(Invalid) as caught:
        zone(name)
    assert caught.value.field == "zone"


def test_moments_are_dates_local_times_or_instants():
    tz = zone("Asia/Kolkata")
    assert parse_moment("2026-05-01", tz, "from") == utc(2026, 4, 30, 18, 30)
    assert parse_moment("2026-05-01T06:00:00", tz, "from") == utc(2026, 5, 1, 0, 30)
    assert parse_moment("2026-05-01T06:00:00+02:00", tz, "from") == utc(2026, 5, 1, 4)
    assert parse_moment("2026-05-01T06:00:00Z", tz, "from") == utc(2026, 5, 1, 6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-13-01",
        "2026-02-30",
        "0001-01-01",
        "now",
        "20260501",
        "2026-W18-5",
        "2026-05-01T06",
        "2026-05-01x06:00",
        "٢٠٢٦-05-01",
        "1899-12-31T23:59:59Z",
        "2300-01-01T00:00:00Z",
        "2300-01-02",
        "x" * 100_000,
    ],
)
def test_what_is_no_moment_is_refused_by_name(text):
    with pytest.raises(Invalid) as caught:
        parse_moment(text, zone("Asia/Kolkata"), "from")
    assert caught.value.field == "from"
    assert len(caught.value.message) < 200
