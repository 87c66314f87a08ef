"""Values counted event by event: which are free, and how many fall below, between and above.

The terms of a price per event, compiled to comparisons and sums of the meter's values, so that an
engine answers four counts and one sum (DECISIONS 17). `count_each` is what they mean; `meter.sql`
says the same to an engine.

Source: docs/algorithms/percentages.md
"""

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from tallybook.kernel.decimals import EXACT

ZERO = Decimal(0)


class EachEvent(msgspec.Struct, frozen=True, kw_only=True):
    """How single values count, in the order of (time, source, id).

    A value is within the allowance while it is among the first `free_events` (any, where only
    `free_amount` is given). What it is charged for is then the part of the running total that
    lies above `free_amount` (nothing, where that is not given); it is free where the running
    total with it is not above. Past the allowance it is charged whole.

    Attributes:
        free_events: None where their number does not matter; one of both at least is an allowance.
        free_amount: at most 12 decimals.
        low: what is charged for less than this is in the low band; None has no low band.
        high: what is charged for more than this, and is not low, is in the high band.
    """

    free_events: int | None = None
    free_amount: Decimal | None = None
    low: Decimal | None = None
    high: Decimal | None = None


class Bands(msgspec.Struct, frozen=True, kw_only=True):
    """What the single values of a window and group come to.

    Attributes:
        free, low, middle, high: how many values.
        charged: sum of what the middle ones are charged for, and of what free ones give back.
    """

    free: int = 0
    low: int = 0
    middle: int = 0
    high: int = 0
    charged: Decimal = ZERO


def count_each(terms: EachEvent, values: Iterable[Decimal]) -> Bands:
    """Return the bands of values that come in the order of (time, source, id)."""
    counts = {"free": 0, "low": 0, "middle": 0, "high": 0}
    total = charged = ZERO
    for number, value in enumerate(values, 1):
        before, total = total, EXACT.add(total, value)
        free, part = _allowed(terms, number, before, total)
        band = "free" if free else _band(terms, part)
        counts[band] += 1
        if band in {"free", "middle"}:
            charged = EXACT.add(charged, part)
    return Bands(**counts, charged=charged)


def _allowed(
    terms: EachEvent, number: int, before: Decimal, total: Decimal
) -> tuple[bool, Decimal]:
    """Return whether a value is free, and what of it is charged."""
    if terms.free_events is None and terms.free_amount is None:
        return False, EXACT.subtract(total, before)
    if terms.free_events is not None and number > terms.free_events:
        return False, EXACT.subtract(total, before)
    if terms.free_amount is None:
        return True, ZERO
    above = max(EXACT.subtract(total, terms.free_amount), ZERO)
    earlier = max(EXACT.subtract(before, terms.free_amount), ZERO)
    return not above, EXACT.subtract(above, earlier)


def _band(terms: EachEvent, part: Decimal) -> str:
    if terms.low is not None and part < terms.low:
        return "low"
    return "high" if terms.high is not None and part > terms.high else "middle"
