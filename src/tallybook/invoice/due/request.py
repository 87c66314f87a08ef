"""What a run is asked for, and the instants that it looks at.

Source: docs/algorithms/periods.md; DECISIONS 26.
"""

import re

import msgspec

from tallybook.catalog.subscription import StoredPeriod
from tallybook.kernel.errors import Invalid
from tallybook.kernel.period import month_start, zone
from tallybook.kernel.timestamps import format_us

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])\Z")


class BillRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is asked for: a month, or an instant. Exactly one of the two.

    Attributes:
        period: 'YYYY-MM': every period that ends in that month of the customer's zone.
        until_us: what is open so far, up to this instant, microseconds UTC.
    """

    period: str | None = None
    until_us: int | None = None

    def __str__(self) -> str:
        """Return it as the manifest names it."""
        return self.period or f"until {format_us(self.until_us or 0)}"


class Horizon(msgspec.Struct, frozen=True):
    """The instants that a run looks at, in one zone.

    Attributes:
        after_us: periods that end at or before this are left alone; None for no bound.
        until_us: usage before this, and fees due by then, are billed.
        whole: only periods that end by `until_us` are billed for their usage.
        now_us: what ends after this has not ended; what starts after it has not started.
        quiet_us: closed periods that end at or before this have no new usage, and are not asked
            again unless an amendment changes them; None where nobody knows.
    """

    after_us: int | None
    until_us: int
    whole: bool
    now_us: int
    quiet_us: int | None = None

    def asks_for(self, period: StoredPeriod) -> bool:
        """Whether the usage of a period is asked for."""
        if not self.whole:
            return True
        after = self.after_us is None or period.end_us > self.after_us
        return after and period.end_us <= self.until_us

    def waits_for(self, period: StoredPeriod) -> bool:
        """Whether a period is asked for that has not ended yet."""
        return self.whole and self.asks_for(period) and period.end_us > self.now_us

    def reached(self, period: StoredPeriod) -> bool:
        """Whether a period has begun, and is not left alone."""
        begun = period.start_us <= min(self.until_us, self.now_us)
        return begun and (self.after_us is None or period.end_us > self.after_us)

    def quiet(self, period: StoredPeriod) -> bool:
        """Whether nothing new can have happened in a closed period."""
        return self.quiet_us is not None and period.end_us <= self.quiet_us


def check_request(request: BillRequest, now_us: int) -> BillRequest:
    """Return the request when it can be followed.

    Raises:
        Invalid: neither or both given, not a month, or an instant in the future.
    """
    if (request.period is None) == (request.until_us is None):
        raise Invalid("give either period, such as 2026-11, or until", field="period")
    if request.period is not None and not _MONTH.match(request.period):
        message = f"period '{request.period}' is not a month such as 2026-11"
        raise Invalid(message, field="period")
    if request.until_us is not None and request.until_us > now_us:
        raise Invalid("until lies in the future; usage is billed up to now at most", field="until")
    return request


def horizon(
    request: BillRequest, zone_name: str, now_us: int, quiet_us: int | None = None
) -> Horizon:
    """Return the instants a run looks at for customers of a zone."""
    if request.period is None:
        assert request.until_us is not None, "check_request lets one through"
        return Horizon(None, request.until_us, whole=False, now_us=now_us, quiet_us=quiet_us)
    year, month = (int(part) for part in request.period.split("-"))
    tz = zone(zone_name)
    start, end = month_start(year, month, 1, tz), month_start(year, month + 1, 1, tz)
    return Horizon(start, end, whole=True, now_us=now_us, quiet_us=quiet_us)
