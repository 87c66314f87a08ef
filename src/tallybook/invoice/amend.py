"""Use cases of subscriptions: decide a command, show what it would do, write it, tell it.

An instant may be given as a word: 'now', or 'period-end', the end of the present period as it is
stored or would be opened. What a command would cost is `preview(…, instead=[decision])`.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from tallybook.catalog.amendment import (
    Amendment,
    Cancel,
    Pause,
    QuantityChange,
    Resume,
    Uncancel,
)
from tallybook.catalog.catalog import Catalog, with_entries
from tallybook.catalog.check import check_references
from tallybook.catalog.flow import put
from tallybook.catalog.price import Price
from tallybook.catalog.subscription import (
    Decision,
    Skipped,
    State,
    StoredPeriod,
    Subscription,
    alignment,
    decide,
    ending,
    migration,
    own_prices,
    plan_at,
    state_at,
    units,
    whole_period,
)
from tallybook.invoice.due import places
from tallybook.invoice.due.places import Place, base_of
from tallybook.invoice.ports import Billing, Part
from tallybook.kernel.book.fact import Fact, fact
from tallybook.kernel.errors import Missing
from tallybook.kernel.period import Period, parse_moment, zone
from tallybook.kernel.timestamps import format_us

NOW = "now"
PERIOD_END = "period-end"


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """Where a subscription stands at an instant.

    Attributes:
        plan_version: of the present period, where it is stored; else what it is pinned to.
        phase: of the present period; '' for none.
        periods: what counts of the present period and the next one, of the plan's own interval.
        end_us: where it ends; None for nowhere.
        quantities: units of fixed fees that were ever told.
        prices: its own prices.
    """

    state: State
    plan: str
    plan_version: int | None
    phase: str
    periods: tuple[Period, ...]
    end_us: int | None
    quantities: dict[str, Decimal]
    prices: dict[str, Price]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """The body of the fact that a subscription was changed."""

    subscription: str
    change: str
    at: str
    state: str


def amend(
    billing: Billing,
    key: str,
    made: Callable[[int, int], Amendment],
    when: str | None = None,
    *,
    dry: bool = False,
) -> Decision:
    """Decide an amendment of a subscription, and write it unless it is only to be shown.

    Args:
        billing: ports.
        key: of the subscription.
        made: gives the amendment for (the instant it holds from, now).
        when: 'now', 'period-end', a date in the customer's zone or RFC 3339; None for now.
        dry: write nothing.

    Raises:
        Missing: there is no such subscription.
        Invalid: `when` is no instant.
        Conflict: its state forbids it, or the catalog would contradict itself, or was changed.
    """
    now = billing.clock.now_us()
    catalog = billing.catalog.load(billing.tenant)
    subscription = known(catalog, key)
    at_us = instant(when, now, subscription, stored_periods(billing, subscription), catalog)
    decision = decide(subscription, made(at_us, now), base_of(subscription, catalog))
    _write(billing, catalog, [decision], dry=dry)
    return decision


def migrate(
    billing: Billing,
    plan: str,
    version: int | None = None,
    when: str | None = None,
    *,
    dry: bool = False,
) -> list[Decision | Skipped]:
    """Move all subscriptions of a plan to one of its versions, and return what that does to each.

    Args:
        billing: ports.
        plan: key.
        version: that they are pinned to; None for the newest, and those after it.
        when: as for `amend`; 'period-end' is each subscription's own.
        dry: write nothing.

    Raises:
        Missing: there is no such plan or version.
    """
    now = billing.clock.now_us()
    catalog = billing.catalog.load(billing.tenant)
    newest = catalog.plan(plan).version
    catalog.plan(plan, version)
    live = [s for k, s in catalog.subscriptions.items() if catalog.live("subscription", k)]
    there = [one for one in live if plan in _plans(one)]
    part = Part(customers=(), subscriptions=[one.key for one in there])
    books = billing.invoices.books(billing.tenant, part)
    moved = [
        (one, *_moves(one, when, now, books.periods.get(one.key, ()), catalog)) for one in there
    ]
    found = list(migration(moved, plan, version, newest, now))
    _write(billing, catalog, [one for one in found if isinstance(one, Decision)], dry=dry)
    return found


def outlook(billing: Billing, catalog: Catalog, subscription: Subscription) -> Outlook:
    """Return where a subscription stands now."""
    now = billing.clock.now_us()
    base = base_of(subscription, catalog)
    stored = stored_periods(billing, subscription)
    present = _present(subscription, stored, catalog, now)
    plan, pinned = plan_at(subscription, now)
    period = None if present is None else present.slot.stored
    return Outlook(
        state=state_at(subscription, now, base),
        plan=plan if period is None else period.plan,
        plan_version=pinned if period is None else period.plan_version,
        phase="" if present is None else present.slot.stretch.phase,
        periods=tuple(_bounds(subscription, stored, catalog, now)),
        end_us=ending(subscription, base).at_us,
        quantities=_quantities(subscription, now),
        prices=own_prices(subscription, now),
    )


def known(catalog: Catalog, key: str) -> Subscription:
    """Return a subscription in use; raises Missing."""
    if not catalog.live("subscription", key):
        raise Missing(f"there is no subscription '{key}'", field="subscription")
    return catalog.subscriptions[key]


def stored_periods(billing: Billing, subscription: Subscription) -> tuple[StoredPeriod, ...]:
    """Return the periods of a subscription that are opened."""
    part = Part(customers=(), subscriptions=(subscription.key,))
    books = billing.invoices.books(billing.tenant, part)
    return books.periods.get(subscription.key, ())


def instant(
    when: str | None,
    now_us: int,
    subscription: Subscription,
    stored: Sequence[StoredPeriod],
    catalog: Catalog,
    field: str = "at",
) -> int:
    """Return the instant that a word or text means; raises Invalid, which names the field."""
    if when in {None, "", NOW}:
        return now_us
    if when == PERIOD_END:
        return period_end(subscription, stored, catalog, now_us)
    tz = zone(catalog.customer(subscription.customer).zone)
    return parse_moment(when or "", tz, field)


def period_end(
    subscription: Subscription, stored: Sequence[StoredPeriod], catalog: Catalog, at_us: int
) -> int:
    """Return the end of the period that contains an instant, whatever cancels it before.

    Before the start that is the first period; while paused, the one that the calendar has.
    """
    kept = [a for a in subscription.amendments if not isinstance(a, Cancel | Uncancel)]
    going_on = msgspec.structs.replace(subscription, amendments=tuple(kept))
    at_us = max(at_us, subscription.start_us)
    present = _present(going_on, stored, catalog, at_us)
    if present is not None:
        return present.slot.end_us
    plan = catalog.plan(*plan_at(subscription, at_us))
    aligned = alignment(base_of(subscription, catalog) or subscription, at_us)
    name = catalog.customer(subscription.customer).zone
    return whole_period(aligned, plan.interval, at_us, name).end_us


def _present(
    subscription: Subscription, stored: Sequence[StoredPeriod], catalog: Catalog, at_us: int
) -> Place | None:
    """Return the period that contains an instant: of the plan's own interval, else the shortest."""
    own = catalog.plan(*plan_at(subscription, at_us)).interval
    there = [
        place
        for place in places(subscription, stored, catalog, at_us).found
        if place.slot.start_us <= at_us < place.slot.end_us
    ]
    there.sort(key=lambda place: (place.interval != own, place.slot.end_us))
    return there[0] if there else None


