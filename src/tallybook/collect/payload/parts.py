"""A message that carries many readings: each element of its list is read by itself.

An element that is an object is read as if its members stood beside those of the message, its own
first; one that is a plain value stands under `value`, its place in the list under `index`.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from tallybook.kernel.decimals import plain
from tallybook.kernel.jsonpath import Step, steps
from tallybook.kernel.problem import Problem

ELEMENTS_MAX = 10_000
WHOLE = "$"


class Part(msgspec.Struct, frozen=True):
    """What one event is read from.

    Attributes:
        body: a JSON object, bytes, or a text.
        content: the bytes that it was sent as; of an element, its JSON.
        index: its place in the list, None where the message is one reading.
        own: the element's own members, {} where it has none.
    """

    body: Any
    content: bytes
    index: int | None = None
    own: Mapping[str, Any] = {}


def parts(body: Any, each: str) -> Iterator[Part] | Problem:
    """Return the elements of the list at a path; a Problem where there is no such list."""
    found = body if each == WHOLE else at(body, each)
    if not isinstance(found, list):
        return _problem(f"there is no list at {each}")
    if len(found) > ELEMENTS_MAX:
        return _problem(f"the list has more than {ELEMENTS_MAX} elements")
    return _elements(found, _around(body, each))


def at(value: Any, path: str) -> Any:
    """Return what stands at a path, None where nothing does."""
    for step in steps(path):
        value = _inside(value, step)
    return value


def raw(value: Any) -> Any:
    """Return a JSON value with its numbers spelled as they are."""
    if isinstance(value, Decimal):
        return msgspec.Raw(plain(value).encode())
    if isinstance(value, dict):
        return {name: raw(inner) for name, inner in value.items()}
    return [raw(inner) for inner in value] if isinstance(value, list) else value


def _inside(value: Any, step: Step) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    fits = isinstance(value, list) and isinstance(step, int) and step < len(value)
    return value[step] if fits else None


def _around(body: Any, each: str) -> dict[str, Any]:
    """Return what stands beside the list, for every element."""
    if not isinstance(body, dict):
        return {}
    within = steps(each)[0] if each != WHOLE else None
    return {name: value for name, value in body.items() if name != within}


def _elements(found: list[Any], around: Mapping[str, Any]) -> Iterator[Part]:
    for index, element in enumerate(found):
        own = element if isinstance(element, dict) else {"value": element, "index": index}
        content = msgspec.json.encode(raw(element))
        yield Part({**around, **own}, content, index, own)


def _problem(message: str) -> Problem:
    return Problem(code="payload-malformed", message=message)
