"""Windows: they cover the range, and their borders lie on the zone's wall clock."""

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import (
    DAY_US,
    FIRST_US,
    HOUR_US,
    LAST_US,
    SECOND_US,
    from_us,
    parse_rfc3339,
    to_us,
)
from tallybook.meter.window import WINDOWS_MAX, bounds, floor_grid, uniform_width

MINUTE_US = 60 * SECOND_US
ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe",
    "Pacific/Apia", "America/St_Johns", "America/Sao_Paulo", "America/Havana", "Asia/Kathmandu",
    "Africa/Monrovia", "Europe/Amsterdam", "Antarctica/Troll", "Pacific/Kwajalein",
]  # fmt: skip
INSTANTS = st.integers(
    to_us(datetime(1850, 1, 1, tzinfo=UTC)), to_us(datetime(2100, 1, 1, tzinfo=UTC))
)
CHANGES = st.sampled_from(
    [
        "2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2026-03-08T07:00:00Z",
        "2026-11-01T06:00:00Z", "2026-04-04T15:00:00Z", "2026-10-03T15:30:00Z",
        "2011-12-30T10:00:00Z", "2008-03-09T03:31:00Z", "2008-11-02T02:31:00Z",
        "1937-06-30T23:40:28Z", "1972-01-07T00:44:30Z", "1969-09-30T13:00:00Z",
    ]
)  # fmt: skip
SPANS = {"MINUTE": HOUR_US, "HOUR": 3 * DAY_US, "DAY": 60 * DAY_US, "MONTH": 900 * DAY_US}
SIZES = st.sampled_from(sorted(SPANS))


def us(text):
    found = parse_rfc3339(text)
    assert found is not None
    return found


def walls(at, name):
    """Return the wall clock at an instant, as it is read there and as it was read just before."""
    here = from_us(at).astimezone(ZoneInfo(name)).replace(tzinfo=None)
    before = from_us(at - 1).astimezone(ZoneInfo(name)).replace(tzinfo=None)
    return here, before + (from_us(at) - from_us(at - 1))


def aligned(wall, size):
    parts = [wall.microsecond, wall.second]
    if size != "MINUTE":
        parts.append(wall.minute)
    if size in {"DAY", "MONTH"}:
        parts.append(wall.hour)
    if size == "MONTH":
        parts.append(wall.day - 1)
    return not any(parts)


@st.composite
def ranges(draw):
    size = draw(SIZES)
    near = draw(CHANGES.map(us) | INSTANTS)
    start = near - draw(st.integers(0, SPANS[size]))
    return start, start + draw(st.integers(1, 2 * SPANS[size])), size


@given(ranges(), st.sampled_from(ZONES))
def test_borders_cover_the_range_and_are_aligned(asked, name):
    start, end, size = asked
    found = bounds(start, end, size, name)
    assert (found[0], found[-1]) == (start, end)
    assert all(a < b for a, b in pairwise(found))
    for border in found[1:-1]:
        here, before = walls(border, name)
        midnight_skipped = size in {"DAY", "MONTH"} and here.date() > before.date()
        first_of_repeated = size in {"DAY", "MONTH"} and here == before
        assert aligned(here, size) or aligned(before, size) or midnight_skipped, (here, before)
        assert not first_of_repeated or aligned(here, size)


@given(ranges(), st.sampled_from(ZONES), st.data())
def test_every_window_has_one_label(asked, name, data):
    """Two instants of one window are of one local day or month; of one minute or hour but for
    a change within it.
    """
    start, end, size = asked
    found = bounds(start, end, size, name)
    at = data.draw(st.integers(0, len(found) - 2))
    first, last = found[at], found[at + 1] - 1
    tz = ZoneInfo(name)
    a, b = from_us(first).astimezone(tz), from_us(last).astimezone(tz)
    if size == "MONTH":
        assert (a.year, a.month) == (b.year, b.month)
    elif size == "DAY" and a.utcoffset() == b.utcoffset():
        assert a.date() == b.date()
    elif a.utcoffset() == b.utcoffset():
        width = {"MINUTE": MINUTE_US, "HOUR": HOUR_US}.get(size, DAY_US)
        assert last - first < width


@given(ranges(), st.sampled_from(ZONES))
def test_a_cut_range_keeps_the_borders_inside_it(asked, name):
    start, end, size = asked
    whole = bounds(start, end, size, name)
    middle = (start + end) // 2
    if start < middle < end:
        parts = (*bounds(start, middle, size, name)[:-1], *bounds(middle, end, size, name))
        assert set(parts) == {*whole, middle}


