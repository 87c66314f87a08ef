"""The calendar windows of quotas: days, weeks and months as a clock on the wall shows them.

A window begins at the same local hour whatever the clock does, so a day with a clock change has 23
or 25 hours. Source: docs/algorithms/limits.md.
"""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from tallybook.admit.plan.limit import Quota
from tallybook.kernel.period import Period, local_us, month_start, zone
from tallybook.kernel.timestamps import from_us

HOUR_US = 3_600_000_000
KNOWN_MAX = 10_000

_known: dict[tuple[str, int, int, str], Period] = {}


def window(quota: Quota, zone_name: str, at_us: int) -> Period:
    """Return the window of a quota that contains an instant.

    Cost: a look-up while the window is the one that was asked for last.
    """
    key = (quota.window, quota.hour, quota.day, zone_name)
    found = _known.get(key)
    if found is None or not found.start_us <= at_us < found.end_us:
        if len(_known) >= KNOWN_MAX:
            _known.clear()
        found = _known[key] = _drawn(quota, zone(zone_name), at_us)
    return found


def _drawn(quota: Quota, tz: ZoneInfo, at_us: int) -> Period:
    borders = [_border(quota, tz, at_us, step) for step in (-1, 0, 1, 2)]
    start = max(border for border in borders if border <= at_us)
    return Period(start, min(border for border in borders if border > at_us))


def _border(quota: Quota, tz: ZoneInfo, at_us: int, step: int) -> int:
    """Return where a window near an instant begins: the one of its date, or some steps on."""
    local = from_us(at_us).astimezone(tz)
    first = datetime(local.year, local.month, local.day)  # noqa: DTZ001 - a wall-clock date
    if quota.window == "day":
        first += timedelta(days=step)
    elif quota.window == "week":
        first += timedelta(days=7 * step - (first.isoweekday() - quota.day) % 7)
    else:
        start = from_us(month_start(local.year, local.month + step, quota.day, tz)).astimezone(tz)
        first = datetime(start.year, start.month, start.day)  # noqa: DTZ001 - as above
    return local_us(first + timedelta(hours=quota.hour), tz)
