"""A subscription: a customer on a plan from a day on; and its periods, stored when opened.

A stored period is never recomputed: a later change of zone, anchor day or plan begins with the
period that is opened next. No step drifts: an anchor day of 31 means the last day of a short
month and the 31st again after it.

Source: DECISIONS 21, 26; docs/algorithms/periods.md
"""

from collections.abc import Iterator
from decimal import Decimal

import msgspec

from tallybook.catalog.amendment import Amendment
from tallybook.catalog.meter import name_ok
from tallybook.catalog.price import Price
from tallybook.kernel.errors import Invalid
from tallybook.kernel.period import Period, month_period, parse_moment, zone

PERIODS_MAX = 12_000
"""Periods opened in one go: a thousand years of months."""


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """A customer on a plan.

    Attributes:
        key: stable name, unique within the tenant.
        plan_version: pinned, or None for the newest at the time each period is opened.
        start_us: first instant, microseconds UTC.
        end_us: first instant after it, or None for "for good".
        anchor_day: day of the month on which periods start, 1..31.
        rule: key of the customer rule that made it; '' for none.
        anchor_us: an instant that is a start of a period, of every interval; None to align by
            `anchor_day`: months on that day, years on that day of January, weeks on Monday.
        base: key of the subscription that this add-on belongs to; it ends and pauses with it.
        quantities: charge key -> units of a fixed fee from the start on.
        prices: charge key -> this customer's own price from the start on.
        minimum: commitment for a whole period in place of the plan's.
        thresholds: in place of the plan's; None for the plan's.
        amendments: in the order they were recorded.
    """

    key: str
    customer: str
    plan: str
    start_us: int
    end_us: int | None = None
    anchor_day: int = 1
    plan_version: int | None = None
    rule: str = ""
    anchor_us: int | None = None
    base: str = ""
    quantities: dict[str, Decimal] = {}
    prices: dict[str, Price] = {}
    minimum: Decimal | None = None
    thresholds: tuple[Decimal, ...] | None = None
    amendments: tuple[Amendment, ...] = ()


class StoredPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """One period of a subscription, as it was opened.

    Attributes:
        start_us: first instant that counts; later than `full_start_us` in a partial first period.
        end_us: first instant after it; earlier than `full_end_us` in a partial last period.
        full_start_us: where the whole period starts; the denominator of proration.
        full_end_us: where the whole period ends.
        plan_version: the plan's version when it was opened.
        meters: meter key -> version; follows corrections while open, fixed once closed.
        until_us: usage before this was billed; `start_us` where nothing was.
        cut: snapshot of the newest billing.
        closed: billed past its end; its usage still counts, as adjustments.
        interval: of which of the plan's intervals it is a period, such as P1M.
        phase: key of the plan's phase; '' for none.
        prices: this customer's own prices when it was opened.
        credited: a fee in advance shrinks where an amendment shortens the period.
    """

    subscription: str
    start_us: int
    end_us: int
    full_start_us: int
    full_end_us: int
    plan: str
    plan_version: int
    until_us: int
    cut: int = 0
    meters: dict[str, int] = {}
    closed: bool = False
    interval: str = "P1M"
    phase: str = ""
    prices: dict[str, Price] = {}
    credited: bool = True


class SubscriptionSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subscription as it is written; dates without an offset are in the customer's zone."""

    key: str
    customer: str
    plan: str
    start: str
    end: str | None = None
    anchor_day: int = 1
    plan_version: int | None = None


def check_subscription(spec: SubscriptionSpec, zone_name: str) -> Subscription:
    """Return the subscription that a specification means.

    Args:
        spec: as written.
        zone_name: the customer's zone, for dates without an offset.

    Raises:
        Invalid: names the field, and what to write instead.
    """
    name_ok("key", spec.key)
    if not 1 <= spec.anchor_day <= 31:
        raise Invalid("anchor_day must be 1 to 31", field="anchor_day")
    tz = zone(zone_name)
    start = parse_moment(spec.start, tz, "start")
    end = None if spec.end is None else parse_moment(spec.end, tz, "end")
    if end is not None and end <= start:
        raise Invalid("end must be after start", field="end")
    return Subscription(
        key=spec.key,
        customer=spec.customer,
        plan=spec.plan,
        start_us=start,
        end_us=end,
        anchor_day=spec.anchor_day,
        plan_version=spec.plan_version,
    )


def next_bounds(
    subscription: Subscription, last: StoredPeriod | None, zone_name: str
) -> tuple[Period, Period] | None:
    """Return what counts and the whole of the period to open next, or None past the end.

    Args:
        subscription: whose.
        last: the newest stored period, None before the first.
        zone_name: the customer's zone now.
    """
    at = subscription.start_us if last is None else last.end_us
    if subscription.end_us is not None and at >= subscription.end_us:
        return None
    whole = month_period(at, subscription.anchor_day, zone(zone_name))
    counts = whole.clip(Period(at, subscription.end_us or whole.end_us))
    assert counts is not None, "an instant lies in its own period"
    return counts, whole


def open_periods(
    subscription: Subscription,
    last: StoredPeriod | None,
    until_us: int,
    zone_name: str,
    plan_version: int,
) -> Iterator[StoredPeriod]:
    """Yield the periods that start at or before `until_us` and are not stored yet.

    Args:
        subscription: whose.
        last: the newest stored period.
        until_us: microseconds UTC; a period that starts exactly then is opened.
        zone_name: the customer's zone now.
        plan_version: to open them with.
    """
    for _ in range(PERIODS_MAX):
        bounds = next_bounds(subscription, last, zone_name)
        if bounds is None or bounds[0].start_us > until_us:
            return
        counts, whole = bounds
        last = StoredPeriod(
            subscription=subscription.key,
            start_us=counts.start_us,
            end_us=counts.end_us,
            full_start_us=whole.start_us,
            full_end_us=whole.end_us,
            plan=subscription.plan,
            plan_version=plan_version,
            until_us=counts.start_us,
        )
        yield last
    raise Invalid(f"subscription {subscription.key} starts too long ago", field="start")
