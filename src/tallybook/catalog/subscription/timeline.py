"""What holds when: the stretches of a subscription, from its first terms and all amendments.

Pure, and a function of the set of what was decided: only where two amendments say something
different about the same instant does the order in which they were recorded count, and then the
newest one holds.

Source: docs/algorithms/subscriptions.md
"""

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import TypeVar

import msgspec

from tallybook.catalog.amendment import (
    Amendment,
    AnchorChange,
    Cancel,
    Pause,
    PlanChange,
    PriceChange,
    QuantityChange,
    Resume,
    Uncancel,
)
from tallybook.catalog.entitlement.recurrence import parse_interval, plus
from tallybook.catalog.plan import Phase
from tallybook.catalog.price import Price
from tallybook.catalog.subscription.calendar import Alignment
from tallybook.catalog.subscription.subscription import Subscription

_A = TypeVar("_A", bound=Amendment)

PhasesOf = Callable[[str, int | None, int], Sequence[Phase]]
"""The phases of a plan: (key, pinned version or None, an instant from when on it holds)."""


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """A span in which one plan and phase hold without a pause.

    Attributes:
        start_us: first instant, microseconds UTC.
        end_us: first instant after it; None for "for good".
        plan: key of the plan.
        plan_version: pinned; None for the newest in effect when each period is opened.
        amended: an amendment says so; else it is what the subscription started with.
        phase: key of the plan's phase; '' for none.
        credited: fees in advance end with it; else they run to the end of their period.
        fees_end_us: where it would end without the cancellation that gives no credit.
    """

    start_us: int
    end_us: int | None
    plan: str
    plan_version: int | None = None
    amended: bool = False
    phase: str = ""
    credited: bool = True
    fees_end_us: int | None = None


class Ending(msgspec.Struct, frozen=True):
    """Where a subscription ends.

    Attributes:
        at_us: None for nowhere.
        credit: whether the unused part of fees paid in advance is given back.
        cancelled: by an amendment; else it was agreed from the start.
    """

    at_us: int | None
    credit: bool = True
    cancelled: bool = False


def no_phases(plan: str, version: int | None, at_us: int) -> Sequence[Phase]:
    """Return the phases of a plan that has none."""
    del plan, version, at_us
    return ()


def ending(subscription: Subscription, base: Subscription | None = None) -> Ending:
    """Return where a subscription ends, with that of its base.

    The newest cancellation holds, unless an `Uncancel` after it took it back before its time.
    """
    found = _own_ending(subscription)
    if base is None:
        return found
    other = _own_ending(base)
    if other.at_us is not None and (found.at_us is None or other.at_us < found.at_us):
        return other
    return found


def _own_ending(subscription: Subscription) -> Ending:
    found: Ending | None = None
    for one in subscription.amendments:
        if isinstance(one, Cancel):
            at_us = max(one.at_us, subscription.start_us)
            found = Ending(at_us, one.credit, cancelled=True)
        elif isinstance(one, Uncancel) and found is not None and one.at_us < (found.at_us or 0):
            found = None
    end = subscription.end_us
    if found is None or (end is not None and end <= (found.at_us or 0)):
        return Ending(end)
    return found


def pauses(subscription: Subscription) -> list[tuple[int, int | None]]:
    """Return the spans in which nothing is charged, oldest first; None for "until resumed"."""
    found: list[tuple[int, int | None]] = []
    since: int | None = None
    for one in _by_time(subscription, Pause, Resume):
        if isinstance(one, Pause) and since is None:
            since = one.at_us
        elif isinstance(one, Resume) and since is not None:
            if one.at_us > since:
                found.append((since, one.at_us))
            since = None
    if since is not None:
        found.append((since, None))
    return found


def timeline(
    subscription: Subscription,
    phases_of: PhasesOf = no_phases,
    zone_name: str = "UTC",
    base: Subscription | None = None,
) -> tuple[Stretch, ...]:
    """Return the stretches of a subscription, oldest first; none while paused or after the end.

    Args:
        subscription: with everything decided about it.
        phases_of: the phases of plans; they are counted from the subscription's start.
        zone_name: the customer's zone, for the lengths of phases.
        base: the subscription that it is an add-on of; it pauses and ends with it.
    """
    stop = ending(subscription, base)
    plans = _phased(subscription, list(_planned(subscription)), phases_of, zone_name)
    if not subscription.amendments and (base is None or not base.amendments):
        holes: list[tuple[int, int | None]] = []
    else:
        holes = pauses(subscription) + ([] if base is None else pauses(base))
    found = list(plans)
    if base is not None:
        found = _without(found, [(-_FAR_US, base.start_us)])
    found = _without(found, holes)
    return tuple(_ended(found, stop))


_FAR_US = 1 << 62


