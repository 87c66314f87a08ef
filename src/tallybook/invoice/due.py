"""What a run has to bill: which periods, which of their charges, up to which instant.

Pure. Source: docs/algorithms/periods.md, docs/algorithms/rerating.md; DECISIONS 21, 26.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.plan import Charge
from tallybook.catalog.subscription import StoredPeriod, Subscription, open_periods
from tallybook.invoice.manifest import Billed, Group, Item, Position
from tallybook.kernel.errors import Invalid
from tallybook.kernel.period import month_start, zone
from tallybook.kernel.timestamps import format_us

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])\Z")

History = Mapping[Position, Mapping[Group, Billed]]
"""What earlier invoices billed, by position and dimension value."""


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
    """

    after_us: int | None
    until_us: int
    whole: bool
    now_us: int

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


class Due(msgspec.Struct, frozen=True):
    """What a subscription has to bill, and its periods afterwards.

    Attributes:
        items: to rate; some may turn out to have no line.
        periods: new or changed ones, to be stored with the invoice; one that nothing is due of
            yet is not opened, so that it is opened with the plan of the day it is first billed.
        waiting: periods of the month asked for that have not ended yet.
    """

    items: tuple[Item, ...]
    periods: tuple[StoredPeriod, ...]
    waiting: int


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


def horizon(request: BillRequest, zone_name: str, now_us: int) -> Horizon:
    """Return the instants a run looks at for customers of a zone."""
    if request.period is None:
        assert request.until_us is not None, "check_request lets one through"
        return Horizon(None, request.until_us, whole=False, now_us=now_us)
    year, month = (int(part) for part in request.period.split("-"))
    tz = zone(zone_name)
    start, end = month_start(year, month, 1, tz), month_start(year, month + 1, 1, tz)
    return Horizon(start, end, whole=True, now_us=now_us)


def due(
    subscription: Subscription,
    stored: Sequence[StoredPeriod],
    history: History,
    catalog: Catalog,
    seen: Horizon,
    cut: int,
) -> Due:
    """Return what a subscription has to bill.

    Args:
        subscription: whose.
        stored: its periods, oldest first.
        history: what was billed before.
        catalog: plans, meters and the customer's zone.
        seen: the run's instants in the customer's zone.
        cut: the run's snapshot.

    Raises:
        Missing: a plan or meter version is not there.
    """
    items: list[Item] = []
    periods: list[StoredPeriod] = []
    waiting = 0
    for period in stored:
        if period.closed:
            items += _items(period, period, history, catalog, seen)
            continue
        current = _current(period, subscription, catalog)
        moved = _moved(current, seen, cut)
        waiting += seen.waits_for(current)
        items += _items(current, moved, history, catalog, seen)
        periods += [moved] if moved != period else []
    unsold: list[StoredPeriod] = []
    for period in _opened(subscription, stored, catalog, seen):
        current = _current(period, subscription, catalog)
        moved = _moved(current, seen, cut)
        waiting += seen.waits_for(current)
        found = list(_items(current, moved, history, catalog, seen))
        items += found
        unsold.append(moved)
        if found or _bills(current, seen):
            periods += unsold
            unsold = []
    return Due(tuple(items), tuple(periods), waiting)


def _opened(
    subscription: Subscription,
    stored: Sequence[StoredPeriod],
    catalog: Catalog,
    seen: Horizon,
) -> Iterator[StoredPeriod]:
    zone_name = catalog.customer(subscription.customer).zone
    version = catalog.plan(subscription.plan, subscription.plan_version).version
    last = stored[-1] if stored else None
    until = min(seen.until_us, seen.now_us)
    return open_periods(subscription, last, until, zone_name, version)


def _current(period: StoredPeriod, subscription: Subscription, catalog: Catalog) -> StoredPeriod:
    """Return an open period with the subscription's end and the newest meter versions in it."""
    end = period.end_us
    if subscription.end_us is not None:
        end = max(min(end, subscription.end_us), period.start_us)
    plan = catalog.plan(period.plan, period.plan_version)
    meters = {key: catalog.meter(key).version for key in sorted(plan.meters())}
    return msgspec.structs.replace(period, end_us=end, meters=meters)


def _bills(period: StoredPeriod, seen: Horizon) -> bool:
    """Whether a run bills the usage of an open period."""
    return seen.asks_for(period) and not seen.waits_for(period)


def _moved(period: StoredPeriod, seen: Horizon, cut: int) -> StoredPeriod:
    """Return an open period as the run leaves it: billed up to where, and whether closed."""
    if not _bills(period, seen):
        return period
    # Never before what was billed, and never after an end that was moved forward meanwhile.
    until = min(max(seen.until_us, period.until_us), period.end_us)
    closed = period.end_us <= seen.until_us
    return msgspec.structs.replace(period, until_us=until, closed=closed, cut=cut)


def _items(
    period: StoredPeriod,
    moved: StoredPeriod,
    history: History,
    catalog: Catalog,
    seen: Horizon,
) -> Iterator[Item]:
    plan = catalog.plan(period.plan, period.plan_version)
    for charge in plan.charges:
        if _is_due(charge, period, moved, seen):
            yield _item(charge, period, moved, history)


def _is_due(charge: Charge, period: StoredPeriod, moved: StoredPeriod, seen: Horizon) -> bool:
    if period.closed:
        return charge.meter is not None
    if charge.meter is not None:
        return _bills(period, seen) and moved.until_us > moved.start_us
    if charge.timing == "arrears":
        return moved.closed
    return seen.reached(period)


def _item(charge: Charge, period: StoredPeriod, moved: StoredPeriod, history: History) -> Item:
    position = Position(period.subscription, charge.key, period.start_us)
    before = history.get(position, {})
    return Item(
        position=position,
        plan=period.plan,
        plan_version=period.plan_version,
        end_us=moved.end_us,
        full_start_us=moved.full_start_us,
        full_end_us=moved.full_end_us,
        until_us=moved.end_us if charge.meter is None else moved.until_us,
        meter=charge.meter,
        meter_version=None if charge.meter is None else moved.meters[charge.meter],
        adjustment=period.closed,
        before=tuple(before[group] for group in sorted(before, key=str)),
    )
