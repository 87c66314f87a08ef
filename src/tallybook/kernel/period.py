"""Half-open periods and calendar steps that never drift (31 January, 28 February, 31 March)."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import from_us, parse_rfc3339, to_us

EARLIEST_US = to_us(datetime(1900, 1, 1, tzinfo=UTC))
LATEST_US = to_us(datetime(2300, 1, 1, tzinfo=UTC))
"""Instants that people name lie from the one to before the other: every step from them has a date.
"""
TEXT_SHOWN_MAX = 40
_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?)?\Z", re.ASCII
)


class Period(msgspec.Struct, frozen=True, order=True):
    """The instants `start_us <= t < end_us`, microseconds UTC."""

    start_us: int
    end_us: int

    def __post_init__(self) -> None:
        """A period is never empty."""
        if self.start_us >= self.end_us:
            raise Invalid("a period must end after it starts", field="period")

    def __contains__(self, us: int) -> bool:
        """Whether the instant lies inside."""
        return self.start_us <= us < self.end_us

    def clip(self, other: "Period") -> "Period | None":
        """Return the part both share, or None."""
        start, end = max(self.start_us, other.start_us), min(self.end_us, other.end_us)
        return Period(start, end) if start < end else None


def zone(name: str) -> ZoneInfo:
    """Return an IANA time zone; raises Invalid for an unknown one."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid(
            f"'{name}' is not an IANA time zone, such as Europe/Berlin", field="zone"
        ) from error


def local_us(local: datetime, tz: ZoneInfo) -> int:
    """Return the instant of a naive local time.

    A time that a clock change skips is read with the offset before the change; one that occurs
    twice is its first occurrence.
    """
    return to_us(local.replace(tzinfo=tz, fold=0).astimezone(UTC))


def month_start(year: int, month: int, day: int, tz: ZoneInfo) -> int:
    """Return local midnight of `day`, or of the month's last day where the month is shorter.

    Args:
        year: any; `month` may lie outside 1..12 and carries into it.
        month: 1 is January.
        day: 1..31, the anchor day, kept for all months (no drift).
        tz: the customer's zone.
    """
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    following = datetime(year + month // 12, month % 12 + 1, 1)
    last = (following - timedelta(days=1)).day
    return local_us(datetime(year, month, min(day, last)), tz)


def month_period(at_us: int, anchor_day: int, tz: ZoneInfo) -> Period:
    """Return the monthly period with this anchor day that contains an instant."""
    local = from_us(at_us).astimezone(tz)
    start = month_start(local.year, local.month, anchor_day, tz)
    shift = 0 if start <= at_us else -1
    start = month_start(local.year, local.month + shift, anchor_day, tz)
    end = month_start(local.year, local.month + shift + 1, anchor_day, tz)
    return Period(start, end)


def days_between(start_us: int, end_us: int, tz: ZoneInfo) -> int:
    """Return the number of local calendar days from one instant's date to the other's."""
    first = from_us(start_us).astimezone(tz).date()
    last = from_us(end_us).astimezone(tz).date()
    return (last - first).days


def parse_moment(text: str, tz: ZoneInfo, field: str) -> int:
    """Return the instant of an RFC 3339 text, or of a local date or date and time in a zone.

    Args:
        text: '2026-05-01T00:00:00Z', '2026-05-01' (local midnight) or '2026-05-01T06:00:00'.
        tz: the zone of a text that names no offset.
        field: named when it is refused.

    Raises:
        Invalid: neither, or before 1900, or in 2300 or later.
    """
    at = parse_rfc3339(text)
    if at is None:
        at = _local_moment(text, tz, field)
    if not EARLIEST_US <= at < LATEST_US:
        raise Invalid(f"{field} must be a date of the years 1900 to 2299", field=field)
    return at


def _local_moment(text: str, tz: ZoneInfo, field: str) -> int:
    try:
        if _MOMENT.match(text) is None:
            raise ValueError(text)
        local = datetime.fromisoformat(text)
        return to_us(local) if local.tzinfo is not None else local_us(local, tz)
    except (ValueError, OverflowError) as error:
        shown = text if len(text) <= TEXT_SHOWN_MAX else f"{text[:TEXT_SHOWN_MAX]}…"
        message = f"'{shown}' is neither a date such as 2026-05-01 nor an RFC 3339 time"
        raise Invalid(message, field=field) from error
