"""What a fixed fee costs: its units, each at one amount or by tiers, in a partial period.

Source: docs/algorithms/proration.md
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec

from tallybook.catalog.plan import Proration, Timing
from tallybook.catalog.price import FlatPrice, Price
from tallybook.kernel.decimals import EXACT, plain
from tallybook.kernel.period import Period
from tallybook.kernel.timestamps import format_us, from_us
from tallybook.rate.charge import rate
from tallybook.rate.proration import WHOLE, Portion, portion
from tallybook.rate.step import Rated, Step, added, shown

ONE = Decimal(1)

Units = Sequence[tuple[int, Decimal]]
"""How many units of a fixed fee there are from an instant on, oldest first."""


def rate_fee(
    price: Price | Decimal,
    proration: Proration,
    part: Period,
    whole: Period,
    tz: ZoneInfo,
    units: Units = (),
    timing: Timing = "arrears",
) -> Rated:
    """Return what a fixed fee costs for the part of a whole period.

    Args:
        price: of the whole period: an amount of one unit, or a price of so many units.
        proration: how it shrinks.
        part: what counts, within `whole`.
        whole: the period as it would be without the subscription's start and end.
        tz: the customer's zone, in which days are counted.
        units: how many there are from an instant on, oldest first; 1 before the first of them.
        timing: of a fee that is not prorated: in advance the number of units that costs most
            counts, because what was paid is not given back; in arrears the last one.

    Returns:
        The exact amount, a quotient with 80 digits; quantity is the number of units at the end.
    """
    price = FlatPrice(amount=price) if isinstance(price, Decimal) else price
    if units and units[-1][0] <= part.start_us:
        found = [(part, units[-1][1])]
    else:
        found = list(_stretches(units, part))
    if proration == "none":
        costs = [_cost(price, count) for _, count in found]
        one = costs[-1] if timing == "arrears" else max(costs, key=lambda c: (c.due, c.units))
        return _rated([_Stretch("fixed fee", one, WHOLE)], one.units)
    portions = [(held, count, portion(proration, held, whole, tz)) for held, count in found]
    counted = [one for one in portions if one[2].taken] or portions[-1:]
    stretches = [
        _Stretch(
            "fixed fee" if len(counted) == 1 else _since(held, proration, tz),
            _cost(price, count),
            taken,
        )
        for held, count, taken in counted
    ]
    return _rated(stretches, found[-1][1])


class _Cost(msgspec.Struct, frozen=True):
    """What a number of units costs for a whole period.

    Attributes:
        due: exact.
        steps: how it came about.
    """

    units: Decimal
    due: Decimal
    steps: tuple[Step, ...]


class _Stretch(msgspec.Struct, frozen=True):
    """A number of units for a portion of the period."""

    name: str
    cost: _Cost
    portion: Portion


def _cost(price: Price, units: Decimal) -> _Cost:
    if not isinstance(price, FlatPrice):
        rated = rate(price, units)
        return _Cost(units, rated.amount, rated.steps)
    due, each = EXACT.multiply(price.amount, units), plain(price.amount)
    if units == ONE:
        return _Cost(units, due, (Step(text=each, amount=each),))
    many = plain(units)
    step = Step(text=f"{many} × {each}", amount=shown(due), quantity=many, unit_amount=each)
    return _Cost(units, due, (step,))


def _stretches(units: Units, part: Period) -> Iterator[tuple[Period, Decimal]]:
    """Yield the parts of a period in which the number of units stays the same."""
    start, count = part.start_us, ONE
    for since_us, following in units:
        if since_us >= part.end_us:
            break
        if since_us > start and following != count:
            yield Period(start, since_us), count
            start = since_us
        count = following
    yield Period(start, part.end_us), count


def _since(held: Period, proration: Proration, tz: ZoneInfo) -> str:
    """Return from when on a number of units counts, as precisely as it counts."""
    if proration == "day":
        return f"from {from_us(held.start_us).astimezone(tz).date().isoformat()}"
    return f"from {format_us(held.start_us)}"


def _rated(stretches: Sequence[_Stretch], count: Decimal) -> Rated:
    """Return the sum over stretches: one division, so that a whole is exact."""
    full = stretches[0].portion.full
    exact = added(EXACT.multiply(s.cost.due, Decimal(s.portion.taken)) for s in stretches)
    if full != 1:
        exact = EXACT.divide(exact, Decimal(full))
    steps = tuple(step for one in stretches for step in _steps(one))
    return Rated(quantity=count, amount=exact, steps=steps)


def _steps(one: _Stretch) -> Iterator[Step]:
    """Yield a stretch in words and numbers; the tiers of a whole period stand for themselves."""
    cost, whole = one.cost, one.portion.whole()
    result = shown(one.portion.of_amount(cost.due))
    if whole and len(cost.steps) > 1:
        yield from cost.steps
        return
    text = "; ".join(step.text for step in cost.steps)
    if len(cost.steps) > 1:
        text = f"{text}; {shown(cost.due)},"
    elif not whole and " = " in text:
        text = f"{text},"
    if not whole:
        text = f"{text} × {one.portion.taken} of {one.portion.full} {one.portion.unit}"
    if not whole or (cost.units != ONE and " = " not in text):
        text = f"{text} = {result}"
    first = cost.steps[0] if len(cost.steps) == 1 else None
    yield Step(
        text=f"{one.name}: {text}",
        amount=result,
        quantity=None if first is None else first.quantity,
        unit_amount=None if first is None else first.unit_amount,
        tier=None if first is None else first.tier,
    )
