"""Usage and a price become an exact amount that explains itself.

Pure and exact: nothing is rounded here. The stages and their order: docs/algorithms/modifiers.md;
the prices: docs/algorithms/prices.md
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import assert_never

import msgspec

from tallybook.catalog.price import (
    DynamicPrice,
    FlatPrice,
    GraduatedPercentagePrice,
    GraduatedPrice,
    MatrixPrice,
    PackagePrice,
    PercentagePrice,
    Price,
    PricingUnit,
    UnitPrice,
    UsagePrice,
    VolumePrice,
)
from tallybook.kernel.decimals import EXACT, plain
from tallybook.rate.matrix import Values, in_order, named, of_cells
from tallybook.rate.metered import Metered, PricedEvent, metered_events
from tallybook.rate.modifiers import (
    around,
    conversion_note,
    convert,
    free_note,
    is_modified,
    never_negative,
)
from tallybook.rate.percentage import of_events, of_total
from tallybook.rate.proration import WHOLE, Portion
from tallybook.rate.recurring import Held
from tallybook.rate.step import ZERO, Part, Rated, Step, added, flat, note, shown, times
from tallybook.rate.tiers import graduated, packaged, volume

Quantities = Sequence[tuple[Values, Decimal]]
"""Quantities to price: one of a matrix price's combinations each, or the only one under ()."""


def rate(price: Price, used: Metered | Decimal, minimum: Portion | None = WHOLE) -> Rated:
    """Return what the usage of a period costs.

    Args:
        price: checked.
        used: the cumulated usage of the period; a quantity alone is one event without dimensions.
            A quantity below zero is rated as zero.
        minimum: the part of a whole period that a minimum amount is for; None while the period
            is not over, when it is not due.

    Raises:
        Invalid: a matrix price has no amount for some usage.

    Source: docs/algorithms/modifiers.md
    """
    if isinstance(used, Decimal):
        used = metered_events(price, [PricedEvent(quantity=used)])
    quantity = max(used.quantity, ZERO)
    if isinstance(price, FlatPrice):
        return _rated(quantity, price.amount, [flat(price.amount, "fixed fee")])
    parts = list(_by_day(price, used) if used.held else _priced(price, used))
    amount = _sum(parts)
    if amount < 0:
        parts.append(never_negative(amount))
        amount = ZERO
    if is_modified(price):
        for part in around(price, amount, minimum):
            parts.append(part)
            amount = EXACT.add(amount, part.exact)
    if price.pricing_unit is not None:
        parts = [_in_credits(part, price.pricing_unit) for part in parts]
        parts.append(_converted(amount, price.pricing_unit))
        amount = parts[-1].exact
    return _rated(quantity, amount, parts)


def _sum(parts: Sequence[Part]) -> Decimal:
    return added(part.exact for part in parts)


def _rated(quantity: Decimal, amount: Decimal, parts: Sequence[Part]) -> Rated:
    told = parts or [note("nothing was used")]
    return Rated(quantity=quantity, amount=amount, steps=tuple([part.step for part in told]))


def _in_credits(part: Part, unit: PricingUnit) -> Part:
    told = part.step.text if part.step.amount == "0" else f"{part.step.text} ({unit.name})"
    return Part(part.exact, msgspec.structs.replace(part.step, text=told, unit=unit.name))


def _converted(amount: Decimal, unit: PricingUnit) -> Part:
    money = EXACT.multiply(amount, unit.conversion_rate)
    rate_text = plain(unit.conversion_rate)
    text = f"{unit.name} at {rate_text}: {shown(amount)} × {rate_text} = {shown(money)}"
    step = Step(text=text, amount=shown(money), quantity=shown(amount), unit_amount=rate_text)
    return Part(money, step)


