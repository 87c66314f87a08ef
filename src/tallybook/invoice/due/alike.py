"""Decisions that hold for many subscriptions: those that differ in their names are decided once.

A decision is a function of the subscription, its stored periods, its customer's terms, the catalog,
the run's instants, and what was billed of the positions that it asks about. One that found nothing
billed wherever it asked holds for every subscription with the same of all the others, as long as
nothing is billed there either; only the names in it are those of another one.

Source: docs/algorithms/billing-runs.md
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.customer import Customer, Place
from tallybook.catalog.subscription import StoredPeriod, Subscription
from tallybook.invoice.due.decide import Due, due
from tallybook.invoice.due.items import History
from tallybook.invoice.due.request import Horizon
from tallybook.invoice.manifest import Billed, Group, Position


class _Pattern(msgspec.Struct, frozen=True):
    """A decision, and the positions that it found nothing billed of: charge and start."""

    due: Due
    asked: tuple[tuple[str, int], ...]


class Alike:
    """The decisions of a run, each made once for all whom it holds for.

    Args:
        catalog: of the run.
        cut: the run's snapshot.
    """

    def __init__(self, catalog: Catalog, cut: int) -> None:
        """Know nothing yet."""
        self._catalog = catalog
        self._cut = cut
        self._known: dict[bytes, _Pattern] = {}

    def due(
        self,
        subscription: Subscription,
        stored: Sequence[StoredPeriod],
        history: History,
        seen: Horizon,
    ) -> Due:
        """Return what a subscription has to bill, as `due` decides it.

        Args:
            subscription: whose.
            stored: its periods, oldest first.
            history: what was billed before.
            seen: the run's instants in the customer's zone.

        Raises:
            Missing: a plan or meter version is not there.
        """
        catalog, cut = self._catalog, self._cut
        customer = catalog.customer(subscription.customer)
        if subscription.base or customer.parent:
            return due(subscription, stored, history, catalog, seen, cut)
        likeness = _likeness(customer, subscription, stored, seen)
        known = self._known.get(likeness)
        if known is not None and _unbilled(known, subscription.key, history):
            return _of(known.due, subscription.key)
        watched = _Watched(history)
        found = due(subscription, stored, watched, catalog, seen, cut)
        asked = watched.found_nothing_at(subscription.key)
        if asked is not None:
            self._known[likeness] = _Pattern(found, asked)
        return found


def _likeness(
    customer: Customer, subscription: Subscription, stored: Sequence[StoredPeriod], seen: Horizon
) -> bytes:
    """Return everything that a decision is made from, but names and where letters go."""
    terms = msgspec.structs.replace(
        customer, key="", name="", address=(), email="", tax_id="", subjects=(), place=_NOWHERE
    )
    subscribed = msgspec.structs.replace(subscription, key="", customer="")
    periods = [msgspec.structs.replace(period, subscription="") for period in stored]
    return msgspec.json.encode((terms, subscribed, periods, seen))


_NOWHERE = Place()


def _unbilled(pattern: _Pattern, subscription: str, history: History) -> bool:
    """Whether nothing is billed wherever a decision asked."""
    return not any(Position(subscription, *place) in history for place in pattern.asked)


def _of(found: Due, subscription: str) -> Due:
    """Return a decision in the name of another subscription."""
    replace = msgspec.structs.replace
    return Due(
        tuple(
            [
                replace(
                    item,
                    position=Position(subscription, item.position.charge, item.position.start_us),
                )
                for item in found.items
            ]
        ),
        tuple([replace(period, subscription=subscription) for period in found.periods]),
        found.waiting,
    )


class _Watched(Mapping[Position, Mapping[Group, Billed]]):
    """What was billed, and which positions were asked about."""

    def __init__(self, history: History) -> None:
        """Watch a history."""
        self._history = history
        self._asked: set[Position] = set()
        self._found = False

    def found_nothing_at(self, subscription: str) -> tuple[tuple[str, int], ...] | None:
        """Return which positions were asked about; None where anything was found, or of others."""
        if self._found or any(one.subscription != subscription for one in self._asked):
            return None
        return tuple((one.charge, one.start_us) for one in self._asked)

    def __getitem__(self, position: Position) -> Mapping[Group, Billed]:
        """Return what was billed of a position."""
        self._asked.add(position)
        found = self._history[position]
        self._found = True
        return found

    def __iter__(self) -> Iterator[Position]:
        """Iterate over all positions: whatever follows is not of one subscription alone."""
        self._found = True
        return iter(self._history)

    def __len__(self) -> int:
        """Return how many positions there are."""
        self._found = True
        return len(self._history)
