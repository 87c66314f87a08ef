"""What a fixed fee, or a minimum, comes to in a partial period.

Source: docs/algorithms/proration.md
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from tallybook.catalog.plan import Proration, Timing
from tallybook.kernel.decimals import EXACT, plain
from tallybook.kernel.period import Period, days_between
from tallybook.kernel.timestamps import format_us, from_us
from tallybook.rate.step import Rated, Step, added, shown

ONE = Decimal(1)

Units = Sequence[tuple[int, Decimal]]
"""How many units of a fixed fee there are from an instant on, oldest first."""


class Portion(msgspec.Struct, frozen=True):
    """How much of a whole period counts.

    Attributes:
        taken: of `full`, both in `unit`.
    """

    taken: int = 1
    full: int = 1
    unit: str = "periods"

    def whole(self) -> bool:
        """Whether all of it counts."""
        return self.taken == self.full

    def of_amount(self, amount: Decimal) -> Decimal:
        """Return the portion's part of an amount, a quotient with 80 digits."""
        if self.whole():
            return amount
        return EXACT.divide(EXACT.multiply(amount, Decimal(self.taken)), Decimal(self.full))


WHOLE = Portion()


@lru_cache(maxsize=4096)
def portion(proration: Proration, part: Period, whole: Period, tz: ZoneInfo) -> Portion:
    """Return how much of a whole period a part of it is.

    Args:
        proration: by days of the zone, by exact time, or not at all.
        part: what counts, within `whole`.
        whole: the period as it would be without the subscription's start and end.
        tz: the customer's zone, in which days are counted.
    """
    if proration == "day":
        taken = days_between(part.start_us, part.end_us, tz)
        return Portion(taken, days_between(whole.start_us, whole.end_us, tz), "days")
    if proration == "second":
        return Portion(part.end_us - part.start_us, whole.end_us - whole.start_us, "microseconds")
    return WHOLE


def rate_fee(
    amount: Decimal,
    proration: Proration,
    part: Period,
    whole: Period,
    tz: ZoneInfo,
    units: Units = (),
    timing: Timing = "arrears",
) -> Rated:
    """Return what a fixed fee costs for the part of a whole period.

    Args:
        amount: of one unit for the whole period, exact.
        proration: how it shrinks.
        part: what counts, within `whole`.
        whole: the period as it would be without the subscription's start and end.
        tz: the customer's zone, in which days are counted.
        units: how many there are from an instant on, oldest first; 1 before the first of them.
        timing: of a fee that is not prorated: in advance the largest number of units counts,
            because what was paid is not given back; in arrears the last one.

    Returns:
        The exact amount, a quotient with 80 digits; quantity is the number of units at the end.
    """
    if units and units[-1][0] <= part.start_us:
        found = [(part, units[-1][1])]
    else:
        found = list(_stretches(units, part))
    if proration == "none":
        count = found[-1][1] if timing == "arrears" else max(count for _, count in found)
        return _rated_fee(amount, [_Stretch("fixed fee", count, WHOLE)], count)
    portions = [(held, count, portion(proration, held, whole, tz)) for held, count in found]
    counted = [one for one in portions if one[2].taken] or portions[-1:]
    stretches = [
        _Stretch("fixed fee" if len(counted) == 1 else _since(held, proration, tz), count, taken)
        for held, count, taken in counted
    ]
    return _rated_fee(amount, stretches, found[-1][1])


class _Stretch(msgspec.Struct, frozen=True):
    """A number of units for a portion of the period."""

    name: str
    units: Decimal
    portion: Portion


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


def _rated_fee(amount: Decimal, stretches: Sequence[_Stretch], count: Decimal) -> Rated:
    """Return the sum over stretches: one division, so that a whole is exact."""
    full = stretches[0].portion.full
    taken = added(EXACT.multiply(one.units, Decimal(one.portion.taken)) for one in stretches)
    exact = EXACT.multiply(amount, taken)
    if full != 1:
        exact = EXACT.divide(exact, Decimal(full))
    steps = tuple(_fee_step(amount, one) for one in stretches)
    return Rated(quantity=count, amount=exact, steps=steps)


def _fee_step(amount: Decimal, one: _Stretch) -> Step:
    """Return a stretch in words and numbers."""
    several = one.units != ONE
    due = EXACT.multiply(amount, one.units) if several else amount
    text = f"{plain(one.units)} × {plain(amount)}" if several else plain(amount)
    result = shown(one.portion.of_amount(due))
    if not one.portion.whole():
        text = f"{text} × {one.portion.taken} of {one.portion.full} {one.portion.unit}"
    if several or not one.portion.whole():
        text = f"{text} = {result}"
    return Step(
        text=f"{one.name}: {text}",
        amount=result,
        quantity=plain(one.units) if several else None,
        unit_amount=plain(amount) if several else None,
    )
