"""JSON bodies of routes: what a lenient reader would let through and a strict one refuses.

Broken JSON goes on to the route, whose own refusal says where it breaks.
"""

import json
import re
from typing import Any, NoReturn

from tallybook.kernel.errors import Invalid

DEPTH_MAX = 200
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


class _Refused(Exception):
    """What is wrong with a body."""


def check_json(body: bytes) -> None:
    """Refuse a key twice in an object, half a character, NUL, NaN and bottomless nesting.

    Args:
        body: of a JSON request.

    Raises:
        Invalid: 'malformed'.
    """
    try:
        _look(body)
    except _Refused as refused:
        raise Invalid(f"the body: {refused}", code="malformed", field="body") from refused
    except RecursionError as error:
        message = f"the body is nested deeper than {DEPTH_MAX} levels"
        raise Invalid(message, code="malformed", field="body") from error
    except ValueError:
        return


def _look(body: bytes) -> None:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise _Refused(f"not UTF-8 at byte {error.start}") from None
    if not text.strip():
        return
    found = json.loads(
        text,
        object_pairs_hook=_unique,
        parse_int=_unread,
        parse_float=_unread,
        parse_constant=_constant,
    )
    escapes = _HALF.search(body) is not None or b"\\u0000" in body
    _walk(found, 1, texts=escapes)


def _walk(value: Any, depth: int, *, texts: bool) -> None:
    if depth > DEPTH_MAX:
        raise _Refused(f"nested deeper than {DEPTH_MAX} levels")
    if isinstance(value, dict):
        for name, inner in value.items():
            if texts:
                _check_text(name)
            _walk(inner, depth + 1, texts=texts)
    elif isinstance(value, list):
        for inner in value:
            _walk(inner, depth + 1, texts=texts)
    elif texts and isinstance(value, str):
        _check_text(value)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise _Refused("a text contains NUL (\\u0000)")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Refused("a text has half of a surrogate pair, which is no character") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refused(f"the key {twice[:80]!r} stands twice in one object; send it once")
    return found


def _unread(_: str) -> None:
    """Leave a number unread: the route judges it."""


def _constant(word: str) -> NoReturn:
    raise _Refused(f"{word} is no JSON")