def _planned(subscription: Subscription) -> Iterator[Stretch]:
    """Yield what plan holds when, from the start on, for good."""
    start = subscription.start_us
    current = Stretch(
        start_us=start,
        end_us=None,
        plan=subscription.plan,
        plan_version=subscription.plan_version,
    )
    for one in _by_time(subscription, PlanChange):
        at = max(one.at_us, start)
        if at > current.start_us:
            yield msgspec.structs.replace(current, end_us=at)
        current = Stretch(
            start_us=at,
            end_us=None,
            plan=one.plan,
            plan_version=one.plan_version,
            amended=True,
        )
    yield current


def _phased(
    subscription: Subscription, plans: Sequence[Stretch], phases_of: PhasesOf, zone_name: str
) -> Iterator[Stretch]:
    """Yield the stretches cut where a phase of their plan begins or ends."""
    for stretch in plans:
        phases = phases_of(stretch.plan, stretch.plan_version, stretch.start_us)
        if not phases:
            yield stretch
            continue
        for start, end, key in _phase_spans(subscription.start_us, phases, zone_name):
            first = max(start, stretch.start_us)
            last = _earlier(end, stretch.end_us)
            if last is None or first < last:
                yield msgspec.structs.replace(stretch, start_us=first, end_us=last, phase=key)


def _phase_spans(
    start_us: int, phases: Sequence[Phase], zone_name: str
) -> Iterator[tuple[int, int | None, str]]:
    """Yield from when to when each phase holds; the plan's own terms follow the last one."""
    for phase in phases:
        if phase.length is None:
            yield start_us, None, phase.key
            return
        end = plus(start_us, parse_interval("phases.length", phase.length), 1, zone_name)
        yield start_us, end, phase.key
        start_us = end
    yield start_us, None, ""


def _without(
    stretches: Sequence[Stretch], holes: Sequence[tuple[int, int | None]]
) -> list[Stretch]:
    """Return the stretches less some spans."""
    found = list(stretches)
    for start, end in holes:
        cut: list[Stretch] = []
        for stretch in found:
            if stretch.start_us < start:
                last = _earlier(stretch.end_us, start)
                cut.append(msgspec.structs.replace(stretch, end_us=last))
            if end is not None and (stretch.end_us is None or stretch.end_us > end):
                first = max(stretch.start_us, end)
                cut.append(msgspec.structs.replace(stretch, start_us=first))
        found = cut
    return found


def _ended(stretches: Sequence[Stretch], stop: Ending) -> Iterator[Stretch]:
    """Yield the stretches up to the end; the one that is cut remembers whether it is credited."""
    for stretch in stretches:
        if stop.at_us is None or (stretch.end_us is not None and stretch.end_us <= stop.at_us):
            yield stretch
        elif stretch.start_us < stop.at_us:
            yield msgspec.structs.replace(
                stretch, end_us=stop.at_us, credited=stop.credit, fees_end_us=stretch.end_us
            )


def _earlier(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)


def units(
    subscription: Subscription, charge: str, start_us: int, end_us: int
) -> tuple[tuple[int, Decimal], ...]:
    """Return how many units of a fixed fee there are in a span, each from an instant on.

    The first one holds from its start on; () where nothing was ever said about them.
    """
    changes = [one for one in _by_time(subscription, QuantityChange) if one.charge == charge]
    first = subscription.quantities.get(charge)
    found: list[tuple[int, Decimal]] = [] if first is None else [(start_us, first)]
    for one in changes:
        if one.at_us <= start_us:
            found = [(start_us, one.quantity)]
        elif one.at_us < end_us:
            found = [place for place in found if place[0] != one.at_us]
            found.append((one.at_us, one.quantity))
    return tuple(found)


def own_prices(
    subscription: Subscription, at_us: int, before: dict[str, Price] | None = None
) -> dict[str, Price]:
    """Return the customer's own prices that a period starting at an instant is rated with.

    Args:
        subscription: whose.
        at_us: start of the period.
        before: what the period was opened with, in place of what the subscription starts with.
    """
    found = subscription.prices if before is None else before
    if not subscription.amendments:
        return found
    changes = [one for one in _by_time(subscription, PriceChange) if one.at_us <= at_us]
    newest = {one.charge: one.price for one in changes}
    if not newest:
        return found
    merged = {key: newest.get(key, price) for key, price in found.items()} | newest
    return {key: price for key, price in sorted(merged.items()) if price is not None}


def alignment(subscription: Subscription, at_us: int) -> Alignment:
    """Return what the periods that are opened from an instant on are aligned to.

    An add-on shares the alignment of its base: give the base.
    """
    anchor = subscription.anchor_us
    for one in _by_time(subscription, AnchorChange):
        if one.at_us <= at_us:
            anchor = one.anchor_us
    return Alignment(subscription.anchor_day, anchor)


def _by_time(subscription: Subscription, *kinds: type[_A]) -> list[_A]:
    """Return amendments of some kinds by the instant they hold from, then as recorded."""
    if not subscription.amendments:
        return []
    found: list[_A] = [one for one in subscription.amendments if isinstance(one, kinds)]
    found.sort(key=lambda one: one.at_us)
    return found
