"""Exact decimals: 38 digits, 12 after the point, half-even where more digits come in.

In JSON every exact decimal is spelled plainly: 0.000000004, never 4E-9.

DECISIONS 7: a value is judged once, when it is normalised, and never refuses its event.
"""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any, Literal

import msgspec

from tallybook.kernel.errors import Invalid

EXACT = Context(prec=80)
"""Wide enough that sums and products of stored values never round."""

SCALE = 12
ONE = Decimal(1)
STEP = ONE.scaleb(-SCALE)
MEASURE_MAX = Decimal("1e20")
"""A measured value must be smaller than this in absolute value."""


DIGITS_MAX = 1000
"""Of a number that somebody declares, and of its exponent: past it writing it out costs dearly."""


def is_countable(value: Decimal) -> bool:
    """Whether a number is finite and short enough to be written out: 1e-999999999 is not."""
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or len(digits) > DIGITS_MAX:
        return False
    return -DIGITS_MAX <= exponent <= DIGITS_MAX


def check_numbers(value: object, field: str = "") -> None:
    """Refuse a number that nothing can count with, wherever in a decoded value it stands.

    Where something is decoded, and before anything is done with its numbers: so no field of it
    can be forgotten.

    Args:
        value: structs, mappings and sequences, as they were decoded.
        field: where the value stands; '' for the whole.

    Raises:
        Invalid: names the field, without the places in lists.
    """
    if isinstance(value, Decimal):
        if not is_countable(value):
            message = f"{field or 'this'} must be a number of at most {DIGITS_MAX} digits"
            raise Invalid(message, field=field or None)
    elif isinstance(value, msgspec.Struct):
        named = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        for attribute, name in named:
            check_numbers(getattr(value, attribute), f"{field}.{name}" if field else name)
    elif isinstance(value, dict):
        for name, inner in value.items():
            check_numbers(inner, f"{field}.{name}" if field else str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            check_numbers(inner, field)


def bounded(value: Decimal) -> Decimal | None:
    """Return a number that can be counted with and written out; None where it is none.

    Past `DIGITS_MAX` digits nothing is exact any more: what is so near to 0 is 0.
    """
    if is_countable(value):
        return value
    is_nothing = value.is_finite() and (not value or value.adjusted() < -DIGITS_MAX)
    return Decimal(0) if is_nothing else None


def parse_decimal(text: str) -> Decimal | None:
    """Return the number that `text` spells, exact and `bounded`, or None."""
    value = _finite(text)
    return None if value is None else bounded(value)


def _finite(text: str) -> Decimal | None:
    if "_" in text or len(text) > DIGITS_MAX:
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
    value = _finite(text)
    if value is None or value.copy_abs() >= MEASURE_MAX:
        return None, False
    rounded = value.quantize(STEP, ROUND_HALF_EVEN, EXACT)
    return rounded, rounded != value


def plain(value: Decimal) -> str:
    """Return the shortest plain spelling: no exponent, no trailing zeros, no minus zero."""
    if not value:
        return "0"
    text = str(value)
    if "E" in text:
        text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def short(value: Decimal, decimals: int = SCALE) -> str:
    """Return the plain spelling with so many decimals at most, half-even where there are more."""
    text = plain(value)
    if len(text) - text.find(".") - 1 <= decimals or "." not in text:
        return text
    return plain(divide(value, ONE, decimals))


def divide(numerator: Decimal, denominator: Decimal, scale: int = SCALE) -> Decimal:
    """Return numerator / denominator, half-even to `scale` decimals."""
    quotient = EXACT.divide(numerator, denominator)
    step = STEP if scale == SCALE else ONE.scaleb(-scale)
    return quotient.quantize(step, ROUND_HALF_EVEN, EXACT)


_EXPONENT = re.compile(rb'"-?\d+(?:\.\d+)?E[+-]?\d+"')
_USUAL_BYTES = 16_384
"""More than most invoices take: encoding into so much does not grow step by step."""
_sorted = msgspec.json.Encoder(order="sorted")
_as_declared = msgspec.json.Encoder()


def encode_plain(value: object, *, order: Literal["sorted"] | None = None) -> bytes:
    """Return the JSON of a value; decimals are plain texts.

    Args:
        value: anything that msgspec encodes, without `msgspec.Raw` inside.
        order: 'sorted' for sorted keys.

    Cost: one pass where no decimal would be spelled with an exponent, the usual case.
    """
    encoder = _sorted if order else _as_declared
    body = bytearray(_USUAL_BYTES)
    encoder.encode_into(value, body)
    if _may_have_exponents(body) and _EXPONENT.search(body) is not None:
        encoder.encode_into(plain_builtins(value), body)
    return bytes(body)


def _may_have_exponents(body: bytearray) -> bool:
    """Whether an E stands between a digit and a sign; a search for one byte is the quickest."""
    at = body.find(b"E")
    while at > 0:
        if body[at - 1] in _DIGITS and body[at + 1] in _SIGNS:
            return True
        at = body.find(b"E", at + 1)
    return False


_DIGITS, _SIGNS = b"0123456789", b"+-"


def plain_builtins(value: object) -> Any:
    """Return a value as dicts, lists and texts; decimals are plain texts."""
    return _spelled(msgspec.to_builtins(value, builtin_types=(Decimal,)))


def _spelled(value: Any) -> Any:
    if isinstance(value, Decimal):
        # Digits stay as they were written: 1.50 is not 1.5 on paper.
        text = str(value)
        return text if "E" not in text else plain(value)
    if isinstance(value, dict):
        return {key: _spelled(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(inner) for inner in value]
    return value
