"""What a price must be to be kept, type by type; numbers come out in their shortest spelling.

Past `check_price` nothing is checked again. Source: docs/algorithms/prices.md
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import TypeVar, assert_never

import msgspec

from tallybook.catalog.price.fields import (
    DECIMALS_MAX,
    amount,
    optional,
    percent,
    positive,
    refused,
    unless_zero,
)
from tallybook.catalog.price.kinds import (
    Cell,
    DynamicPrice,
    FlatPrice,
    GraduatedPercentagePrice,
    GraduatedPrice,
    MatrixPrice,
    Modified,
    PackagePrice,
    PercentagePrice,
    Price,
    PricingUnit,
    RateTier,
    Tier,
    UnitConversion,
    UnitPrice,
    VolumePrice,
)
from tallybook.catalog.price.units import free_amount_measured
from tallybook.kernel.decimals import SCALE, plain

TIERS_MAX = 100
CELLS_MAX = 1000
DIMENSIONS_MAX = 4
FREE_EVENTS_MAX = 10**9
UNIT_CHARS_MAX = 20

_Tier = TypeVar("_Tier", Tier, RateTier)
_Usage = TypeVar("_Usage", bound=Modified)


def check_price(price: Price) -> Price:
    """Return the price with every number checked and in its shortest spelling; raises Invalid."""
    match price:
        case FlatPrice():
            return FlatPrice(amount("price.amount", price.amount))
        case UnitPrice():
            return _with(price, unit_amount=amount("price.unit_amount", price.unit_amount))
        case GraduatedPrice() | VolumePrice():
            return _with(price, tiers=_tiers(price.tiers))
        case PackagePrice():
            size = positive("price.package_size", price.package_size)
            return _with(price, package_size=size, amount=amount("price.amount", price.amount))
        case PercentagePrice():
            return _percentage(price)
        case GraduatedPercentagePrice():
            return _with(price, tiers=_rate_tiers(price.tiers))
        case MatrixPrice():
            return _matrix(price)
        case DynamicPrice():
            return _with(price, multiplier=amount("price.multiplier", price.multiplier))
        case _:
            assert_never(price)


def _with(price: _Usage, **own: object) -> _Usage:
    """Return a usage price with its own fields replaced and its modifiers checked."""
    changed = msgspec.structs.replace(
        price,
        **own,
        unit_conversion=_conversion(price.unit_conversion),
        free_units=unless_zero("price.free_units", price.free_units),
        discount_percent=percent("price.discount_percent", price.discount_percent),
        maximum_amount=optional("price.maximum_amount", price.maximum_amount),
        minimum_amount=unless_zero("price.minimum_amount", price.minimum_amount, DECIMALS_MAX),
        pricing_unit=_pricing_unit(price.pricing_unit),
    )
    least, most = changed.minimum_amount, changed.maximum_amount
    if least is not None and most is not None and least > most:
        raise refused("price.minimum_amount", "must not be above maximum_amount")
    return changed


def _conversion(raw: UnitConversion | None) -> UnitConversion | None:
    if raw is None:
        return None
    field = "price.unit_conversion"
    if not 0 <= raw.precision <= SCALE:
        raise refused(f"{field}.precision", f"must be 0 to {SCALE}")
    precision = 0 if raw.rounding == "none" else raw.precision
    factor = positive(f"{field}.factor", raw.factor)
    return msgspec.structs.replace(raw, factor=factor, precision=precision)


def _pricing_unit(raw: PricingUnit | None) -> PricingUnit | None:
    if raw is None:
        return None
    field = "price.pricing_unit"
    rate = positive(f"{field}.conversion_rate", raw.conversion_rate)
    if not raw.name.isalnum() or len(raw.name) > UNIT_CHARS_MAX:
        raise refused(f"{field}.name", f"needs 1 to {UNIT_CHARS_MAX} letters or digits")
    return PricingUnit(name=raw.name, conversion_rate=rate)


def _tiers(tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
    checked = []
    for at, tier in enumerate(tiers):
        field = f"price.tiers[{at}]"
        if tier.unit_amount is None and tier.flat_amount is None:
            raise refused(field, "needs unit_amount, flat_amount or both")
        checked.append(
            Tier(
                up_to=optional(f"{field}.up_to", tier.up_to),
                unit_amount=optional(f"{field}.unit_amount", tier.unit_amount),
                flat_amount=optional(f"{field}.flat_amount", tier.flat_amount),
            )
        )
    return _bounded(checked)


def _rate_tiers(tiers: tuple[RateTier, ...]) -> tuple[RateTier, ...]:
    checked = []
    for at, tier in enumerate(tiers):
        field = f"price.tiers[{at}]"
        if tier.rate is None and tier.flat_amount is None:
            raise refused(field, "needs rate, flat_amount or both")
        checked.append(
            RateTier(
                up_to=optional(f"{field}.up_to", tier.up_to),
                rate=optional(f"{field}.rate", tier.rate),
                flat_amount=optional(f"{field}.flat_amount", tier.flat_amount),
            )
        )
    return _bounded(checked)


def _bounded(tiers: Sequence[_Tier]) -> tuple[_Tier, ...]:
    """Return tiers whose bounds grow, the last one open."""
    if not 1 <= len(tiers) <= TIERS_MAX:
        raise refused("price.tiers", f"needs 1 to {TIERS_MAX} tiers")
    floor = Decimal(0)
    for at, tier in enumerate(tiers[:-1]):
        field = f"price.tiers[{at}].up_to"
        if tier.up_to is None:
            raise refused(field, "is missing: only the last tier may be open")
        if tier.up_to <= floor:
            raise refused(field, f"must be above {plain(floor)}")
        floor = tier.up_to
    if tiers[-1].up_to is not None:
        field = f"price.tiers[{len(tiers) - 1}].up_to"
        raise refused(field, "must be absent or null: the last tier is open")
    return tuple(tiers)


def _percentage(price: PercentagePrice) -> PercentagePrice:
    if price.free_events is not None and not 0 <= price.free_events <= FREE_EVENTS_MAX:
        raise refused("price.free_events", f"must be 0 to {FREE_EVENTS_MAX}")
    checked = _with(
        price,
        rate=amount("price.rate", price.rate),
        fixed_amount=unless_zero("price.fixed_amount", price.fixed_amount, DECIMALS_MAX),
        free_events=price.free_events or None,
        free_amount=unless_zero("price.free_amount", price.free_amount),
        event_min=optional("price.event_min", price.event_min),
        event_max=optional("price.event_max", price.event_max),
    )
    least, most = checked.event_min, checked.event_max
    if least is not None and most is not None and least > most:
        raise refused("price.event_min", "must not be above event_max")
    if checked.of_events():
        _event_units(checked)
    return checked


def _event_units(price: PercentagePrice) -> None:
    """Refuse units that cannot be taken of each event on its own."""
    if price.free_units is not None:
        message = "is for totals; with a fee, bound or allowance per event write free_amount"
        raise refused("price.free_units", message)
    if price.unit_conversion is not None and price.unit_conversion.rounding != "none":
        message = "must be none where each event is priced; it would round every event"
        raise refused("price.unit_conversion.rounding", message)
    free_amount_measured(price)


def _matrix(price: MatrixPrice) -> MatrixPrice:
    known = price.dimensions
    if not 1 <= len(known) <= DIMENSIONS_MAX or len(set(known)) != len(known):
        raise refused("price.dimensions", f"names 1 to {DIMENSIONS_MAX} different dimensions")
    if not 1 <= len(price.cells) <= CELLS_MAX:
        raise refused("price.cells", f"needs 1 to {CELLS_MAX} cells")
    cells = tuple(_cell(f"price.cells[{at}]", cell, known) for at, cell in enumerate(price.cells))
    seen: dict[tuple[tuple[str, str | None], ...], int] = {}
    for at, cell in enumerate(cells):
        first = seen.setdefault(tuple(cell.match.items()), at)
        if first != at:
            raise refused(f"price.cells[{at}].match", f"is that of cells[{first}]")
    default = optional("price.default_unit_amount", price.default_unit_amount)
    return _with(price, cells=cells, default_unit_amount=default)


def _cell(field: str, cell: Cell, dimensions: tuple[str, ...]) -> Cell:
    if not cell.match or not cell.match.keys() <= set(dimensions):
        names = ", ".join(dimensions)
        raise refused(f"{field}.match", f"must name one or more of the dimensions: {names}")
    ordered = {name: cell.match[name] for name in dimensions if name in cell.match}
    return Cell(match=ordered, unit_amount=amount(f"{field}.unit_amount", cell.unit_amount))
