"""Intervals of the calendar and the steps they make from an anchor, in a zone, without drift.

Source: docs/algorithms/entitlements.md, usage periods
"""

import re
from datetime import datetime, timedelta
from functools import lru_cache

import msgspec

from tallybook.kernel.errors import Invalid
from tallybook.kernel.period import Period, local_us, zone
from tallybook.kernel.timestamps import DAY_US, HOUR_US, SECOND_US, from_us

_ISO = re.compile(
    r"P(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,5})D)?"
    r"(?:T(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,7})S)?)?\Z",
    re.ASCII,
)
_MONTH_US = 28 * DAY_US
"""The shortest month: no step of months is shorter."""
STEP_US_MIN = HOUR_US
"""The shortest step of a recurrence."""


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A span of the calendar.

    Attributes:
        months: years are twelve of them.
        days: of the local calendar, so 23 or 25 hours long when clocks change; weeks are seven.
        exact_us: hours, minutes and seconds, as elapsed time.
    """

    months: int = 0
    days: int = 0
    exact_us: int = 0


def parse_interval(field: str, text: str) -> Interval:
    """Return what an ISO 8601 duration such as P1M, P30D or PT1H means.

    Raises:
        Invalid: it is none, or has no length.
    """
    match = _ISO.match(text)
    if match is None:
        raise Invalid(f"{field} must be a duration such as P1M, P1W or PT1H", field=field)
    years, months, weeks, days, hours, minutes, seconds = (int(n or 0) for n in match.groups())
    interval = Interval(
        months=12 * years + months,
        days=7 * weeks + days,
        exact_us=((hours * 60 + minutes) * 60 + seconds) * SECOND_US,
    )
    if interval == Interval():
        raise Invalid(f"{field} must be longer than nothing", field=field)
    return interval


def parse_step(field: str, text: str) -> Interval:
    """Return the interval of a recurrence; raises Invalid, also for one below an hour."""
    interval = parse_interval(field, text)
    if _shortest_us(interval) < STEP_US_MIN:
        raise Invalid(f"{field} must be an hour or longer", field=field)
    return interval


@lru_cache(maxsize=16_384)
def plus(at_us: int, interval: Interval, times: int, zone_name: str) -> int:
    """Return the instant `times` intervals after another, before it where `times` is negative.

    Always counted from the given instant: the 31st, a month later the 30th, is the 31st again the
    month after. Remembered, because the periods of many customers begin together.

    Raises:
        Invalid: it has no date.
    """
    exact = at_us
    if interval.months or interval.days:
        tz = zone(zone_name)
        local = from_us(at_us).astimezone(tz).replace(tzinfo=None)
        try:
            moved = _months_later(local, interval.months * times)
            exact = local_us(moved + timedelta(days=interval.days * times), tz)
        except (ValueError, OverflowError) as error:
            raise Invalid("the interval leads to no date", field="interval") from error
    return exact + interval.exact_us * times


def _months_later(local: datetime, months: int) -> datetime:
    index = local.year * 12 + local.month - 1 + months
    first = local.replace(year=index // 12, month=index % 12 + 1, day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return first.replace(day=min(local.day, (following - timedelta(days=1)).day))


def _shortest_us(interval: Interval) -> int:
    days_us = interval.days * DAY_US - (HOUR_US if interval.days else 0)
    return interval.months * _MONTH_US + days_us + interval.exact_us


class Recurrence(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of an interval before and after an anchor.

    Attributes:
        interval: an hour or longer.
        anchor_us: an instant that is a step, in the past or the future.
        zone: IANA name; days and months are of its calendar.
    """

    interval: Interval
    anchor_us: int
    zone: str = "UTC"

    def step(self, number: int) -> int:
        """Return the instant of a step; 0 is the anchor."""
        return plus(self.anchor_us, self.interval, number, self.zone)

    def number_at(self, at_us: int) -> int:
        """Return the number of the newest step that is not after an instant."""
        mean = self.interval.months * 30 * DAY_US + self.interval.days * DAY_US
        number = (at_us - self.anchor_us) // (mean + self.interval.exact_us)
        while self.step(number) > at_us:
            number -= 1
        while self.step(number + 1) <= at_us:
            number += 1
        return number

    def around(self, at_us: int) -> Period:
        """Return the span between two steps that contains an instant."""
        number = self.number_at(at_us)
        return Period(self.step(number), self.step(number + 1))

    def within(self, after_us: int, until_us: int) -> list[int]:
        """Return the steps after one instant and not after another."""
        if until_us <= after_us:
            return []
        last = self.number_at(until_us)
        return [self.step(n) for n in range(self.number_at(after_us) + 1, last + 1)]
