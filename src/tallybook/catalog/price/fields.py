"""Numbers of a price, checked; a refusal names the field and what to write instead."""

from decimal import Decimal

from tallybook.kernel.decimals import SCALE, plain
from tallybook.kernel.errors import Invalid

AMOUNT_MAX = Decimal("1e20")
"""An amount, bound or size must be smaller than this."""
DECIMALS_MAX = 18
"""Digits after the point of an amount, bound or size."""
PERCENT_MAX = Decimal(100)


def refused(field: str, message: str) -> Invalid:
    """Return the refusal of a field; its message begins with the field."""
    return Invalid(f"{field} {message}", field=field)


def amount(field: str, value: Decimal, decimals_max: int = DECIMALS_MAX) -> Decimal:
    """Return a non-negative, bounded number in its shortest spelling; raises Invalid."""
    if not value.is_finite() or value < 0 or value >= AMOUNT_MAX:
        raise refused(field, f"must be 0 or more and below {AMOUNT_MAX:f}")
    if value.adjusted() < -DECIMALS_MAX and value:  # 1e-999999999 is never written out
        raise refused(field, f"has more than {decimals_max} digits after the point")
    shortest = Decimal(plain(value))
    exponent = shortest.as_tuple().exponent
    assert isinstance(exponent, int), "a finite number has an exponent"
    if -exponent > decimals_max:
        raise refused(field, f"has more than {decimals_max} digits after the point")
    return shortest


def positive(field: str, value: Decimal) -> Decimal:
    """Return an amount above zero; raises Invalid."""
    checked = amount(field, value)
    if not checked:
        raise refused(field, "must be above 0")
    return checked


def optional(field: str, value: Decimal | None) -> Decimal | None:
    """Return an amount, or None where there is none; raises Invalid."""
    return None if value is None else amount(field, value)


def unless_zero(field: str, value: Decimal | None, decimals_max: int = SCALE) -> Decimal | None:
    """Return an amount; None where it is absent or zero, which mean the same; raises Invalid."""
    return None if value is None else amount(field, value, decimals_max) or None


def percent(field: str, value: Decimal | None) -> Decimal | None:
    """Return a share of 0 to 100 percent; None where it is absent or zero; raises Invalid."""
    checked = unless_zero(field, value, DECIMALS_MAX)
    if checked is not None and checked > PERCENT_MAX:
        raise refused(field, "must be at most 100")
    return checked
