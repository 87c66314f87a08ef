"""The times that logs write, as RFC 3339 text with the offset they were written with."""

import re
from decimal import Decimal
from functools import lru_cache

from tallybook.kernel.decimals import parse_decimal
from tallybook.kernel.timestamps import SECOND_US, format_us, parse_rfc3339

_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: f"{number:02d}" for number, name in enumerate(_NAMES, 1)}
_CLF = re.compile(r"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d:\d\d:\d\d) ([+-]\d\d)(\d\d)\Z")
_MILLISECONDS_FROM = Decimal(10) ** 11
_EPOCH_MAX = Decimal(10) ** 14


@lru_cache(maxsize=1024)
def clf_time(text: str) -> str | None:
    """Return '17/May/2015:10:05:03 +0200' as RFC 3339 with the same offset, or None."""
    match = _CLF.match(text)
    if match is None or match[2] not in _MONTHS:
        return None
    day, month, year, clock, hours, minutes = match.groups()
    spelled = f"{year}-{_MONTHS[month]}-{day}T{clock}{hours}:{minutes}"
    return spelled if parse_rfc3339(spelled) is not None else None


def moment(value: object) -> str | None:
    """Return any time a log or an export writes as RFC 3339, or None.

    RFC 3339 text is kept as it is; the common log form keeps its offset; a number, or text that
    is one, is seconds since 1970, and milliseconds from 1e11 on (1e11 s is the year 5138).
    """
    if isinstance(value, str):
        text = value.strip()
        if parse_rfc3339(text) is not None:
            return text
        return clf_time(text) or epoch_time(parse_decimal(text))
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return epoch_time(Decimal(value))
    return None


def epoch_time(value: Decimal | None) -> str | None:
    """Return seconds (or milliseconds) since 1970 as RFC 3339, cut to the microsecond."""
    if value is None or not value.is_finite() or not 0 <= value < _EPOCH_MAX:
        return None
    seconds = value if value < _MILLISECONDS_FROM else value / 1000
    return format_us(int(seconds * SECOND_US))
