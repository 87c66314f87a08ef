"""What composing one payer takes, as values that can go to another process.

Source: docs/algorithms/billing-runs.md
"""

from collections.abc import Iterator

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.subscription import StoredPeriod
from tallybook.invoice.document import Facts
from tallybook.invoice.funds import Funds
from tallybook.invoice.manifest import Extra, Group, Item, Position
from tallybook.invoice.ports import Account, BillingRun, Bounds, Last, Seen
from tallybook.invoice.rating import Fact
from tallybook.invoice.run.basis import Basis, Stand
from tallybook.invoice.run.work import Work, recounted

_NEVER = Last(0, "", "")
_NOTHING = Account()


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What every invoice of a run shares: values alone, no ports.

    Attributes:
        tz: version of the time zone data.
        at_once: nothing waits as a draft.
    """

    tenant: str
    tz: str
    bounds: Bounds
    run: BillingRun
    catalog: Catalog
    at_once: bool = False


class Found(msgspec.Struct, frozen=True, array_like=True):
    """The usage of one dimension value of an item."""

    position: Position
    group: Group
    fact: Fact


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One payer to be composed.

    Attributes:
        payer: key.
        members: keys of the customers that it pays for.
        items: to rate.
        found: their usage.
        periods: afterwards.
        version: of the books that it is decided from.
        last: its newest invoice.
        recent: invoices that it got within the last 24 hours.
        funds: what reduces its invoice.
        extras: one-off charges, its own and those of its members.
        seen: that all of it was looked at; None where it was not.
    """

    payer: str
    members: tuple[str, ...]
    items: tuple[Item, ...]
    found: tuple[Found, ...]
    periods: tuple[StoredPeriod, ...]
    version: int
    last: Last
    recent: int
    funds: Funds
    extras: tuple[Extra, ...]
    seen: Seen | None = None

    def facts(self) -> Facts:
        """Return the usage by item and dimension value."""
        facts: dict[Position, dict[Group, Fact]] = {}
        for one in self.found:
            facts.setdefault(one.position, {})[one.group] = one.fact
        return facts


def scope_of(basis: Basis) -> Scope:
    """Return what every invoice of a run shares."""
    billing = basis.billing
    return Scope(
        tenant=billing.tenant,
        tz=billing.tz,
        bounds=billing.bounds,
        run=basis.run,
        catalog=basis.catalog,
        at_once=basis.at_once,
    )


def task_of(stand: Stand, work: Work, facts: Facts, cut: int) -> Task:
    """Return what composing a payer takes.

    Args:
        stand: where billing stands of it.
        work: what it has to bill.
        facts: the usage of the items.
        cut: the run's snapshot.
    """
    books, payer = stand.books, work.payer
    return Task(
        payer=payer.key,
        members=tuple(member.key for member in payer.members),
        items=work.items,
        found=tuple(
            Found(position, group, fact)
            for position, by_group in facts.items()
            for group, fact in by_group.items()
        ),
        periods=(*work.periods, *recounted(books, work, facts, cut)),
        version=books.versions.get(payer.key, 0),
        last=books.last.get(payer.key, _NEVER),
        recent=books.recent.get(payer.key, 0),
        funds=stand.accounts.get(payer.key, _NOTHING).funds,
        extras=tuple(_extras(stand, work)),
        seen=work.seen,
    )


def _extras(stand: Stand, work: Work) -> Iterator[Extra]:
    """Yield the one-off charges of a payer, and those of the customers that it pays for."""
    yield from stand.accounts.get(work.key, _NOTHING).extras
    for member in work.payer.members:
        for extra in stand.accounts.get(member.key, _NOTHING).extras:
            yield msgspec.structs.replace(extra, customer=member.key)
