"""What a price is applied to: the measured usage of a period, in the detail the price needs."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from tallybook.catalog.price import Price, price_dimensions
from tallybook.meter.each import Bands, count_each
from tallybook.rate.matrix import Values
from tallybook.rate.percentage import event_terms
from tallybook.rate.recurring import Held
from tallybook.rate.step import ZERO, added


class Metered(msgspec.Struct, frozen=True, kw_only=True):
    """The usage of a period.

    Attributes:
        quantity: what the meter says; may be below zero.
        cells: the same for each combination of a matrix price's dimensions, sorted.
        bands: the single events under the terms of a percentage price; None for any other price.
        held: where each day counts at its own level, the days; () where the quantity is priced.
        full_days: of the whole period that they are days of.
    """

    quantity: Decimal
    cells: tuple[tuple[Values, Decimal], ...] = ()
    bands: Bands | None = None
    held: tuple[Held, ...] = ()
    full_days: int = 1


class PricedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event as a price sees it.

    Attributes:
        quantity: what the meter measures in it.
        dimensions: its values; what a price names and is not here is missing.
    """

    quantity: Decimal
    dimensions: Mapping[str, str | None] = {}


def metered_events(price: Price, events: Sequence[PricedEvent]) -> Metered:
    """Return the usage that events make, as a SUM meter measures it.

    Args:
        price: checked.
        events: in the order of their time.
    """
    values = [event.quantity for event in events]
    terms = event_terms(price)
    bands = None if terms is None else count_each(terms, values)
    return Metered(
        quantity=added(values), cells=_cells(price_dimensions(price), events), bands=bands
    )


def sorted_cells(cells: Mapping[Values, Decimal]) -> tuple[tuple[Values, Decimal], ...]:
    """Return combinations in one order, a missing value before any text."""
    return tuple(
        sorted(cells.items(), key=lambda cell: [(v is not None, v or "") for v in cell[0]])
    )


def _cells(
    dimensions: tuple[str, ...], events: Iterable[PricedEvent]
) -> tuple[tuple[Values, Decimal], ...]:
    if not dimensions:
        return ()
    cells: dict[Values, list[Decimal]] = {}
    for event in events:
        values = tuple(event.dimensions.get(name) for name in dimensions)
        cells.setdefault(values, [ZERO]).append(event.quantity)
    return sorted_cells({values: added(found) for values, found in cells.items()})
