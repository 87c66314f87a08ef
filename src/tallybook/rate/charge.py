"""Usage and a price become an exact amount that explains itself.

Pure and exact: nothing is rounded here. Source: docs/algorithms/prices.md
"""

from collections.abc import Iterator
from decimal import ROUND_CEILING, Decimal
from typing import assert_never

import msgspec

from tallybook.catalog.price import (
    FlatPrice,
    GraduatedPrice,
    PackagePrice,
    Price,
    Tier,
    UnitPrice,
    VolumePrice,
)
from tallybook.kernel.decimals import EXACT, plain

ZERO = Decimal(0)


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One summand of an amount, in words and numbers; numbers are plain decimal texts.

    Attributes:
        text: such as 'tier 2, over 10: 7 × 5 = 35'.
        amount: what this step adds.
        quantity: units (or packages) it covers, where it multiplies.
        unit_amount: for each of them.
        tier: 1 and up, for tiered prices.
    """

    text: str
    amount: str
    quantity: str | None = None
    unit_amount: str | None = None
    tier: int | None = None


class Rated(msgspec.Struct, frozen=True, kw_only=True):
    """What a quantity costs.

    Attributes:
        quantity: as rated, never below zero.
        amount: exact, in units of the currency; the sum of the steps.
        steps: how it came about.
    """

    quantity: Decimal
    amount: Decimal
    steps: tuple[Step, ...]


def rate(price: Price, quantity: Decimal) -> Rated:
    """Return what a quantity of usage costs.

    Args:
        price: checked.
        quantity: the cumulated usage of the period; below zero it is rated as zero.

    Source: docs/algorithms/prices.md
    """
    counted = max(quantity, ZERO)
    steps = tuple(_steps(price, counted))
    amount = ZERO
    for step in steps:
        amount = EXACT.add(amount, Decimal(step.amount))
    return Rated(quantity=counted, amount=amount, steps=steps)


def _steps(price: Price, quantity: Decimal) -> Iterator[Step]:
    match price:
        case FlatPrice():
            yield _flat(price.amount, "fixed fee")
        case UnitPrice():
            yield _units(quantity, price.unit_amount, "")
        case GraduatedPrice():
            yield from _graduated(price.tiers, quantity)
        case VolumePrice():
            yield from _volume(price.tiers, quantity)
        case PackagePrice():
            yield _packages(price, quantity)
        case _:
            assert_never(price)


def _flat(amount: Decimal, name: str, tier: int | None = None) -> Step:
    return Step(text=f"{name}: {plain(amount)}", amount=plain(amount), tier=tier)


def _units(quantity: Decimal, unit_amount: Decimal, name: str, tier: int | None = None) -> Step:
    amount = EXACT.multiply(quantity, unit_amount)
    sum_text = f"{plain(quantity)} × {plain(unit_amount)} = {plain(amount)}"
    return Step(
        text=f"{name}: {sum_text}" if name else sum_text,
        amount=plain(amount),
        quantity=plain(quantity),
        unit_amount=plain(unit_amount),
        tier=tier,
    )


def _graduated(tiers: tuple[Tier, ...], quantity: Decimal) -> Iterator[Step]:
    floor = ZERO
    for number, tier in enumerate(tiers, 1):
        if number > 1 and quantity <= floor:
            return
        ceiling = quantity if tier.up_to is None else min(quantity, tier.up_to)
        yield from _tier(tier, number, _range(floor, tier.up_to), EXACT.subtract(ceiling, floor))
        floor = quantity if tier.up_to is None else tier.up_to


def _volume(tiers: tuple[Tier, ...], quantity: Decimal) -> Iterator[Step]:
    floor = ZERO
    for number, tier in enumerate(tiers, 1):
        if tier.up_to is None or quantity <= tier.up_to:
            yield from _tier(tier, number, f"all units, {_range(floor, tier.up_to)}", quantity)
            return
        floor = tier.up_to
    raise AssertionError("the last tier is open")


def _tier(tier: Tier, number: int, where: str, quantity: Decimal) -> Iterator[Step]:
    name = f"tier {number}, {where}"
    if tier.flat_amount is not None:
        yield _flat(tier.flat_amount, f"{name}, flat", number)
    if tier.unit_amount is not None:
        yield _units(quantity, tier.unit_amount, name, number)


def _range(floor: Decimal, up_to: Decimal | None) -> str:
    if up_to is None:
        return f"over {plain(floor)}" if floor else "any quantity"
    return f"over {plain(floor)} up to {plain(up_to)}" if floor else f"up to {plain(up_to)}"


def packages(quantity: Decimal, package_size: Decimal) -> Decimal:
    """Return how many packages hold a quantity: a started package is a whole package."""
    whole, rest = EXACT.divmod(quantity, package_size)
    return (EXACT.add(whole, Decimal(1)) if rest else whole).to_integral_value(ROUND_CEILING)


def _packages(price: PackagePrice, quantity: Decimal) -> Step:
    count = packages(quantity, price.package_size)
    amount = EXACT.multiply(count, price.amount)
    sizes = f"{plain(quantity)} in packages of {plain(price.package_size)}"
    return Step(
        text=f"{sizes}: {plain(count)} × {plain(price.amount)} = {plain(amount)}",
        amount=plain(amount),
        quantity=plain(count),
        unit_amount=plain(price.amount),
    )
