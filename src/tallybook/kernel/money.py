"""Money: exact while it is rated, integer minor units after the one rounding point.

Guarantees: no binary float anywhere; a split sums to the whole (largest remainder).
Source: docs/algorithms/rounding.md
"""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from typing import Literal

from tallybook.kernel.currencies import EXPONENTS
from tallybook.kernel.decimals import EXACT
from tallybook.kernel.errors import Invalid

Rounding = Literal["half_up", "half_even"]
"""`half_up` is half away from zero, the default; a contract may say `half_even`."""

_MODES = {"half_up": ROUND_HALF_UP, "half_even": ROUND_HALF_EVEN}


def exponent(currency: str) -> int:
    """Return the digits of a currency's minor unit: JPY 0, USD 2, KWD 3; raises Invalid."""
    if currency not in EXPONENTS:
        raise Invalid(f"'{currency}' is not an ISO 4217 currency, such as USD", field="currency")
    return EXPONENTS[currency]


def to_minor(amount: Decimal, currency: str, rounding: Rounding = "half_up") -> int:
    """Return the amount in minor units, rounded once.

    Args:
        amount: exact, in units of the currency.
        currency: ISO 4217 code.
        rounding: half away from zero unless the contract says half-even.
    """
    scaled = EXACT.scaleb(amount, exponent(currency))
    return int(scaled.quantize(Decimal(1), _MODES[rounding], EXACT))


def from_minor(amount_minor: int, currency: str) -> Decimal:
    """Return the amount in units of the currency, with the currency's digits."""
    return EXACT.scaleb(Decimal(amount_minor), -exponent(currency))


def money_text(amount_minor: int, currency: str) -> str:
    """Return the wire spelling of money: a plain decimal string with the currency's digits."""
    digits = exponent(currency)
    if not digits:
        return str(amount_minor)
    text = str(abs(amount_minor)).rjust(digits + 1, "0")
    return f"{'-' if amount_minor < 0 else ''}{text[:-digits]}.{text[-digits:]}"


def allocate(amount_minor: int, weights: Sequence[int]) -> list[int]:
    """Split an amount over weights so that the parts add up exactly.

    Largest remainder; ties go to the earlier weight, so the result is repeatable.

    Args:
        amount_minor: integer, may be negative.
        weights: n >= 1 non-negative integers, not all zero.

    Returns:
        n integers whose sum is `amount_minor`.

    Raises:
        Invalid: no weights, a negative one, or all zero.

    Source: docs/algorithms/rounding.md (Hamilton's method).
    """
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        raise Invalid("weights must be non-negative and not all zero", field="weights")
    sign = -1 if amount_minor < 0 else 1
    shares = [divmod(abs(amount_minor) * weight, total) for weight in weights]
    parts = [whole for whole, _ in shares]
    missing = abs(amount_minor) - sum(parts)
    by_remainder = sorted(range(len(weights)), key=lambda i: -shares[i][1])
    for i in by_remainder[:missing]:
        parts[i] += 1
    assert sum(parts) == abs(amount_minor), "a split must sum to the whole"
    return [sign * part for part in parts]


def rounded_parts(numerators: Sequence[int], denominator: int) -> list[int]:
    """Round the sum of exact fractions once, half away from zero, and split it over them.

    Largest remainder; ties go to the earlier fraction. The parts of the negated fractions are the
    negated parts. A part differs from its fraction by less than 1.

    Args:
        numerators: any integers; [] gives [].
        denominator: of all of them, above zero.

    Returns:
        Integers whose sum is the rounded sum of the fractions.

    Source: docs/algorithms/rounding.md (Hamilton's method).
    """
    total = sum(numerators)
    leading = total or next((numerator for numerator in numerators if numerator), 0)
    sign = -1 if leading < 0 else 1
    rounded = (2 * abs(total) + denominator) // (2 * denominator)
    wholes = [divmod(sign * numerator, denominator) for numerator in numerators]
    parts = [whole for whole, _ in wholes]
    missing = rounded - sum(parts)
    if missing:
        by_remainder = sorted(range(len(parts)), key=lambda i: -wholes[i][1])
        for i in by_remainder[:missing]:
            parts[i] += 1
    return parts if sign > 0 else [-part for part in parts]
