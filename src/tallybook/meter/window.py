"""Windows: half-open, aligned in the asked time zone, right across clock changes (DECISIONS 15).

Source: CONTRACTS §4.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo

from tallybook.kernel.errors import Invalid
from tallybook.kernel.period import local_us, month_start, zone
from tallybook.kernel.timestamps import DAY_US, FIRST_US, LAST_US, SECOND_US, from_us

WindowSize = Literal["MINUTE", "HOUR", "DAY", "MONTH"]
WINDOWS_MAX = 100_000
GRID_US = 15 * 60 * SECOND_US
"""Roll-ups lie on a 15-minute UTC grid, which every zone's midnight of today falls on."""

_YEAR_US = 366 * DAY_US
_WIDTH_US = {"MINUTE": 60 * SECOND_US, "HOUR": 3600 * SECOND_US}


def bounds(start_us: int, end_us: int, size: WindowSize | None, tz: str = "UTC") -> tuple[int, ...]:
    """Return the borders of the windows that cover a range.

    The first and the last window are cut to the range; borders between lie on whole minutes,
    hours, days or months of the zone's wall clock, as it is read at the border or just before.
    An hour that a clock change repeats is two windows; a day that a zone skipped is none.

    Args:
        start_us: first instant, microseconds UTC.
        end_us: first instant after the range.
        size: None for one window.
        tz: IANA name.

    Returns:
        Strictly growing instants, at least two.

    Raises:
        Invalid: empty range, unknown zone, more than `WINDOWS_MAX` windows, or outside the years
            in which every zone has a calendar (2 to 9998).
    """
    if start_us >= end_us:
        raise Invalid("'to' must be after 'from'", field="to")
    found = [start_us]
    if size is not None:
        if start_us < FIRST_US + _YEAR_US or end_us > LAST_US - _YEAR_US:
            raise Invalid("windows need a range within the years 2 to 9998", field="from")
        local = zone(tz)
        inner = (
            _fixed(start_us, end_us, _WIDTH_US[size], local)
            if size in _WIDTH_US
            else _calendar(start_us, size, local)
        )
        for border in inner:
            if border >= end_us:
                break
            if border > found[-1]:
                found.append(border)
            if len(found) > WINDOWS_MAX:
                raise Invalid(
                    f"more than {WINDOWS_MAX} windows; ask for a wider window", field="windowSize"
                )
    return (*found, end_us)


def _offset_us(us: int, tz: ZoneInfo) -> int:
    if tz.key == "UTC":
        return 0  # a month by the hour asks a thousand times
    offset = from_us(us).astimezone(tz).utcoffset()
    assert offset is not None, "an aware time has an offset"
    return offset // timedelta(microseconds=1)


def _fixed(start_us: int, end_us: int, width: int, tz: ZoneInfo) -> Iterator[int]:
    at = start_us
    while at < end_us:
        offset = _offset_us(at, tz)
        following = at - (at + offset) % width + width
        if _offset_us(following - 1, tz) != offset:
            change = _change(at, following, tz)
            following = change + -(change + _offset_us(change, tz)) % width
        yield following
        at = following


def _change(before: int, after: int, tz: ZoneInfo) -> int:
    """Return the first instant after `before` with another offset; there is one before `after`."""
    offset = _offset_us(before, tz)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (middle, after) if _offset_us(middle, tz) == offset else (before, middle)
    return after


def _calendar(start_us: int, size: str, tz: ZoneInfo) -> Iterator[int]:
    local = from_us(start_us).astimezone(tz)
    step = 0
    while True:
        step += 1
        if size == "MONTH":
            yield month_start(local.year, local.month + step, 1, tz)
        else:
            day = datetime(local.year, local.month, local.day) + timedelta(days=step)  # noqa: DTZ001
            yield local_us(day, tz)


def uniform_width(borders: tuple[int, ...]) -> int | None:
    """Return the width when all windows are equally wide, so that integer arithmetic finds them."""
    width = borders[1] - borders[0]
    even = all(b - a == width for a, b in pairwise(borders))
    return width if even else None


def floor_grid(us: int) -> int:
    """Return the start of the roll-up bucket that contains an instant."""
    return us - us % GRID_US
