"""Who may bill which part of a subject's timeline, for one meter.

A subject's timeline is cut into segments; each carries the claims that charges have on it. Pure,
so that conservation (guarantee 7) can be computed from the books alone and compared with the lake.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.customer import FAR_US, Customer, SubjectSpan
from tallybook.catalog.plan import Charge
from tallybook.catalog.subscription import Subscription
from tallybook.invoice.due import charges_of, stretches_of
from tallybook.invoice.ports import Books

Where = tuple[tuple[str, tuple[str | None, ...]], ...]


class Claim(msgspec.Struct, frozen=True):
    """A charge prices the usage of some instants.

    Attributes:
        where: the charge's filter.
        cut: usage of these instants was billed at this snapshot; None where it was not yet.
    """

    where: Where
    cut: int | None

    def matches(self, dimensions: dict[str, str | None]) -> bool:
        """Whether an event with these dimension values is priced."""
        return all(dimensions[name] in allowed for name, allowed in self.where)


class Label(msgspec.Struct, frozen=True):
    """What holds for a segment: whether a customer owns it, and the claims on it."""

    mapped: bool
    claims: frozenset[Claim]


class Segment(msgspec.Struct, frozen=True):
    """Instants `start_us <= t < end_us` of a subject."""

    subject: str
    start_us: int
    end_us: int
    label: Label


class _Stretch(msgspec.Struct, frozen=True):
    """Instants with something that holds for them: a claim, or None for mere ownership."""

    start_us: int
    end_us: int
    claim: Claim | None


def segments(
    meter: str, subjects: Iterable[str], catalog: Catalog, books: Books
) -> Iterator[Segment]:
    """Yield the whole timeline of every subject, cut where what holds for it changes.

    Args:
        meter: key of the meter.
        subjects: every subject that has events.
        catalog: customers, subscriptions and plans.
        books: stored periods.
    """
    owned: dict[str, list[_Stretch]] = {subject: [] for subject in subjects}
    for customer in catalog.customers.values():
        if catalog.live("customer", customer.key):
            claims = list(_claims(meter, customer, catalog, books))
            for span in customer.subjects:
                if span.subject in owned:
                    owned[span.subject] += _in_span(span, claims)
    for subject, stretches in owned.items():
        yield from _cut(subject, stretches)


def _claims(meter: str, customer: Customer, catalog: Catalog, books: Books) -> Iterator[_Stretch]:
    for key, subscription in catalog.subscriptions.items():
        if subscription.customer == customer.key and catalog.live("subscription", key):
            yield from _of_subscription(meter, subscription, catalog, books)


def _of_subscription(
    meter: str, subscription: Subscription, catalog: Catalog, books: Books
) -> Iterator[_Stretch]:
    """Yield the claims of stored periods, and of the time after them."""
    stored = books.periods.get(subscription.key, ())
    after: dict[str, int] = {}
    for period in stored:
        charges = charges_of(period, catalog)
        yield from _of_charges(meter, charges, period.start_us, period.end_us, None)
        if period.until_us > period.start_us:
            yield from _of_charges(meter, charges, period.start_us, period.until_us, period.cut)
        after[period.interval] = max(after.get(period.interval, -FAR_US), period.end_us)
    for stretch in stretches_of(subscription, stored, catalog):
        plan = catalog.plan(stretch.plan, stretch.plan_version)
        end = FAR_US if stretch.end_us is None else stretch.end_us
        for charge in plan.charges:
            start = max(stretch.start_us, after.get(plan.interval_of(charge), stretch.start_us))
            yield from _of_charges(meter, [charge], start, end, None)


def _of_charges(
    meter: str, charges: Iterable[Charge], start_us: int, end_us: int, cut: int | None
) -> Iterator[_Stretch]:
    for charge in charges:
        if charge.meter == meter and start_us < end_us:
            yield _Stretch(start_us, end_us, Claim(tuple(charge.where.items()), cut))


def _in_span(span: SubjectSpan, claims: Iterable[_Stretch]) -> Iterator[_Stretch]:
    """Yield the span itself, and the parts of the claims that lie in it."""
    start = -FAR_US if span.start_us is None else span.start_us
    end = FAR_US if span.end_us is None else span.end_us
    yield _Stretch(start, end, None)
    for claim in claims:
        first, last = max(start, claim.start_us), min(end, claim.end_us)
        if first < last:
            yield _Stretch(first, last, claim.claim)


def _cut(subject: str, stretches: list[_Stretch]) -> Iterator[Segment]:
    """Yield the timeline in segments; neighbours with one label are one segment."""
    borders = {-FAR_US, FAR_US}
    for stretch in stretches:
        borders |= {stretch.start_us, stretch.end_us}
    pending: Segment | None = None
    for start, end in pairwise(sorted(borders)):
        here = [s for s in stretches if s.start_us <= start and end <= s.end_us]
        claims = frozenset(s.claim for s in here if s.claim is not None)
        label = Label(bool(here), claims)
        if pending is not None and pending.label == label:
            pending = Segment(subject, pending.start_us, end, label)
            continue
        if pending is not None:
            yield pending
        pending = Segment(subject, start, end, label)
    assert pending is not None, "a timeline has at least one segment"
    yield pending