def widths(start, end, size, name):
    return [(b - a) // MINUTE_US for a, b in pairwise(bounds(us(start), us(end), size, name))]


def test_days_of_23_and_25_hours():
    assert widths("2026-03-27T23:00:00Z", "2026-03-30T22:00:00Z", "DAY", "Europe/Berlin") == [
        24 * 60, 23 * 60, 24 * 60,
    ]  # fmt: skip
    assert widths("2026-10-31T04:00:00Z", "2026-11-03T05:00:00Z", "DAY", "America/New_York") == [
        24 * 60, 25 * 60, 24 * 60,
    ]  # fmt: skip


def test_both_hours_of_one_name_are_kept_apart():
    found = bounds(
        us("2026-11-01T04:00:00Z"), us("2026-11-01T08:00:00Z"), "HOUR", "America/New_York"
    )
    hours = [from_us(b).astimezone(ZoneInfo("America/New_York")).hour for b in found]
    assert hours == [0, 1, 1, 2, 3]


def test_a_skipped_hour_has_no_window():
    found = bounds(us("2026-03-29T00:00:00Z"), us("2026-03-29T03:00:00Z"), "HOUR", "Europe/Berlin")
    hours = [from_us(b).astimezone(ZoneInfo("Europe/Berlin")).hour for b in found]
    assert hours == [1, 3, 4, 5]


def test_half_hour_zones_start_at_their_own_full_hours():
    found = bounds(us("2026-05-01T00:00:00Z"), us("2026-05-01T03:00:00Z"), "HOUR", "Asia/Kolkata")
    assert [b % HOUR_US // MINUTE_US for b in found] == [0, 30, 30, 30, 0]
    days = bounds(us("2026-05-01T00:00:00Z"), us("2026-05-03T00:00:00Z"), "DAY", "Asia/Kolkata")
    assert [b % DAY_US // MINUTE_US for b in days] == [0, 18 * 60 + 30, 18 * 60 + 30, 0]


def test_a_change_of_half_an_hour_splits_there():
    # 4 April 2026, 15:00 UTC: clocks go from 02:00 back to 01:30
    assert widths(
        "2026-04-04T14:00:00Z", "2026-04-04T16:30:00Z", "HOUR", "Australia/Lord_Howe"
    ) == [60, 30, 60]
    # 3 October 2026, 15:30 UTC: from 02:00 on to 02:30
    assert widths(
        "2026-10-03T14:30:00Z", "2026-10-03T17:00:00Z", "HOUR", "Australia/Lord_Howe"
    ) == [60, 30, 60]


def test_a_day_that_a_zone_skipped_has_no_window():
    found = bounds(us("2011-12-28T10:00:00Z"), us("2012-01-01T10:00:00Z"), "DAY", "Pacific/Apia")
    days = [from_us(b).astimezone(ZoneInfo("Pacific/Apia")).day for b in found]
    assert days == [28, 29, 31, 1, 2]


def test_a_range_that_starts_within_the_change_is_aligned_after_it():
    # Newfoundland changed at 00:01, so the hour around it is cut by no border
    assert widths("2008-03-09T02:30:00Z", "2008-03-09T05:30:00Z", "HOUR", "America/St_Johns") == [
        60, 60, 60,
    ]  # fmt: skip


def test_months_are_the_zone_s():
    found = bounds(us("2025-12-31T23:00:00Z"), us("2026-05-01T00:00:00Z"), "MONTH", "Europe/Berlin")
    texts = [from_us(b).isoformat()[:16] for b in found]
    assert texts == [
        "2025-12-31T23:00", "2026-01-31T23:00", "2026-02-28T23:00", "2026-03-31T22:00",
        "2026-04-30T22:00", "2026-05-01T00:00",
    ]  # fmt: skip


def test_before_1970_too():
    found = bounds(us("1969-12-31T22:30:00Z"), us("1970-01-01T01:30:00Z"), "HOUR")
    assert [b // MINUTE_US for b in found] == [-90, -60, 0, 60, 90]


def test_without_a_size_there_is_one_window():
    assert bounds(3, 5, None, "Asia/Kolkata") == (3, 5)
    assert bounds(FIRST_US, LAST_US, None) == (FIRST_US, LAST_US)


@pytest.mark.parametrize(
    ("start", "end", "size", "name", "field"),
    [
        (5, 5, "DAY", "UTC", "to"),
        (6, 5, None, "UTC", "to"),
        (0, 1, "DAY", "Mars/Olympus", "zone"),
        (0, (WINDOWS_MAX + 2) * MINUTE_US, "MINUTE", "UTC", "windowSize"),
        (FIRST_US, 5, "MONTH", "UTC", "from"),
        (LAST_US - DAY_US, LAST_US, "DAY", "Asia/Kolkata", "from"),
    ],
)
def test_impossible_questions_name_the_field(start, end, size, name, field):
    with pytest.raises(Invalid) as caught:
        bounds(start, end, size, name)
    assert caught.value.field == field


def test_equal_widths_are_recognised():
    assert uniform_width((0, 5, 10)) == 5
    assert uniform_width((0, 5)) == 5
    assert uniform_width((0, 5, 11)) is None


@given(INSTANTS)
def test_the_grid_contains_its_instants(at):
    assert 0 <= at - floor_grid(at) < 15 * MINUTE_US
    assert floor_grid(at) % (15 * MINUTE_US) == 0
