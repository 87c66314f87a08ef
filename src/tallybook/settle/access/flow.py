"""Balances of many entitlements worked out together, from stored events.

Source: docs/algorithms/entitlements.md, Kept balances
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.entitlement import Entitlement, Metered
from tallybook.catalog.meter import Meter
from tallybook.invoice.questions import ownerships
from tallybook.kernel.timestamps import LAST_US
from tallybook.meter.usage import Ownership, UsageQuery
from tallybook.rate.ports import UsageReader
from tallybook.settle.access.asking import Plan, plan
from tallybook.settle.access.kept import Kept, Terms
from tallybook.settle.balance import NOTHING
from tallybook.settle.flow import ADDITIVE
from tallybook.settle.ports import EntitlementFacts

KEEPABLE = (*ADDITIVE, "MAX", "UNIQUE_COUNT")
"""Aggregations whose usage is steady between events; a value held over time grows by itself."""
OWNERS_MAX = 5_000
"""Spans of subjects that one question carries, about."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A balance to work out.

    Attributes:
        known: of the same terms, in whose settled part no usage is new; None to begin anew.
    """

    terms: Terms
    known: Kept | None = None


def terms_of(catalog: Catalog, entitlement: Entitlement, facts: EntitlementFacts) -> Terms | None:
    """Return what the balance of an entitlement depends on; None where none can be kept.

    Raises:
        Missing: the catalog has no such customer or meter.
    """
    metered = entitlement.access
    if not isinstance(metered, Metered):
        return None
    meter = catalog.meter(metered.meter)
    if meter.aggregation not in KEEPABLE:
        return None
    owners = ownerships(catalog.customer(entitlement.customer))
    return Terms(entitlement=entitlement, meter=meter, owners=owners, facts=facts)


def work_out(
    reader: UsageReader,
    tenant: str,
    wanted: Sequence[Wanted],
    at_us: int,
    cut: int,
    give_way: Callable[[], None] = lambda: None,
) -> list[Kept | None]:
    """Return balances at an instant as of a snapshot, in the order they were asked for.

    Args:
        reader: answers questions about usage.
        tenant: whose.
        wanted: any number; those of one meter and filter are asked for together.
        at_us: now; None is the answer for what begins to be measured later.
        cut: snapshot.
        give_way: called after each step for a balance, so that others come first.

    Cost: the events since the balances were settled; questions of `OWNERS_MAX` spans.
    """
    jobs: list[_Job] = []
    for number, one in enumerate(wanted):
        if one.terms.metered.measure_from_us <= at_us:
            jobs.append(_Job(number, plan(one.terms, one.known, at_us)))
        give_way()
    for query, answered in _questions(tenant, jobs, cut, give_way):
        for row in reader.usage(query):
            job, place = answered[row.owner or ""]
            job.note(place, row.value or NOTHING, row.events)
    found: list[Kept | None] = [None] * len(wanted)
    for job in jobs:
        ahead_us = job.ahead_us(reader, tenant, cut)
        found[job.number] = job.plan.kept(job.values, cut, ahead_us)
        give_way()
    return found


class _Job:
    """A balance that is being worked out."""

    def __init__(self, number: int, of: Plan) -> None:
        self.number = number
        self.plan = of
        self.values = [NOTHING] * len(of.spans)
        self.ahead = False

    def note(self, place: int, value: Decimal, events: int) -> None:
        """Take an answer."""
        if place < len(self.values):
            self.values[place] = value
        else:
            self.ahead = events > 0

    def ahead_us(self, reader: UsageReader, tenant: str, cut: int) -> int | None:
        """Return the time of the first event at or after the instant."""
        if not self.ahead:
            return None
        owners = tuple(self.plan.owners(len(self.values), ""))
        metered = self.plan.terms.metered
        bounds = (self.plan.at_us, LAST_US)
        query = _query(tenant, self.plan.terms.meter, metered, bounds, owners, cut)
        return min(event.time_us for event in reader.events(query))


_Place = tuple[_Job, int]


class _Question:
    """A question that many balances ask together; within it no customer's spans overlap."""

    def __init__(self, meter: Meter, metered: Metered) -> None:
        self.meter = meter
        self.metered = metered
        self.owners: list[Ownership] = []
        self.places: dict[str, _Place] = {}

    def add(self, job: _Job, place: int) -> None:
        """Ask for one more span."""
        owner = str(len(self.places))
        self.places[owner] = (job, place)
        self.owners += job.plan.owners(place, owner)

    def query(self, tenant: str, cut: int) -> UsageQuery:
        """Return it as the reader understands it."""
        starts = [owned.start_us for owned in self.owners if owned.start_us is not None]
        bounds = (min(starts), LAST_US)
        return _query(tenant, self.meter, self.metered, bounds, tuple(self.owners), cut)


def _questions(
    tenant: str, jobs: Iterable[_Job], cut: int, give_way: Callable[[], None]
) -> Iterator[tuple[UsageQuery, dict[str, _Place]]]:
    """Yield questions, each with whose answer is whose."""
    open_: dict[tuple[object, ...], _Question] = {}
    layers: dict[tuple[str, ...], int] = {}
    for job in jobs:
        terms = job.plan.terms
        kind = (terms.meter.key, *_texts(terms.metered))
        theirs = (*kind, terms.entitlement.customer)
        layer = layers[theirs] = layers.get(theirs, -1) + 1
        for number in range(len(job.values) + 1):
            apart = 0 if job.plan.additive else number
            key = (*kind, terms.meter.version, layer, apart)
            question = open_.setdefault(key, _Question(terms.meter, terms.metered))
            question.add(job, number)
        for key in [key for key, one in open_.items() if len(one.owners) >= OWNERS_MAX]:
            full = open_.pop(key)
            yield full.query(tenant, cut), full.places
        give_way()
    for question in open_.values():
        if question.owners:
            yield question.query(tenant, cut), question.places


def _texts(metered: Metered) -> tuple[str, ...]:
    return tuple(f"{name}={','.join(values)}" for name, values in metered.filter.items())


def _query(
    tenant: str,
    meter: Meter,
    metered: Metered,
    bounds: tuple[int, int],
    owners: tuple[Ownership, ...],
    cut: int,
) -> UsageQuery:
    return UsageQuery(
        tenant=tenant,
        meter=meter,
        bounds=bounds,
        cut=cut,
        owners=owners,
        where=dict(metered.filter),
    )
