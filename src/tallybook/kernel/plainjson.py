"""JSON in which every exact decimal is spelled plainly: 0.000000004, never 4E-9."""

import re
from decimal import Decimal
from typing import Any, Literal

import msgspec

from tallybook.kernel.decimals import plain

_EXPONENT = re.compile(rb'"-?\d+(?:\.\d+)?E[+-]?\d+"')


def encode_plain(value: object, *, order: Literal["sorted"] | None = None) -> bytes:
    """Return the JSON of a value; decimals are plain texts.

    Args:
        value: anything that msgspec encodes, without `msgspec.Raw` inside.
        order: 'sorted' for sorted keys.

    Cost: one pass where no decimal would be spelled with an exponent, the usual case.
    """
    body = msgspec.json.encode(value, order=order)
    if _EXPONENT.search(body) is None:
        return body
    return msgspec.json.encode(plain_builtins(value), order=order)


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
