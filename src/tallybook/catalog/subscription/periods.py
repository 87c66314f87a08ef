"""Periods of one interval over the stretches of a subscription: tiled, without gap or overlap.

Where a period is stored, its start and its whole are what they were when it was opened; where it
ends follows from the stretches.

Source: docs/algorithms/periods.md
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from tallybook.catalog.subscription.calendar import whole_period
from tallybook.catalog.subscription.subscription import StoredPeriod, Subscription
from tallybook.catalog.subscription.timeline import Stretch, alignment, own_prices, timeline
from tallybook.kernel.errors import Invalid
from tallybook.kernel.period import Period

PERIODS_MAX = 12_000
"""Periods opened in one go: a thousand years of months, 32 years of days."""


class Slot(msgspec.Struct, frozen=True):
    """Where a period lies.

    Attributes:
        start_us: first instant that counts.
        end_us: first instant after it.
        whole: of which it is all or a part.
        stretch: that it lies in.
        stored: the period that was opened there; None where it was not.
    """

    start_us: int
    end_us: int
    whole: Period
    stretch: Stretch
    stored: StoredPeriod | None = None

    @property
    def fees_end_us(self) -> int:
        """Where fees in advance end: later than the rest where a cancellation gives no credit."""
        stretch = self.stretch
        if stretch.credited or self.end_us != stretch.end_us:
            return self.end_us
        uncut = stretch.fees_end_us
        return self.whole.end_us if uncut is None else min(uncut, self.whole.end_us)


def slots(
    stretches: Sequence[Stretch],
    stored: Mapping[int, StoredPeriod],
    until_us: int,
    subscription: Subscription,
    zone_name: str,
    interval: str,
) -> Iterator[Slot]:
    """Yield where the periods of an interval lie that start at or before an instant.

    A stretch that follows another one at once, within the same whole, begins a new part of that
    whole; after a pause, or where the alignment was changed, the calendar is asked anew.

    Args:
        stretches: oldest first, those that have this interval.
        stored: the periods of this interval by their start.
        until_us: microseconds UTC; a period that starts exactly then is given.
        subscription: says how periods are aligned; for an add-on its base.
        zone_name: the customer's zone now.
        interval: how long periods are.

    Raises:
        Invalid: there are more than `PERIODS_MAX`.
    """
    last: Slot | None = None
    for _ in range(PERIODS_MAX):
        stretch, at = _following(stretches, last)
        if stretch is None or at > until_us:
            return
        period = stored.get(at)
        whole = _whole(last, at, period, subscription, zone_name, interval)
        end = whole.end_us if stretch.end_us is None else min(stretch.end_us, whole.end_us)
        last = Slot(at, end, whole, stretch, period)
        yield last
    raise Invalid(f"subscription {subscription.key} starts too long ago", field="start")


def _following(stretches: Sequence[Stretch], last: Slot | None) -> tuple[Stretch | None, int]:
    """Return the stretch and the start of the period after another one."""
    if last is None:
        return (stretches[0], stretches[0].start_us) if stretches else (None, 0)
    if last.end_us != last.stretch.end_us:
        return last.stretch, last.end_us
    place = stretches.index(last.stretch) + 1
    return (stretches[place], stretches[place].start_us) if place < len(stretches) else (None, 0)


def _whole(
    last: Slot | None,
    at_us: int,
    period: StoredPeriod | None,
    subscription: Subscription,
    zone_name: str,
    interval: str,
) -> Period:
    if period is not None:
        return Period(period.full_start_us, period.full_end_us)
    aligned = alignment(subscription, at_us)
    inside = last is not None and last.end_us == at_us < last.whole.end_us
    if last is not None and inside and aligned == alignment(subscription, last.start_us):
        return last.whole
    return whole_period(aligned, interval, at_us, zone_name)


def opened(
    slot: Slot, subscription: Subscription, interval: str, plan_version: int
) -> StoredPeriod:
    """Return a period as it is opened in its place."""
    return StoredPeriod(
        subscription=subscription.key,
        start_us=slot.start_us,
        end_us=slot.end_us,
        full_start_us=slot.whole.start_us,
        full_end_us=slot.whole.end_us,
        plan=slot.stretch.plan,
        plan_version=plan_version,
        until_us=slot.start_us,
        interval=interval,
        phase=slot.stretch.phase,
        prices=own_prices(subscription, slot.start_us),
        credited=slot.stretch.credited or slot.end_us != slot.stretch.end_us,
    )


def open_periods(
    subscription: Subscription,
    stored: Sequence[StoredPeriod],
    until_us: int,
    zone_name: str,
    plan_version: int,
    interval: str = "P1M",
) -> Iterator[StoredPeriod]:
    """Yield the periods that start at or before an instant and are not stored, without phases.

    Args:
        subscription: whose.
        stored: its periods.
        until_us: microseconds UTC; a period that starts exactly then is opened.
        zone_name: the customer's zone now.
        plan_version: to open them with.
        interval: how long they are.
    """
    known = {one.start_us: one for one in stored if one.interval == interval}
    for slot in slots(timeline(subscription), known, until_us, subscription, zone_name, interval):
        if slot.stored is None:
            yield opened(slot, subscription, interval, plan_version)
