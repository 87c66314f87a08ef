"""Exact decimals: 38 digits, 12 after the point, half-even where more digits come in.

DECISIONS 7: a value is judged once, when it is normalised, and never refuses its event.
"""

from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

EXACT = Context(prec=80)
"""Wide enough that sums and products of stored values never round."""

SCALE = 12
STEP = Decimal(1).scaleb(-SCALE)
MEASURE_MAX = Decimal("1e20")
"""A measured value must be smaller than this in absolute value."""


def parse_decimal(text: str) -> Decimal | None:
    """Return the exact finite number that `text` spells, or None."""
    if "_" in text or len(text) > 1000:
        return None
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def measure(text: str) -> tuple[Decimal | None, bool]:
    """Judge one measured value.

    Returns:
        The value with 12 decimals, or None where it is not a number or `|value| >= 1e20`;
        and whether digits were rounded away.

    Source: DECISIONS 7.
    """
    value = parse_decimal(text)
    if value is None or value.copy_abs() >= MEASURE_MAX:
        return None, False
    rounded = value.quantize(STEP, ROUND_HALF_EVEN, EXACT)
    return rounded, rounded != value


def plain(value: Decimal) -> str:
    """Return the shortest plain spelling: no exponent, no trailing zeros, no minus zero."""
    if not value:
        return "0"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def divide(numerator: Decimal, denominator: Decimal, scale: int = SCALE) -> Decimal:
    """Return numerator / denominator, half-even to `scale` decimals."""
    quotient = EXACT.divide(numerator, denominator)
    return quotient.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_EVEN, EXACT)
