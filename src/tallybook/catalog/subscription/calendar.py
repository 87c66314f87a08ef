"""Whole periods of any interval: where the one that contains an instant begins and ends.

Steps of the calendar are counted from an anchor in the customer's zone, never from the period
before, so that no step drifts: the 31st, the 28th, the 31st again.

Source: docs/algorithms/periods.md
"""

from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from tallybook.catalog.entitlement.recurrence import Interval, Recurrence, parse_step
from tallybook.kernel.errors import Invalid
from tallybook.kernel.period import Period, month_start, zone
from tallybook.kernel.timestamps import from_us, to_us

MONTHS_A_YEAR = 12
_FIRST_YEAR = 1970
_FIRST_MONDAY = 5
"""The 5th of January 1970 was a Monday."""
_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
_LATEST = datetime(2300, 1, 1, tzinfo=UTC)


class Alignment(msgspec.Struct, frozen=True):
    """What periods of every interval are aligned to.

    Attributes:
        anchor_day: months start on this day, 1..31, years on this day of January, weeks on Monday.
        anchor_us: an instant that is a start of a period, of every interval, in place of it.
    """

    anchor_day: int = 1
    anchor_us: int | None = None


def calendar_ok(field: str, at_us: int) -> int:
    """Return an instant that periods may be counted from: every step from it has a date.

    Raises:
        Invalid: before 1900, or in 2300 or later.
    """
    if not to_us(_EARLIEST) <= at_us < to_us(_LATEST):
        message = f"{field} must be a date of the years {_EARLIEST.year} to {_LATEST.year - 1}"
        raise Invalid(message, field=field)
    return at_us


def whole_period(alignment: Alignment, interval: str, at_us: int, zone_name: str) -> Period:
    """Return the whole period of an interval that contains an instant.

    Args:
        alignment: of the subscription.
        interval: an ISO 8601 duration such as P1M.
        at_us: microseconds UTC.
        zone_name: whose calendar counts.

    Raises:
        Invalid: the interval or the zone is none, or the period has no date.
    """
    return _whole(alignment.anchor_day, alignment.anchor_us, interval, at_us, zone_name)


@lru_cache(maxsize=65_536)
def _whole(day: int, anchor_us: int | None, interval: str, at_us: int, zone_name: str) -> Period:
    """Cost: many subscriptions share their periods, so the calendar is asked once for all."""
    step = parse_step("interval", interval)
    if anchor_us is None:
        anchor_us = _anchor(day, step, at_us, zone_name)
    return Recurrence(interval=step, anchor_us=anchor_us, zone=zone_name).around(at_us)


def _anchor(day: int, step: Interval, at_us: int, zone_name: str) -> int:
    """Return an instant that periods without an anchor of their own are counted from."""
    tz = zone(zone_name)
    if not step.months:
        monday = step.days % 7 == 0
        return month_start(_FIRST_YEAR, 1, _FIRST_MONDAY if monday else 1, tz)
    # January has 31 days: every anchor day is there, and the steps after it clamp without drift.
    divides = not step.days and MONTHS_A_YEAR % step.months == 0
    year = from_us(at_us).astimezone(tz).year if divides else _FIRST_YEAR
    return month_start(year, 1, day, tz)


def divides(smaller: str, larger: str) -> bool:
    """Whether whole periods of one interval fill those of another: P1M a P1Y, P1W a P4W.

    Months and days are not counted in each other, because months differ in length.
    """
    one, many = parse_step("interval", smaller), parse_step("interval", larger)
    parts = [(one.months, many.months), (one.days, many.days), (one.exact_us, many.exact_us)]
    used = [(a, b) for a, b in parts if a or b]
    return len(used) == 1 and used[0][0] > 0 and used[0][1] > 0 and used[0][1] % used[0][0] == 0