def _by_day(price: UsagePrice, used: Metered) -> Iterator[Part]:
    """Yield what each level costs for the days it was there, and once what is due once.

    A day costs what the whole period would cost at that day's level, divided by its days; the
    highest level decides what is due once.
    """
    whole = Decimal(used.full_days)
    counted = added_up = ZERO
    highest: list[Part] = []
    most = max(one.quantity for one in used.held)
    for at, one in enumerate(used.held, 1):
        parts = list(_priced(price, Metered(quantity=one.quantity, cells=one.cells)))
        if one.quantity == most:
            highest = [part for part in parts if part.once]
        each = [part for part in parts if not part.once]
        due = _sum(each)
        counted = EXACT.add(counted, EXACT.multiply(due, Decimal(one.days)))
        exact = EXACT.divide(EXACT.multiply(due, Decimal(one.days)), whole)
        if at == len(used.held):  # takes what one exact division leaves, so that a whole is exact
            exact = EXACT.subtract(EXACT.divide(counted, whole), added_up)
        added_up = EXACT.add(added_up, exact)
        yield Part(exact, _day_step(one, each, due, exact, used.full_days))
    yield from highest


def _day_step(one: Held, parts: Sequence[Part], due: Decimal, exact: Decimal, full: int) -> Step:
    """Return what a level costs for its days, in words."""
    texts = [part.step.text for part in parts] or ["nothing was used"]
    if len([part for part in parts if part.exact]) > 1:
        texts.append(shown(due))
    if one.days != full:
        texts[-1] += f", × {one.days} of {full} days = {shown(exact)}"
    return Step(
        text=f"from {one.since}: {'; '.join(texts)}",
        amount=shown(exact),
        quantity=shown(one.quantity),
        unit_amount=parts[0].step.unit_amount if len(parts) == 1 else None,
    )


def _priced(price: UsagePrice, used: Metered) -> Iterator[Part]:
    """Yield the parts of a usage price, conversion and free units included."""
    if isinstance(price, PercentagePrice) and price.of_events():
        assert used.bands is not None, "billing asks for what the price needs"
        if price.unit_conversion is not None:
            yield conversion_note(price.unit_conversion, used.quantity)
        yield from of_events(price, used.bands)
        return
    changed = price.unit_conversion is not None or price.free_units is not None
    if not changed and not isinstance(price, MatrixPrice):
        yield from _amounts(price, [((), max(used.quantity, ZERO))])
        return
    found: Quantities = [((), used.quantity)]
    if isinstance(price, MatrixPrice):
        found = in_order(price, used.cells)
    quantities = [(values, max(quantity, ZERO)) for values, quantity in found]
    notes = [_conversion(price, values, quantity) for values, quantity in quantities]
    yield from (part for part, _ in notes if part is not None)
    units = [(v, q) for (v, _), (_, q) in zip(quantities, notes, strict=True)]
    if price.free_units is not None:
        left, told = _after_free(units, price.free_units)
        yield told
        yield from _amounts(price, left)
    else:
        yield from _amounts(price, units)


def _conversion(
    price: UsagePrice, values: Values, quantity: Decimal
) -> tuple[Part | None, Decimal]:
    """Return a quantity in the units sold, and how it came about."""
    if price.unit_conversion is None:
        return None, quantity
    name = named(price, values) if isinstance(price, MatrixPrice) else ""
    told = conversion_note(price.unit_conversion, quantity, name)
    return told, convert(price.unit_conversion, quantity)


def _after_free(quantities: Quantities, free: Decimal) -> tuple[Quantities, Part]:
    """Return the quantities without the free units, which are used up in order."""
    left: list[tuple[Values, Decimal]] = []
    unused = free
    for values, quantity in quantities:
        used = min(quantity, unused)
        unused = EXACT.subtract(unused, used)
        left.append((values, EXACT.subtract(quantity, used)))
    to_pay = added(quantity for _, quantity in left)
    return left, free_note(EXACT.subtract(free, unused), free, to_pay)


def _amounts(price: UsagePrice, quantities: Quantities) -> Iterator[Part]:
    """Yield what quantities cost."""
    if isinstance(price, MatrixPrice):
        yield from of_cells(price, quantities)
        return
    ((_, quantity),) = quantities
    match price:
        case UnitPrice():
            yield times(quantity, price.unit_amount, "")
        case GraduatedPrice() | GraduatedPercentagePrice():
            yield from graduated(price.tiers, quantity)
        case VolumePrice():
            yield from volume(price.tiers, quantity)
        case PackagePrice():
            yield packaged(price, quantity)
        case PercentagePrice():
            yield from of_total(price, quantity)
        case DynamicPrice():
            yield times(quantity, price.multiplier, "")
        case _:
            assert_never(price)
