"""Questions to the usage reader: many customers' items in as few queries as possible.

Items with the same meter version, window, split and needs of the price ask together, split by
owner; so 1,753 customers of one plan are one query a charge.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.customer import Customer
from tallybook.catalog.price import price_dimensions
from tallybook.invoice.document import Facts
from tallybook.invoice.manifest import Group, Item, Position
from tallybook.invoice.rating import NOTHING, Fact, price_of
from tallybook.kernel.decimals import EXACT
from tallybook.kernel.errors import Corrupt
from tallybook.meter.each import EachEvent
from tallybook.meter.usage import Ownership, Usage, UsageQuery
from tallybook.rate.percentage import event_terms
from tallybook.rate.ports import UsageReader
from tallybook.rate.step import ZERO

OWNERS_MAX = 20_000
"""Most subjects that one query carries."""


class Asked(msgspec.Struct, frozen=True):
    """What one customer's items ask for.

    Attributes:
        customer: who pays; the facts are found under its key.
        items: its own, and those of the customers that it pays for.
        members: the customers that it pays for.
    """

    customer: Customer
    items: tuple[Item, ...]
    members: tuple[Customer, ...] = ()


def owner_of(item: Item, payer: Customer, members: Sequence[Customer] = ()) -> Customer:
    """Return the customer whose item it is: whose subjects are counted, in whose zone.

    Raises:
        Corrupt: the item names a customer that is not there.
    """
    if item.customer in {"", payer.key}:
        return payer
    for member in members:
        if member.key == item.customer:
            return member
    message = f"an item of customer {item.customer} is not of a member of {payer.key}"
    raise Corrupt(message)


class _Group(msgspec.Struct, frozen=True):
    """What items must share to be asked together."""

    meter: str
    version: int
    start_us: int
    until_us: int
    split_by: tuple[str, ...]
    where: tuple[tuple[str, tuple[str | None, ...]], ...]
    cells: tuple[str, ...]
    each: EachEvent | None


def ownerships(customer: Customer) -> tuple[Ownership, ...]:
    """Return which subjects a customer owns, and when."""
    return tuple(
        Ownership(span.subject, customer.key, span.start_us, span.end_us)
        for span in customer.subjects
    )


def item_query(
    tenant: str, item: Item, catalog: Catalog, cut: int, customer: Customer
) -> UsageQuery:
    """Return the question that one item asks; raises Missing for an unknown version.

    Args:
        tenant: whose events.
        item: metered.
        catalog: holds every version that it names.
        cut: snapshot.
        customer: whose item it is (`owner_of`).
    """
    return _query(tenant, _group(item, catalog), catalog, cut, ownerships(customer))


def ask(
    reader: UsageReader, tenant: str, asked: Iterable[Asked], catalog: Catalog, cut: int
) -> dict[str, Facts]:
    """Return the usage of every payer's metered items at a cut, by the payer's key.

    Args:
        reader: answers.
        tenant: whose events.
        asked: no two customers own one subject at the same time.
        catalog: holds every version that the items name.
        cut: snapshot.

    Cost: one query for each meter version, window and split, for up to `OWNERS_MAX` subjects.
    """
    groups: dict[_Group, list[_Place]] = {}
    found: dict[str, dict[Position, dict[Group, Fact]]] = {}
    for one in asked:
        facts = found.setdefault(one.customer.key, {})
        for item in one.items:
            if item.meter is not None:
                fact = facts.setdefault(item.position, {})
                owner = owner_of(item, one.customer, one.members)
                groups.setdefault(_group(item, catalog), []).append((owner, fact))
    for group, places in groups.items():
        by_owner: dict[str, list[dict[Group, Fact]]] = {}
        for owner, fact in places:
            by_owner.setdefault(owner.key, []).append(fact)
        for row in _rows(reader, tenant, group, catalog, cut, [owner for owner, _ in places]):
            for fact in by_owner[row.owner or ""]:
                _add(fact, group, row)
    return dict(found)


_Place = tuple[Customer, dict[Group, Fact]]
"""Whose usage is asked for, and where the answer belongs."""


def _add(facts: dict[Group, Fact], group: _Group, row: Usage) -> None:
    """Add a row to the fact of its dimension value; a matrix price has many rows of one."""
    value = ZERO if row.value is None else row.value
    split = row.group[: len(group.split_by)]
    before = facts.get(split, NOTHING)
    cells = before.cells
    if group.cells:
        named = dict(zip(_dimensions(group), row.group, strict=True))
        cells = (*cells, (tuple(named[name] for name in group.cells), value))
    facts[split] = Fact(
        EXACT.add(before.value, value),
        before.events + row.events,
        before.digest + row.digest,
        cells,
        row.bands,
    )


def _group(item: Item, catalog: Catalog) -> _Group:
    charge = catalog.plan(item.plan, item.plan_version).charge(item.position.charge)
    assert charge is not None, "a stored plan version keeps its charges"
    assert item.meter is not None, "a fixed fee asks nothing"
    price = price_of(item, charge)
    return _Group(
        item.meter,
        item.meter_version or 0,
        item.position.start_us,
        item.until_us,
        charge.split_by,
        tuple(charge.where.items()),
        price_dimensions(price),
        event_terms(price),
    )


def _dimensions(group: _Group) -> tuple[str, ...]:
    """Return the dimensions to ask by: what the charge is split by, then the price's own."""
    return (*group.split_by, *(name for name in group.cells if name not in group.split_by))


def _query(
    tenant: str, group: _Group, catalog: Catalog, cut: int, owners: tuple[Ownership, ...]
) -> UsageQuery:
    return UsageQuery(
        tenant=tenant,
        meter=catalog.meter(group.meter, group.version),
        bounds=(group.start_us, group.until_us),
        cut=cut,
        group_by=_dimensions(group),
        owners=owners,
        where=dict(group.where),
        each=group.each,
    )


def _rows(
    reader: UsageReader,
    tenant: str,
    group: _Group,
    catalog: Catalog,
    cut: int,
    customers: list[Customer],
) -> Iterator[Usage]:
    """Yield the answer, asked in parts of bounded size; a customer is never in two parts."""
    part: list[Ownership] = []
    for customer in {customer.key: customer for customer in customers}.values():
        part += ownerships(customer)
        if len(part) >= OWNERS_MAX:
            yield from reader.usage(_query(tenant, group, catalog, cut, tuple(part)))
            part = []
    if part:
        yield from reader.usage(_query(tenant, group, catalog, cut, tuple(part)))
