"""A percentage of the total, or of each event; what the second asks of the meter.

Source: docs/algorithms/percentages.md
"""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor

from tallybook.catalog.price import (
    PercentagePrice,
    Price,
    free_amount_measured,
    measured_per_unit,
)
from tallybook.kernel.decimals import EXACT, MEASURE_MAX, SCALE, plain
from tallybook.meter.each import Bands, EachEvent
from tallybook.rate.step import ZERO, Part, note, share, shown, times


def event_terms(price: Price) -> EachEvent | None:
    """Return what billing must ask of the single events; None where their total is enough."""
    if not isinstance(price, PercentagePrice) or not price.of_events():
        return None
    return EachEvent(
        free_events=price.free_events,
        free_amount=free_amount_measured(price),
        low=_reaches(price, price.event_min, up=True),
        high=_reaches(price, price.event_max, up=False),
    )


def _reaches(price: PercentagePrice, bound: Decimal | None, *, up: bool) -> Decimal | None:
    """Return the measured value at which the price of an event reaches a bound.

    On the grid of measured values and within their range, so that a comparison with it is exact.
    """
    if bound is None or not price.rate:
        return None
    share_of_it = Fraction(bound) - Fraction(price.fixed_amount or 0)
    value = share_of_it * 100 / Fraction(price.rate) * measured_per_unit(price)
    on_grid = (ceil if up else floor)(value * 10**SCALE)
    most = int(MEASURE_MAX) * 10**SCALE
    return Decimal(max(-most, min(on_grid, most))).scaleb(-SCALE, EXACT)


def of_total(price: PercentagePrice, quantity: Decimal) -> Iterator[Part]:
    """Yield the parts of a percentage that depends on the total alone."""
    if price.free_amount is None:
        yield share(quantity, price.rate, "")
        return
    free = min(quantity, price.free_amount)
    yield note(f"{shown(free)} of {plain(price.free_amount)} are free")
    yield share(EXACT.subtract(quantity, free), price.rate, "the rest")


def of_events(price: PercentagePrice, bands: Bands) -> Iterator[Part]:
    """Yield the parts of a percentage that depends on the single events."""
    fee, low, high = price.fixed_amount or ZERO, price.event_min, price.event_max
    if not price.rate:
        fee = max(fee, low) if low is not None else fee
        fee = min(fee, high) if high is not None else fee
    if bands.free:
        yield note(f"{_events(bands.free)} free")
    per_unit = measured_per_unit(price)
    charged = EXACT.divide(
        EXACT.multiply(bands.charged, Decimal(per_unit.denominator)), Decimal(per_unit.numerator)
    )
    yield share(charged, price.rate, _events(bands.middle))
    if fee:
        yield times(Decimal(bands.middle), fee, f"fixed amount of {_events(bands.middle)}")
    if bands.low and low is not None:
        yield times(Decimal(bands.low), low, f"at least, for {_events(bands.low)}")
    if bands.high and high is not None:
        yield times(Decimal(bands.high), high, f"at most, for {_events(bands.high)}")


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count} events"
