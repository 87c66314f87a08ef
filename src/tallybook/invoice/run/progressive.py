"""Progressive billing: an invoice as soon as a subscription's usage reaches a threshold.

Stateless: a threshold is crossed while what was billed of the subscription's usage is below it and
what would be billed now is not. Billing it ends that, so each threshold makes one invoice, whatever
is retried, and one that an ordinary invoice passes makes none.

Source: docs/algorithms/progressive.md
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from tallybook.catalog.amendment import PlanChange
from tallybook.catalog.catalog import Catalog
from tallybook.catalog.plan import Plan, thresholds
from tallybook.catalog.subscription import Subscription
from tallybook.invoice.document import Draft
from tallybook.invoice.manifest import Position
from tallybook.invoice.ports import Books
from tallybook.invoice.run.payers import Payer
from tallybook.invoice.run.work import Work
from tallybook.kernel.decimals import EXACT
from tallybook.kernel.money import from_minor

_NONE = Decimal(-1)
"""Below every threshold."""


def reached(rising: Sequence[Decimal], step: Decimal | None, value: Decimal) -> Decimal:
    """Return the greatest threshold that is not above a value; below zero for none.

    Args:
        rising: thresholds.
        step: another one after each such amount beyond the last; None for none.
        value: usage so far, in the currency.
    """
    found = max((one for one in rising if one <= value), default=_NONE)
    if step is None or not rising or value < rising[-1]:
        return found
    beyond = EXACT.divide_int(EXACT.subtract(value, rising[-1]), step)
    return EXACT.fma(beyond, step, rising[-1])


def with_thresholds(catalog: Catalog, payers: Sequence[Payer]) -> list[Payer]:
    """Return the payers of whom a subscription may have thresholds."""
    plans = {
        key for key, versions in catalog.plans.items() if any(plan.thresholds for plan in versions)
    }
    return [
        payer
        for payer in payers
        if any(one.thresholds or not plans.isdisjoint(_plans(one)) for one in payer.subscriptions)
    ]


def has_crossed(catalog: Catalog, books: Books, work: Work, draft: Draft | None) -> bool:
    """Whether usage that is not billed yet takes one of a payer's subscriptions past a threshold.

    Args:
        catalog: plans.
        books: that the work was decided from.
        work: until now.
        draft: composed of it.
    """
    if draft is None:
        return False
    open_minor: dict[str, int] = {}
    for line in draft.invoice.lines:
        if line.kind == "usage":
            before = open_minor.get(line.subscription, 0)
            open_minor[line.subscription] = before + line.amount_minor
    return any(
        _crosses(catalog, books, work, one, open_minor[one.key])
        for one in work.payer.subscriptions
        if open_minor.get(one.key, 0) > 0
    )


def _crosses(
    catalog: Catalog, books: Books, work: Work, subscription: Subscription, open_minor: int
) -> bool:
    currency = work.payer.customer.currency
    plan = _plan(catalog, books, work, subscription.key)
    rising = subscription.thresholds
    if rising is None:
        rising = thresholds(plan, currency)
    billed = billed_minor(catalog, books, subscription.key)
    step = plan.thresholds_step
    before = reached(rising, step, from_minor(billed, currency))
    return reached(rising, step, from_minor(billed + open_minor, currency)) > before


def billed_minor(catalog: Catalog, books: Books, subscription: str) -> int:
    """Return what was billed of the usage of a subscription, in all its periods."""
    return sum(
        billed.amount_minor
        for position in _metered(catalog, books, subscription)
        for billed in books.billed.get(position, {}).values()
    )


def _metered(catalog: Catalog, books: Books, subscription: str) -> Iterator[Position]:
    """Yield the positions of usage of a subscription's stored periods."""
    for period in books.periods.get(subscription, ()):
        plan = catalog.plan(period.plan, period.plan_version)
        for charge in plan.charges:
            if charge.meter is not None and plan.interval_of(charge) == period.interval:
                yield Position(subscription, charge.key, period.start_us)


def _plan(catalog: Catalog, books: Books, work: Work, subscription: str) -> Plan:
    """Return the plan of a subscription's newest period."""
    known = [*books.periods.get(subscription, ())]
    known += [period for period in work.periods if period.subscription == subscription]
    newest = max(known, key=lambda period: period.start_us)
    return catalog.plan(newest.plan, newest.plan_version)


def _plans(subscription: Subscription) -> set[str]:
    """Return the keys of all plans that a subscription has had, or will have."""
    changes = (one for one in subscription.amendments if isinstance(one, PlanChange))
    return {subscription.plan, *(change.plan for change in changes)}
