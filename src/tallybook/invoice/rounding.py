"""The one rounding point: here an exact amount becomes integer minor units, and nowhere else.

Source: docs/algorithms/rounding.md
"""

from decimal import Decimal

from tallybook.kernel.errors import Invalid
from tallybook.kernel.money import Rounding, to_minor

AMOUNT_MINOR_MAX = 10**17
"""A line's cumulated amount must be smaller, so that every database holds sums of them."""


def round_line(amount: Decimal, currency: str, rounding: Rounding) -> int:
    """Return the cumulated amount of a line in minor units, rounded once.

    Args:
        amount: exact, in units of the currency: the whole of what was used so far in the period.
        currency: ISO 4217 code.
        rounding: half away from zero unless the plan says half-even.

    Raises:
        Invalid: `AMOUNT_MINOR_MAX` or more.
    """
    minor = to_minor(amount, currency, rounding)
    if abs(minor) >= AMOUNT_MINOR_MAX:
        raise Invalid(f"an amount of {amount:f} {currency} is too large for a line", field="amount")
    return minor
