"""What a subscription has to bill, decided: items to rate, and its periods afterwards.

Nothing is billed twice: an item is a position rated as a whole, and what was billed of it before
goes with it. Nothing is lost: a stored period that an amendment leaves less room, or none, gives
back what it no longer is.

Source: docs/algorithms/periods.md, docs/algorithms/rerating.md, docs/algorithms/subscriptions.md
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal

import msgspec

from tallybook.catalog.amendment import PlanChange
from tallybook.catalog.catalog import Catalog
from tallybook.catalog.subscription import Ending, StoredPeriod, Subscription, ending, units
from tallybook.invoice.due.items import (
    Bearings,
    History,
    before,
    charge_item,
    given_back,
    is_advance,
    minimum_item,
)
from tallybook.invoice.due.moving import Moving, moving
from tallybook.invoice.due.once import charged_once
from tallybook.invoice.due.places import Places, base_of, places
from tallybook.invoice.due.request import Horizon
from tallybook.invoice.due.terms import MINIMUM, Resolver, Sold, Terms
from tallybook.invoice.manifest import Billed, Item, Position
from tallybook.kernel.decimals import plain


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


class _Asked(msgspec.Struct, frozen=True):
    """What a decision is made from."""

    bearings: Bearings
    catalog: Catalog
    seen: Horizon
    cut: int
    terms: Resolver
    stop: Ending

    def billed(self, position: Position) -> tuple[Billed, ...]:
        """Return what was billed of a position."""
        return before(self.bearings.history, position)


class _Window(msgspec.Struct, frozen=True):
    """A commitment's period: what it depends on lies in it."""

    start_us: int
    end_us: int
    full_end_us: int

    def holds(self, period: StoredPeriod) -> bool:
        """Whether the charges of a period count towards it."""
        inside = self.start_us <= period.start_us < self.end_us
        return inside and period.full_end_us <= self.full_end_us


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
    terms = Resolver(subscription, catalog)
    asked = _Asked(
        Bearings(subscription, history, terms.owner),
        catalog,
        seen,
        cut,
        terms,
        ending(subscription, base_of(subscription, catalog)),
    )
    found = places(subscription, stored, catalog, min(seen.until_us, seen.now_us))
    taken = _taken(stored, found)
    states = [
        moving(place, subscription, catalog, seen, cut, taken.get(place.interval, taken[""]))
        for place in found.found
    ]
    windows = list(_windows(states, asked))
    once = charged_once(states, terms, asked.billed)
    charged = [list(_items(state, windows, once, asked)) for state in states]
    known = {item.position for some in charged for item in some}
    emptied = [one for one in found.lost if _emptied(one, asked) != _as_counted(one, cut)]
    items: list[Item] = []
    for state, some in zip(states, charged, strict=True):
        items += _unless(known, _dropped(state, once, asked))
        items += some
    for one in emptied:
        items += _unless(known, _given_back(one, asked))
    billed = [(state, bool(some)) for state, some in zip(states, charged, strict=True)]
    gone = [_emptied(one, asked) for one in emptied]
    waiting = sum(not state.shut and seen.waits_for(state.current) for state in states)
    return Due(tuple(items), (*_afterwards(billed), *gone), waiting)


