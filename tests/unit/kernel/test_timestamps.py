"""Instants and their RFC 3339 spelling."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.kernel.timestamps import FIRST_US, LAST_US, format_us, from_us, parse_rfc3339, to_us

INSTANTS = st.integers(FIRST_US, LAST_US)
OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59)


@given(INSTANTS)
def test_an_instant_survives_its_spelling(us):
    text = format_us(us)
    assert parse_rfc3339(text) == us
    assert parse_rfc3339(text.lower()) == us
    assert parse_rfc3339(text.replace("T", " ")) == us
    assert to_us(from_us(us)) == us


@given(INSTANTS, OFFSETS)
def test_an_offset_names_the_same_instant(us, minutes):
    try:
        local = from_us(us).astimezone(timezone(timedelta(minutes=minutes)))
    except OverflowError:
        return
    assert parse_rfc3339(local.isoformat(timespec="microseconds")) == us


@given(INSTANTS, st.text("0123456789", max_size=30))
def test_digits_past_the_microsecond_are_cut(us, digits):
    text = from_us(us).strftime("%H:%M:%S.%f") + digits
    date = from_us(us).date().isoformat()
    assert parse_rfc3339(f"{date}T{text}Z") == us


@given(INSTANTS, INSTANTS)
def test_canonical_spellings_with_the_same_digits_sort_by_time(a, b):
    texts = [from_us(us).isoformat(timespec="microseconds") for us in (a, b)]
    assert (a < b) == (texts[0] < texts[1])


def test_known_instants():
    assert parse_rfc3339("1970-01-01T00:00:00Z") == 0
    assert parse_rfc3339("1969-12-31T23:59:59.999999Z") == -1
    assert parse_rfc3339("2026-11-21T08:00:00.5+01:30") == to_us(
        datetime(2026, 11, 21, 6, 30, 0, 500_000, tzinfo=UTC)
    )
    assert format_us(0) == "1970-01-01T00:00:00Z"
    assert format_us(-1) == "1969-12-31T23:59:59.999999Z"
    assert format_us(FIRST_US) == "0001-01-01T00:00:00Z"
    assert format_us(1) == "1970-01-01T00:00:00.000001Z"


def test_a_leap_second_is_the_last_microsecond_of_its_minute():
    assert parse_rfc3339("2016-12-31T23:59:60Z") == parse_rfc3339("2016-12-31T23:59:59.999999Z")
    assert parse_rfc3339("2016-12-31T23:59:60.5Z") == parse_rfc3339("2016-12-31T23:59:59.999999Z")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-21",
        "2026-11-21T08:00Z",
        "2026-11-21T08:00:00",
        "2026-11-21T08:00:00.Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T08:60:00Z",
        "2026-11-21T08:00:61Z",
        "2026-02-29T08:00:00Z",
        "2026-13-01T08:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-11-21T08:00:00+24:00",
        "2026-11-21T08:00:00+01:60",
        "2026-11-21T08:00:00+0100",
        " 2026-11-21T08:00:00Z",
        "2026-11-21T08:00:00Z ",
        "2026-11-21T08:00:00Z\n",
        "+2026-11-21T08:00:00Z",
        "2026-1-1T08:00:00Z",
        "\uff12\uff10\uff12\uff16-11-21T08:00:00Z",
        "2026-11-21T08:00:00.\u0661Z",
        "20261121T080000Z",
        "1763712000",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
    ],
)
def test_what_is_no_rfc3339_time_is_none(text):
    assert parse_rfc3339(text) is None
