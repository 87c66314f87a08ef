"""JSON text into pieces that still know their duplicate keys."""

import json
from typing import Any

from tallybook.kernel.errors import Invalid
from tallybook.route.pattern.numbers import exact, exact_int

PATTERN_BYTES_MAX = 16 * 1024
DEPTH_MAX = 32


class Members(tuple[tuple[str, Any], ...]):
    """The members of a JSON object in their order, duplicates included."""

    __slots__ = ()


def refuse(message: str, path: str) -> Invalid:
    """Return the refusal of a pattern: what is wrong, where, and what to do."""
    return Invalid(message, code="bad-pattern", field=path or "pattern")


def read_json(text: str) -> Any:
    """Return the value of a pattern's text; objects are `Members`.

    Raises:
        Invalid: it is not JSON, or larger than a pattern may be.
    """
    size = len(text.encode(errors="surrogatepass"))
    if size > PATTERN_BYTES_MAX:
        message = f"the pattern has {size} bytes; at most {PATTERN_BYTES_MAX} are allowed: split it"
        raise refuse(message, "")
    try:
        return json.loads(
            text,
            object_pairs_hook=Members,
            parse_float=exact,
            parse_int=exact_int,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError) as error:
        raise refuse(f"the pattern is not JSON: {error}", "") from error


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number of JSON")
