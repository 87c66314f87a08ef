"""Tiers and packages. Source: docs/algorithms/prices.md, docs/algorithms/percentages.md."""

from collections.abc import Iterator, Sequence
from decimal import ROUND_CEILING, Decimal

from tallybook.catalog.price import PackagePrice, RateTier, Tier
from tallybook.kernel.decimals import EXACT, plain
from tallybook.rate.step import ZERO, Part, Step, flat, share, shown, times


def graduated(tiers: Sequence[Tier | RateTier], quantity: Decimal) -> Iterator[Part]:
    """Yield what the part of the quantity in each tier costs."""
    floor = ZERO
    for number, tier in enumerate(tiers, 1):
        if number > 1 and quantity <= floor:
            return
        ceiling = quantity if tier.up_to is None else min(quantity, tier.up_to)
        yield from _tier(tier, number, _range(floor, tier.up_to), EXACT.subtract(ceiling, floor))
        floor = quantity if tier.up_to is None else tier.up_to


def volume(tiers: Sequence[Tier], quantity: Decimal) -> Iterator[Part]:
    """Yield what the whole quantity costs in the tier it reaches; the last tier is open."""
    number, floor = 1, ZERO
    while (bound := tiers[number - 1].up_to) is not None and quantity > bound:
        number, floor = number + 1, bound
    yield from _tier(tiers[number - 1], number, f"all units, {_range(floor, bound)}", quantity)


def _tier(tier: Tier | RateTier, number: int, where: str, quantity: Decimal) -> Iterator[Part]:
    name = f"tier {number}, {where}"
    if tier.flat_amount is not None:
        yield flat(tier.flat_amount, f"{name}, flat", number)
    if isinstance(tier, RateTier):
        if tier.rate is not None:
            yield share(quantity, tier.rate, name, number)
    elif tier.unit_amount is not None:
        yield times(quantity, tier.unit_amount, name, number)


def _range(floor: Decimal, up_to: Decimal | None) -> str:
    if up_to is None:
        return f"over {plain(floor)}" if floor else "any quantity"
    return f"over {plain(floor)} up to {plain(up_to)}" if floor else f"up to {plain(up_to)}"


def packages(quantity: Decimal, package_size: Decimal) -> Decimal:
    """Return how many packages hold a quantity: a started package is a whole package."""
    whole, rest = EXACT.divmod(quantity, package_size)
    return (EXACT.add(whole, Decimal(1)) if rest else whole).to_integral_value(ROUND_CEILING)


def packaged(price: PackagePrice, quantity: Decimal) -> Part:
    """Return what the packages cost that hold a quantity."""
    count = packages(quantity, price.package_size)
    amount = EXACT.multiply(count, price.amount)
    sizes = f"{shown(quantity)} in packages of {plain(price.package_size)}"
    step = Step(
        text=f"{sizes}: {plain(count)} × {plain(price.amount)} = {plain(amount)}",
        amount=plain(amount),
        quantity=plain(count),
        unit_amount=plain(price.amount),
    )
    return Part(amount, step)