def _bounds(
    subscription: Subscription, stored: Sequence[StoredPeriod], catalog: Catalog, at_us: int
) -> list[Period]:
    """Return the present period and the next one, of the same interval."""
    at_us = max(at_us, subscription.start_us)
    present = _present(subscription, stored, catalog, at_us)
    if present is None:
        return []
    found = [Period(present.slot.start_us, present.slot.end_us)]
    following = _present(subscription, stored, catalog, present.slot.end_us)
    if following is not None and following.interval == present.interval:
        found.append(Period(following.slot.start_us, following.slot.end_us))
    return found


def _moves(
    subscription: Subscription,
    when: str | None,
    now_us: int,
    stored: Sequence[StoredPeriod],
    catalog: Catalog,
) -> tuple[int, int | None]:
    """Return when a subscription is moved, and the version that its period then is opened with."""
    at_us = instant(when, now_us, subscription, stored, catalog)
    opened = [one for one in stored if one.start_us <= at_us < one.end_us]
    return at_us, opened[0].plan_version if opened else None


def _plans(subscription: Subscription) -> set[str]:
    """Return every plan that a subscription ever is on."""
    changed = (getattr(one, "plan", "") for one in subscription.amendments)
    return {subscription.plan, *changed}


def _quantities(subscription: Subscription, at_us: int) -> dict[str, Decimal]:
    changed = (a.charge for a in subscription.amendments if isinstance(a, QuantityChange))
    found = {
        charge: units(subscription, charge, at_us, at_us + 1)
        for charge in sorted({*subscription.quantities, *changed})
    }
    return {charge: there[-1][1] for charge, there in found.items() if there}


def _write(billing: Billing, catalog: Catalog, decisions: Sequence[Decision], *, dry: bool) -> None:
    """Write what was decided and that it is told, all of it or nothing."""
    entries = [one.subscription for one in decisions]
    if dry:
        check_references(with_entries(catalog, entries))
        return
    if not entries:
        return
    facts = [_told(one) for one in decisions]
    put(billing.catalog, billing.tenant, entries, facts, catalog)


_KINDS: dict[type, str] = {
    Cancel: "subscription.cancelled",
    Uncancel: "subscription.uncancelled",
    Pause: "subscription.paused",
    Resume: "subscription.resumed",
}
"""Amendments that are told by a kind of their own."""


def _told(one: Decision) -> Fact:
    """Return the fact that a subscription was changed."""
    return fact(
        _KINDS.get(type(one.amendment), "subscription.changed"),
        one.subscription.key,
        one.subscription.customer,
        one.amendment.recorded_us,
        Told(
            subscription=one.subscription.key,
            change=one.text,
            at=format_us(one.amendment.at_us),
            state=one.state,
        ),
        step=str(len(one.subscription.amendments)),
    )