def _unless(known: set[Position], items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items whose position no other item has: one of them rates all of it."""
    for item in items:
        if item.position not in known:
            known.add(item.position)
            yield item


def _taken(stored: Sequence[StoredPeriod], found: Places) -> dict[str, int]:
    """Return up to where each interval was stored; '' for all that lost a part of theirs."""
    ends: dict[str, int] = {"": 0}
    for one in stored:
        ends[one.interval] = max(ends.get(one.interval, 0), one.end_us)
    shorter = [
        place.slot.stored.end_us
        for place in found.found
        if place.slot.stored is not None and place.slot.end_us < place.slot.stored.end_us
    ]
    lost = max((*shorter, *(one.end_us for one in found.lost)), default=0)
    return {interval: max(end, lost) for interval, end in ends.items()}


def _windows(states: Sequence[Moving], asked: _Asked) -> Iterator[_Window]:
    for state in states:
        period = state.moved
        if _minimum(state, asked) is not None and _settles(state, asked):
            yield _Window(period.start_us, period.end_us, period.full_end_us)


def _minimum(state: Moving, asked: _Asked) -> Decimal | None:
    """Return the commitment of a period; zero where it had one that holds no more."""
    amount = asked.terms.of_period(state.moved).minimum_of(state.place.interval)
    if amount is not None or not state.changed:
        return amount
    position = Position(state.moved.subscription, MINIMUM, state.moved.start_us)
    ours = state.place.interval == asked.terms.of_period(state.stored or state.moved).plan.interval
    return Decimal(0) if ours and asked.billed(position) else None


def _settles(state: Moving, asked: _Asked) -> bool:
    """Whether a run looks at everything that a period came to."""
    if state.shut:
        return state.changed or not asked.seen.quiet(state.moved)
    return state.moved.closed


def _items(
    state: Moving, windows: Sequence[_Window], once: frozenset[Position], asked: _Asked
) -> Iterator[Item]:
    terms = asked.terms.of_period(state.moved)
    counted = any(window.holds(state.moved) for window in windows)
    for sold in _sold(state, once, asked):
        if counted or _is_due(sold, state, asked):
            yield _charge_item(sold, state, terms, asked)
    amount = _minimum(state, asked) if windows else None
    if amount is not None and _settles(state, asked):
        yield minimum_item(amount, state.moved, terms, asked.bearings, adjustment=state.shut)


def _sold(state: Moving, once: frozenset[Position], asked: _Asked) -> list[Sold]:
    """Return what a period charges: of fees that are charged once, those that it is the one of."""
    period = state.moved
    return [
        sold
        for sold in asked.terms.of_period(period).of_interval(state.place.interval)
        if not sold.charge.once
        or Position(period.subscription, sold.charge.key, period.start_us) in once
    ]


def _charge_item(sold: Sold, state: Moving, terms: Terms, asked: _Asked) -> Item:
    return charge_item(
        sold,
        state.moved,
        terms,
        asked.bearings,
        fees_end_us=state.place.slot.fees_end_us,
        adjustment=state.shut,
    )


def _is_due(sold: Sold, state: Moving, asked: _Asked) -> bool:
    charge, period = sold.charge, state.moved
    if state.shut:
        if charge.meter is not None:
            return state.changed or not asked.seen.quiet(period)
        return state.changed or _units_moved(sold, period, asked)
    if charge.meter is not None:
        return state.bills and period.until_us > period.start_us
    if is_advance(charge):
        return state.bills or asked.seen.reached(state.current)
    return period.closed


def _units_moved(sold: Sold, period: StoredPeriod, asked: _Asked) -> bool:
    """Whether a closed fee may be for another number of units than was billed."""
    key = sold.charge.key
    found = units(asked.bearings.subscription, key, period.start_us, period.end_us)
    if len(found) != 1:
        return bool(found)
    billed = asked.billed(Position(period.subscription, key, period.start_us))
    return [one.quantity for one in billed] != ([plain(found[0][1])] if found[0][1] else [])


def _dropped(state: Moving, once: frozenset[Position], asked: _Asked) -> Iterator[Item]:
    """Yield what a period was billed for by a plan that another one was put in place of.

    What a credit note held back of it is given back when that note is voided, however many plans
    were put in its place since.
    """
    if not state.changed or state.stored is None:
        return
    kept = {sold.charge.key for sold in _sold(state, once, asked)} | {MINIMUM}
    for item in _given_back(state.stored, asked):
        if item.position.charge not in kept:
            yield item
    kept |= {sold.charge.key for sold in asked.terms.of_period(state.moved).sold}
    for former in _former(state.stored, asked) if state.stored.again else ():
        for item in _given_back(former, asked):
            if item.position.charge not in kept:
                yield item


def _former(stored: StoredPeriod, asked: _Asked) -> Iterator[StoredPeriod]:
    """Yield a period with every plan, version and phase that it may have been billed by before."""
    subscription, known = asked.bearings.subscription, asked.catalog.plans
    changes = (one.plan for one in subscription.amendments if isinstance(one, PlanChange))
    for key in dict.fromkeys((subscription.plan, *changes)):
        for plan in reversed(known.get(key, ())):
            for phase in ("", *(one.key for one in plan.phases)):
                yield msgspec.structs.replace(
                    stored, plan=key, plan_version=plan.version, phase=phase
                )


def _given_back(stored: StoredPeriod, asked: _Asked) -> Iterator[Item]:
    """Yield an item for everything that is billed of a period of which nothing is left."""
    gone = _emptied(stored, asked)
    terms = asked.terms.of_period(stored)
    for sold in terms.of_interval(stored.interval):
        position = Position(stored.subscription, sold.charge.key, stored.start_us)
        kept = is_advance(sold.charge) and not gone.credited
        if given_back(asked.billed(position)) or kept:
            continue
        yield charge_item(
            sold,
            gone,
            terms,
            asked.bearings,
            fees_end_us=gone.end_us,
            adjustment=stored.closed,
        )
    position = Position(stored.subscription, MINIMUM, stored.start_us)
    if not given_back(asked.billed(position)):
        yield minimum_item(Decimal(0), gone, terms, asked.bearings, adjustment=stored.closed)


def _emptied(stored: StoredPeriod, asked: _Asked) -> StoredPeriod:
    """Return a period of which nothing is left, but perhaps fees that are not credited."""
    terms = asked.catalog.plan(stored.plan, stored.plan_version)
    newest = {key: asked.catalog.meter(key).version for key in sorted(terms.meters())}
    stop = asked.stop
    return msgspec.structs.replace(
        stored,
        end_us=stored.start_us,
        until_us=stored.start_us,
        closed=True,
        cut=asked.cut,
        meters=newest | stored.meters,
        credited=stop.credit or stop.at_us is None or stored.start_us < stop.at_us,
        again=False,
    )


def _as_counted(stored: StoredPeriod, cut: int) -> StoredPeriod:
    """Return a period as if it was counted at a cut."""
    return msgspec.structs.replace(stored, cut=cut)


def _afterwards(billed: Sequence[tuple[Moving, bool]]) -> Iterator[StoredPeriod]:
    """Yield what is to be stored; a new period only if something of it is billed, or later."""
    unsold: dict[str, list[StoredPeriod]] = {}
    for state, found in billed:
        if state.stored is not None:
            if state.moved != state.stored:
                yield state.moved
            continue
        waiting = unsold.setdefault(state.place.interval, [])
        waiting.append(state.moved)
        if found or state.bills:
            yield from waiting
            waiting.clear()
