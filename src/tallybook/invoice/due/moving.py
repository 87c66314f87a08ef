"""A period as it is now, and as a run leaves it.

Source: docs/algorithms/periods.md, docs/algorithms/subscriptions.md
"""

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.subscription import StoredPeriod, Subscription, opened, own_prices
from tallybook.invoice.due.places import Place
from tallybook.invoice.due.request import Horizon


class Moving(msgspec.Struct, frozen=True, kw_only=True):
    """One period before and after a run.

    Attributes:
        place: where it lies.
        stored: as it was; None where it is not opened yet.
        current: with what was decided since, before the run.
        moved: as the run leaves it.
        shut: closed before, and still.
        changed: something decided since applies to what was stored, or it is to be rated again.
        bills: the run bills its usage.
    """

    place: Place
    stored: StoredPeriod | None
    current: StoredPeriod
    moved: StoredPeriod
    shut: bool = False
    changed: bool = False
    bills: bool = False


def moving(
    place: Place,
    subscription: Subscription,
    catalog: Catalog,
    seen: Horizon,
    cut: int,
    taken_us: int,
) -> Moving:
    """Return a period as it is now, and as a run leaves it.

    Args:
        place: where it lies.
        subscription: whose.
        catalog: plans and meters.
        seen: the run's instants.
        cut: the run's snapshot.
        taken_us: periods that start before it stand in place of stored ones, so they are billed
            with the next run whichever month that bills.

    Raises:
        Missing: a plan or meter is not there.
    """
    stored = place.slot.stored
    if stored is None:
        current = _opened(place, subscription, catalog)
        return _open(place, None, current, catalog, seen, cut, late=current.start_us < taken_us)
    current = _amended(place, stored, subscription, catalog)
    if stored.closed and current.end_us <= stored.end_us:
        if current is stored and not stored.again:
            return Moving(place=place, stored=stored, current=stored, moved=stored, shut=True)
        return _shut(place, stored, current, catalog, cut)
    current = msgspec.structs.replace(current, closed=False) if stored.closed else current
    late = current.end_us < stored.end_us or stored.closed or stored.again
    return _open(place, stored, current, catalog, seen, cut, late=late)


def _opened(place: Place, subscription: Subscription, catalog: Catalog) -> StoredPeriod:
    stretch = place.slot.stretch
    version = stretch.plan_version
    if version is None:
        version = catalog.plan_at(stretch.plan, place.slot.start_us).version
    return opened(place.slot, subscription, place.interval, version)


def _amended(
    place: Place, stored: StoredPeriod, subscription: Subscription, catalog: Catalog
) -> StoredPeriod:
    """Return a stored period with what amendments say about it; itself where that is the same."""
    slot, stretch = place.slot, place.slot.stretch
    fields: dict[str, object] = {}
    if slot.end_us != stored.end_us:
        fields["end_us"] = slot.end_us
    if stretch.amended:
        fields |= _replaced_plan(place, stored, catalog)
    if stretch.phase != stored.phase:
        fields["phase"] = stretch.phase
    prices = own_prices(subscription, stored.start_us, stored.prices)
    if prices != stored.prices:
        fields["prices"] = prices
    credited = stretch.credited or slot.end_us != stretch.end_us
    if credited != stored.credited:
        fields["credited"] = credited
    return msgspec.structs.replace(stored, **fields) if fields else stored


def _replaced_plan(place: Place, stored: StoredPeriod, catalog: Catalog) -> dict[str, object]:
    """Return the plan that an amendment put in place of the one a period was opened with."""
    stretch = place.slot.stretch
    version = stretch.plan_version
    if stretch.plan == stored.plan:
        if version is None or version == stored.plan_version:
            return {}
        return {"plan_version": version}
    if version is None:
        version = catalog.plan_at(stretch.plan, stored.start_us).version
    return {"plan": stretch.plan, "plan_version": version}


def _shut(
    place: Place, stored: StoredPeriod, current: StoredPeriod, catalog: Catalog, cut: int
) -> Moving:
    """Return a closed period that something was decided about since: rated again at this cut."""
    moved = msgspec.structs.replace(
        current,
        until_us=min(current.until_us, current.end_us),
        meters=_meters(current, catalog) | stored.meters,
        cut=cut,
        again=False,
    )
    return Moving(place=place, stored=stored, current=current, moved=moved, shut=True, changed=True)


def _open(
    place: Place,
    stored: StoredPeriod | None,
    current: StoredPeriod,
    catalog: Catalog,
    seen: Horizon,
    cut: int,
    *,
    late: bool,
) -> Moving:
    """Return an open period: billed up to where, and whether closed."""
    meters = _meters(current, catalog)
    current = msgspec.structs.replace(current, meters=meters)
    bills = seen.asks_for(current) and not seen.waits_for(current)
    bills = bills or (late and current.end_us <= min(seen.until_us, seen.now_us))
    moved = current
    if bills:
        # Never before what was billed, and never after an end that was moved forward meanwhile.
        until = min(max(seen.until_us, current.until_us), current.end_us)
        moved = msgspec.structs.replace(
            current,
            until_us=until,
            closed=current.end_us <= seen.until_us,
            cut=cut,
            again=False,
        )
    return Moving(
        place=place,
        stored=stored,
        current=current,
        moved=moved,
        changed=stored is not None and (stored.again or _terms_differ(stored, current)),
        bills=bills,
    )


def _terms_differ(stored: StoredPeriod, current: StoredPeriod) -> bool:
    one = (stored.plan, stored.plan_version, stored.phase)
    return one != (current.plan, current.plan_version, current.phase)


def _meters(period: StoredPeriod, catalog: Catalog) -> dict[str, int]:
    """Return the newest version of each meter that a period's plan prices."""
    plan = catalog.plan(period.plan, period.plan_version)
    return {key: catalog.meter(key).version for key in sorted(plan.meters())}
