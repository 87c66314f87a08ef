"""Numbers out of payloads, exact: JSON numbers, texts, and bytes with width, sign and order."""

from decimal import Decimal
from typing import Literal

import msgspec

from tallybook.kernel.decimals import EXACT, MEASURE_MAX, bounded, parse_decimal
from tallybook.kernel.errors import Invalid
from tallybook.kernel.jsonpath import steps

BYTES_MAX = 16
_HEX = frozenset("0123456789abcdefABCDEF")
_SEPARATORS = str.maketrans("", "", " :-\t")


class Number(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a number stands, and how it is spelled.

    Attributes:
        path: JSON path of the text or number; None is the payload itself.
        hex: the text is hexadecimal; `0x`, spaces, colons and dashes are skipped. A binary
            payload is read the same way, byte by byte.
        offset: first byte, from 0; a negative one counts from the end.
        width: bytes, 1 to 16; None takes all from the offset on.
        signed: two's complement.
        order: of the bytes.
        bcd: the bytes are decimal digits, two each.
        scale: what the number is multiplied by, such as '0.001'; exact.
        add: what is added after that.
    """

    path: str | None = None
    hex: bool = False
    offset: int = 0
    width: int | None = None
    signed: bool = False
    order: Literal["big", "little"] = "big"
    bcd: bool = False
    scale: str = "1"
    add: str = "0"

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.width is not None and not 1 <= self.width <= BYTES_MAX:
            raise Invalid(f"width is 1 to {BYTES_MAX} bytes", field="width")
        if parse_decimal(self.scale) is None or parse_decimal(self.add) is None:
            raise Invalid("scale and add are numbers in quotes, such as '0.001'", field="scale")
        if self.bcd and self.signed:
            raise Invalid("a BCD number has no sign", field="signed")
        if self.path is not None:
            steps(self.path)


def bytes_of_hex(text: str) -> bytes | None:
    """Return the bytes that a hexadecimal text spells, None where it spells none."""
    digits = text.strip().removeprefix("0x").removeprefix("0X").translate(_SEPARATORS)
    if not digits or len(digits) % 2 or not _HEX.issuperset(digits):
        return None
    return bytes.fromhex(digits)


def of_bytes(number: Number, payload: bytes) -> Decimal | str:
    """Return the number that stands in bytes, or why there is none."""
    begin = number.offset if number.offset >= 0 else len(payload) + number.offset
    end = len(payload) if number.width is None else begin + number.width
    if begin < 0 or end > len(payload) or begin >= end:
        return f"there are {len(payload)} bytes; bytes {begin} to {end} are asked for"
    cut = payload[begin:end]
    if len(cut) > BYTES_MAX:
        return f"{len(cut)} bytes are no number; say the width"
    if not number.bcd:
        return scaled(number, Decimal(int.from_bytes(cut, number.order, signed=number.signed)))
    digits = (cut if number.order == "big" else cut[::-1]).hex()
    return scaled(number, Decimal(digits)) if digits.isdecimal() else f"{digits} is not BCD"


def of_value(number: Number, value: object) -> Decimal | str:
    """Return the number that a JSON value is or spells, or why there is none."""
    if number.hex:
        found = bytes_of_hex(value) if isinstance(value, str) else None
        return of_bytes(number, found) if found is not None else f"{value!r:.80} is not hexadecimal"
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return f"{value!r:.80} is not a number"
    plain = parse_decimal(value) if isinstance(value, str) else bounded(Decimal(value))
    return scaled(number, plain) if plain is not None else f"{value!r:.80} is not a number"


def scaled(number: Number, value: Decimal) -> Decimal | str:
    """Return a number times `scale` plus `add`, or why that is too large."""
    exact = EXACT.add(EXACT.multiply(value, Decimal(number.scale)), Decimal(number.add))
    if not exact.is_finite() or exact.copy_abs() >= MEASURE_MAX:
        return "the number is not finite and below 1e20"
    return exact
