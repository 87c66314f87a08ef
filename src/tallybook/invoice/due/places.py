"""Where the periods of a subscription lie, of every interval that its plans have.

Source: docs/algorithms/periods.md
"""

from collections.abc import Iterator, Sequence

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.plan import Phase, Plan
from tallybook.catalog.subscription import (
    Slot,
    StoredPeriod,
    Stretch,
    Subscription,
    slots,
    timeline,
)
from tallybook.kernel.timestamps import DAY_US


class Place(msgspec.Struct, frozen=True):
    """A period of one interval, opened or not."""

    interval: str
    slot: Slot


class Places(msgspec.Struct, frozen=True):
    """Every period that starts by an instant, and the stored ones that have no place any more.

    Attributes:
        found: by start.
        lost: stored periods that something decided since has left no room for.
    """

    found: tuple[Place, ...]
    lost: tuple[StoredPeriod, ...]


def places(
    subscription: Subscription, stored: Sequence[StoredPeriod], catalog: Catalog, until_us: int
) -> Places:
    """Return where the periods lie that start at or before an instant, or are stored.

    Raises:
        Missing: a plan or the base is not there.
    """
    base = base_of(subscription, catalog)
    zone = catalog.customer(subscription.customer).zone
    stretches = stretches_of(subscription, stored, catalog)
    last = max((one.start_us for one in stored), default=until_us)
    found: list[Place] = []
    for interval, some in _by_interval(stretches, stored, subscription, catalog, until_us):
        known = {one.start_us: one for one in stored if one.interval == interval}
        there = slots(some, known, max(until_us, last), base or subscription, zone, interval)
        found += (
            Place(interval, slot)
            for slot in there
            if slot.stored is not None or slot.start_us <= until_us
        )
    found.sort(key=lambda place: place.slot.start_us)
    kept = {(place.interval, place.slot.start_us) for place in found}
    lost = tuple(one for one in stored if (one.interval, one.start_us) not in kept)
    return Places(tuple(found), lost)


def base_of(subscription: Subscription, catalog: Catalog) -> Subscription | None:
    """Return the subscription that an add-on belongs to; None for one that stands alone."""
    return catalog.subscriptions.get(subscription.base) if subscription.base else None


def stretches_of(
    subscription: Subscription, stored: Sequence[StoredPeriod], catalog: Catalog
) -> tuple[Stretch, ...]:
    """Return what holds when, as the stored periods know it.

    A plan in whose place another one was declared goes on as far as periods are stored with it.

    Raises:
        Missing: a plan is not there, or not in effect.
    """
    zone = catalog.customer(subscription.customer).zone
    start_us = _start(subscription, stored)
    if start_us != subscription.start_us:
        subscription = msgspec.structs.replace(subscription, start_us=start_us)

    def phases_of(plan: str, version: int | None, at_us: int) -> Sequence[Phase]:
        return _phases(plan, version, at_us, stored, catalog)

    found = timeline(subscription, phases_of, zone, base_of(subscription, catalog))
    first = [one for one in stored if one.plan != subscription.plan]
    return tuple(_as_opened(found, stored)) if first else found


def _start(subscription: Subscription, stored: Sequence[StoredPeriod]) -> int:
    """Return where a subscription starts, as it is billed.

    A date is another instant in another zone, less than a day away: what is billed keeps its
    start. A start that was corrected by more holds, and what was billed is rated anew.
    """
    declared = subscription.start_us
    near = (one.start_us for one in stored if abs(one.start_us - declared) < DAY_US)
    return min(near, key=lambda start_us: abs(start_us - declared), default=declared)


def _phases(
    plan: str,
    version: int | None,
    at_us: int,
    stored: Sequence[StoredPeriod],
    catalog: Catalog,
) -> Sequence[Phase]:
    """Return the phases of the version that the first period of a plan was opened with."""
    if version is None:
        opened = (one for one in stored if one.plan == plan and one.start_us >= at_us)
        version = next((one.plan_version for one in opened), None)
    there = catalog.plan_at(plan, at_us) if version is None else catalog.plan(plan, version)
    return there.phases


def _as_opened(stretches: Sequence[Stretch], stored: Sequence[StoredPeriod]) -> Iterator[Stretch]:
    """Yield the stretches with what stored periods say where no amendment says anything else."""
    for stretch in stretches:
        if stretch.amended:
            yield stretch
            continue
        rest = stretch
        for one in sorted(stored, key=lambda one: (one.full_end_us, one.start_us)):
            inside = rest.end_us is None or one.start_us < rest.end_us
            if one.plan == stretch.plan or not rest.start_us <= one.start_us or not inside:
                continue
            end = one.full_end_us
            if rest.end_us is not None and rest.end_us <= end:
                rest = msgspec.structs.replace(rest, plan=one.plan, phase=one.phase)
                break
            yield msgspec.structs.replace(
                rest, plan=one.plan, phase=one.phase, plan_version=None, end_us=end
            )
            rest = msgspec.structs.replace(rest, start_us=end)
        yield rest


def _by_interval(
    stretches: Sequence[Stretch],
    stored: Sequence[StoredPeriod],
    subscription: Subscription,
    catalog: Catalog,
    until_us: int,
) -> Iterator[tuple[str, list[Stretch]]]:
    """Yield every interval with the stretches that have it."""
    found: dict[str, list[Stretch]] = {}
    for stretch in stretches:
        plan = (
            catalog.plan_at(stretch.plan, max(until_us, stretch.start_us))
            if stretch.plan_version is None
            else catalog.plan(stretch.plan, stretch.plan_version)
        )
        inside = [one for one in stored if _lies_in(one, stretch)]
        intervals = dict.fromkeys((*_intervals(plan, subscription), *(p.interval for p in inside)))
        known = _known(inside, subscription, catalog)
        for interval in intervals:
            since = known.get(interval, max((p.end_us for p in inside), default=stretch.start_us))
            if stretch.end_us is None or since < stretch.end_us:
                start = max(stretch.start_us, since)
                cut = msgspec.structs.replace(stretch, start_us=start) if inside else stretch
                found.setdefault(interval, []).append(cut)
    yield from found.items()


def _lies_in(period: StoredPeriod, stretch: Stretch) -> bool:
    if period.plan != stretch.plan or period.start_us < stretch.start_us:
        return False
    return stretch.end_us is None or period.start_us < stretch.end_us


def _intervals(plan: Plan, subscription: Subscription) -> tuple[str, ...]:
    """Return how long the periods of a plan are, those of a commitment included."""
    found = plan.intervals()
    if subscription.minimum is None or plan.interval in found:
        return found
    return (plan.interval, *found)


def _known(
    inside: Sequence[StoredPeriod], subscription: Subscription, catalog: Catalog
) -> dict[str, int]:
    """Return since when a plan has its intervals: a new version's begin with the next period."""
    found: dict[str, int] = {}
    seen: set[int] = set()
    for one in inside:
        if one.plan_version not in seen:
            since = one.start_us if seen else 0
            seen.add(one.plan_version)
            for interval in _intervals(catalog.plan(one.plan, one.plan_version), subscription):
                found.setdefault(interval, since)
        found.setdefault(one.interval, one.start_us)
    return found
