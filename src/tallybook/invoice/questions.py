"""Questions to the usage reader: many customers' items in as few queries as possible.

Items with the same meter version, window, split and needs of the price ask together, split by
owner; so 1,753 customers of one plan are one query a charge.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.customer import Customer
from tallybook.catalog.plan import Charge
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
from tallybook.rate.recurring import Recurring, levels
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
    recurring: Recurring | None


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
    group = msgspec.structs.replace(_group(item, catalog, customer), recurring=None)
    return _query(tenant, group, catalog, cut, ownerships(customer))


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
    groups = _Groups(catalog)
    found: dict[str, dict[Position, dict[Group, Fact]]] = {}
    for one in asked:
        facts = found.setdefault(one.customer.key, {})
        for item in one.items:
            if item.meter is not None:
                owner = owner_of(item, one.customer, one.members)
                place = (owner, facts.setdefault(item.position, {}))
                if item.until_us <= item.position.start_us:
                    continue  # Nothing is left of its period.
                groups.of(item, owner).append(place)
    for group, places in groups.found.items():
        by_owner: dict[str, list[dict[Group, Fact]]] = {}
        for owner, into in places:
            by_owner.setdefault(owner.key, []).append(into)
        rows = _rows(reader, tenant, group, catalog, cut, [owner for owner, _ in places])
        for key, split, fact in _facts(rows, group, catalog):
            for into in by_owner[key]:
                into[split] = fact
    return dict(found)


_Place = tuple[Customer, dict[Group, Fact]]
"""Whose usage is asked for, and where the answer belongs."""


class _Groups:
    """Items by what they must share to be asked together.

    Attributes:
        found: where the answers belong, by group.
    """

    def __init__(self, catalog: Catalog) -> None:
        """Know no item yet."""
        self.found: dict[_Group, list[_Place]] = {}
        self._catalog = catalog
        self._alike: dict[tuple[object, ...], list[_Place]] = {}

    def of(self, item: Item, owner: Customer) -> list[_Place]:
        """Return the places of an item's group; of items at the plan's price, found at once."""
        if item.price is not None:
            return self._grouped(item, owner)
        position = item.position
        alike = (
            item.plan,
            item.plan_version,
            position.charge,
            position.start_us,
            item.until_us,
            item.meter,
            item.meter_version,
            item.full_start_us,
            item.full_end_us,
            owner.zone,
        )
        places = self._alike.get(alike)
        if places is None:
            places = self._alike[alike] = self._grouped(item, owner)
        return places

    def _grouped(self, item: Item, owner: Customer) -> list[_Place]:
        return self.found.setdefault(_group(item, self._catalog, owner), [])


def _facts(
    rows: Iterable[Usage], group: _Group, catalog: Catalog
) -> Iterator[tuple[str, Group, Fact]]:
    """Yield the fact of each dimension value, with its owner."""
    if group.recurring is not None:
        aggregation = catalog.meter(group.meter, group.version).aggregation
        yield from _levels(rows, group, group.recurring, aggregation)
    elif group.cells:
        yield from _of_cells(rows, group)
    else:
        for row in rows:
            value = ZERO if row.value is None else row.value
            fact = Fact(value, row.events, row.digest, (), row.bands)
            yield row.owner or "", row.group, fact


def _of_cells(rows: Iterable[Usage], group: _Group) -> Iterator[tuple[str, Group, Fact]]:
    """Yield the facts of a matrix price, each of many rows."""
    found: dict[tuple[str, Group], Fact] = {}
    for row in rows:
        value = ZERO if row.value is None else row.value
        key = (row.owner or "", row.group[: len(group.split_by)])
        before = found.get(key, NOTHING)
        found[key] = Fact(
            EXACT.add(before.value, value),
            before.events + row.events,
            before.digest + row.digest,
            (*before.cells, (_cell(group, row), value)),
        )
    for (owner, split), fact in found.items():
        yield owner, split, fact


def _levels(
    rows: Iterable[Usage], group: _Group, recurring: Recurring, aggregation: str
) -> Iterator[tuple[str, Group, Fact]]:
    """Yield the facts of a recurring charge, with their owners and dimension values.

    Its events are those of the period; what came before is in its value alone. A value that is
    nothing from before the period to its end has no fact.
    """
    found: dict[tuple[str, Group], dict[Group, list[Usage]]] = {}
    for row in rows:
        split = row.group[: len(group.split_by)]
        cell = _cell(group, row) if group.cells else ()
        found.setdefault((row.owner or "", split), {}).setdefault(cell, []).append(row)
    for (owner, split), by_cell in found.items():
        inside = [r for cell in by_cell.values() for r in cell if r.start_us >= group.start_us]
        level = levels(recurring, aggregation, by_cell)
        if not inside and not level.quantity and not any(one.quantity for one in level.held):
            continue
        yield (
            owner,
            split,
            Fact(
                level.quantity,
                sum(row.events for row in inside),
                sum(row.digest for row in inside),
                level.cells if group.cells else (),
                held=level.held,
                full_days=level.full_days,
            ),
        )


def _cell(group: _Group, row: Usage) -> Group:
    """Return a row's values of the price's dimensions."""
    named = dict(zip(_dimensions(group), row.group, strict=True))
    return tuple(named[name] for name in group.cells)


def _group(item: Item, catalog: Catalog, owner: Customer) -> _Group:
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
        None if charge.recurring else event_terms(price),
        _recurring(item, charge, owner) if charge.recurring else None,
    )


def _recurring(item: Item, charge: Charge, owner: Customer) -> Recurring:
    return Recurring(
        proration=charge.proration,
        start_us=item.position.start_us,
        until_us=item.until_us,
        full_start_us=item.full_start_us,
        full_end_us=item.full_end_us,
        zone=owner.zone,
        releases=tuple(charge.releases.items()),
    )


def _dimensions(group: _Group) -> tuple[str, ...]:
    """Return the dimensions to ask by: what the charge is split by, then the price's own."""
    return (*group.split_by, *(name for name in group.cells if name not in group.split_by))


def _query(
    tenant: str, group: _Group, catalog: Catalog, cut: int, owners: tuple[Ownership, ...]
) -> UsageQuery:
    recurring = group.recurring
    return UsageQuery(
        tenant=tenant,
        meter=catalog.meter(group.meter, group.version),
        bounds=(group.start_us, group.until_us) if recurring is None else recurring.borders(),
        cut=cut,
        group_by=_dimensions(group),
        owners=owners,
        where=dict(group.where),
        each=group.each,
        level=None if recurring is None else recurring.terms(),
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
