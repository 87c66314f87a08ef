"""What one payer has to bill: the items of all its subscriptions, and their periods afterwards.

Source: docs/algorithms/billing-runs.md, docs/algorithms/taxes.md
"""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from tallybook.catalog.subscription import StoredPeriod
from tallybook.invoice.document import Facts
from tallybook.invoice.due import BillRequest, horizon
from tallybook.invoice.manifest import Item
from tallybook.invoice.ports import Books, Seen
from tallybook.invoice.questions import Asked
from tallybook.invoice.run.basis import Basis, Stand
from tallybook.invoice.run.batch.quiet import seen_now
from tallybook.invoice.run.bounds import check_periods
from tallybook.invoice.run.payers import Payer
from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Corrupt


class Work(msgspec.Struct, frozen=True):
    """One payer of a run.

    Attributes:
        payer: who.
        items: to rate; some may turn out to have no line.
        periods: new or changed ones, to be stored with the invoice.
        waiting: periods of the month asked for that have not ended yet.
        seen: that all of it was looked at; None where it was not.
    """

    payer: Payer
    items: tuple[Item, ...]
    periods: tuple[StoredPeriod, ...]
    waiting: int
    seen: Seen | None = None

    @property
    def key(self) -> str:
        """The key of the customer that pays."""
        return self.payer.key

    @property
    def asked(self) -> Asked:
        """What the usage reader is asked for it."""
        return Asked(self.payer.customer, self.items, self.payer.members)


@contextmanager
def alone_at_fault(payer: str) -> Iterator[None]:
    """Give a failure of the program over one payer as that payer's, which parks it alone.

    Raises:
        Corrupt: code 'bug', with what failed.
    """
    try:
        yield
    except (ArithmeticError, AssertionError, LookupError, ValueError, TypeError) as error:
        reason = f"billing {payer} failed: {type(error).__name__}: {error}"
        raise Corrupt(reason, code="bug") from error


def work_of(basis: Basis, stand: Stand, payer: Payer) -> Work:
    """Return what a payer has to bill.

    Raises:
        Missing: a plan, meter or tax is not there.
        Conflict: a subscription's periods overlap.
        Corrupt: the program failed over this payer.
    """
    with alone_at_fault(payer.key):
        return _work_of(basis, stand, payer)


def _work_of(basis: Basis, stand: Stand, payer: Payer) -> Work:
    run, catalog, books = basis.run, basis.catalog, stand.books
    request = BillRequest(period=run.period, until_us=run.until_us)
    quiet_us = stand.quiet.get(payer.key)
    items: list[Item] = []
    periods: list[StoredPeriod] = []
    waiting = 0
    for subscription in payer.subscriptions:
        owner = catalog.customers[subscription.customer]
        seen = horizon(request, owner.zone, run.started_us, quiet_us)
        stored = books.periods.get(subscription.key, ())
        found = stand.alike.due(subscription, stored, books.billed, seen)
        check_periods(_afterwards(stored, found.periods))
        items += found.items
        periods += found.periods
        waiting += found.waiting
    told = seen_now(payer, basis.billing.tz, run.cut)
    return Work(payer, tuple(items), tuple(periods), waiting, told)


def recounted(books: Books, work: Work, facts: Facts, cut: int) -> Iterator[StoredPeriod]:
    """Yield the closed periods whose events differ from what was billed, as counted now."""
    changed = {
        (item.position.subscription, item.position.charge, item.position.start_us)
        for item in work.items
        if item.adjustment and item.meter is not None and _differs(item, facts)
    }
    starts = {(subscription, start_us) for subscription, _, start_us in changed}
    moved = {_place(period) for period in work.periods}
    for subscription, start_us in sorted(starts):
        for period in books.periods[subscription]:
            if period.start_us == start_us and period.closed and _place(period) not in moved:
                yield msgspec.structs.replace(period, cut=cut)


def _place(period: StoredPeriod) -> tuple[str, str, int]:
    return period.subscription, period.interval, period.start_us


def _afterwards(
    stored: tuple[StoredPeriod, ...], changed: tuple[StoredPeriod, ...]
) -> list[StoredPeriod]:
    """Return all periods of a subscription as they are to be."""
    found = {_place(period): period for period in stored}
    found.update((_place(period), period) for period in changed)
    return list(found.values())


def _differs(item: Item, facts: Facts) -> bool:
    """Whether events or value differ: a late level before the period changes the value alone."""
    found = facts[item.position].items()
    now = {group: (str(fact.digest), plain(fact.value)) for group, fact in found}
    before = {billed.group: (billed.digest, billed.quantity) for billed in item.before}
    none = ("0", "0")
    return any(now.get(g, none) != before.get(g, none) for g in now.keys() | before.keys())
