"""Instants as microseconds since 1970 in UTC, and their RFC 3339 spelling.

Event time, receipt time and effective time are three fields; all are microseconds UTC inside.
"""

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOCAL_EPOCH = EPOCH.replace(tzinfo=None)
MICROSECOND = timedelta(microseconds=1)
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
FIRST_US = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
"""The first instant that has a date: the beginning of the year 1."""
LAST_US = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
"""The last instant that has a date: the end of the year 9999."""

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))\Z",
    re.ASCII,
)


def to_us(moment: datetime) -> int:
    """Return microseconds since 1970; `moment` must be aware."""
    assert moment.tzinfo is not None, "a naive datetime has no instant"
    return (moment - EPOCH) // MICROSECOND


def from_us(us: int) -> datetime:
    """Return the aware UTC datetime of an instant."""
    return EPOCH + timedelta(microseconds=us)


def parse_rfc3339(text: str) -> int | None:
    """Return the instant that an RFC 3339 text names, or None; of the years 1 to 9999 in UTC.

    Digits past the microsecond are cut, so that two spellings of one moment never differ by
    rounding up into the next window; a leap second is the last microsecond of its minute.
    """
    match = _RFC3339.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, offset_h, offset_m = match.groups()
    micro = int((fraction or "0")[:6].ljust(6, "0"))
    seconds = int(second)
    if seconds == 60:
        seconds, micro = 59, 999_999
    if offset_h is not None and (int(offset_h) > 23 or int(offset_m) > 59):
        return None
    try:
        local = datetime(
            int(year), int(month), int(day), int(hour), int(minute), seconds, micro, tzinfo=UTC
        )
    except ValueError:
        return None
    offset_us = (int(offset_h or 0) * 3600 + int(offset_m or 0) * 60) * SECOND_US
    us = to_us(local) - (-offset_us if sign == "-" else offset_us)
    return us if FIRST_US <= us <= LAST_US else None


def format_us(us: int) -> str:
    """Return the canonical RFC 3339 spelling, in UTC with a `Z`, fraction only when needed."""
    return f"{(_LOCAL_EPOCH + timedelta(microseconds=us)).isoformat()}Z"
