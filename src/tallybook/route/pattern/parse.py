"""From a pattern's text to its alternatives: `$or` is spread out, every path is there once.

Spreading `$or` out keeps one meaning for arrays: all fields of an alternative that lie under one
array are met by the same element of it, also where some came from `$or`.
"""

from typing import Any

import msgspec

from tallybook.route.pattern.operators import condition
from tallybook.route.pattern.reading import DEPTH_MAX, Members, read_json, refuse
from tallybook.route.pattern.terms import Field, Path, Pattern

OR = "$or"
ALTERNATIVES_MAX = 1_000
FIELDS_MAX = 20_000
"""Of all alternatives together."""

RESERVED = frozenset(
    (
        "exactly",
        "prefix",
        "suffix",
        "equals-ignore-case",
        "wildcard",
        "anything-but",
        "numeric",
        "exists",
        "cidr",
        "=",
        "<",
        "<=",
        ">",
        ">=",
    )
)
"""Words that cannot be names of fields inside `$or`, where they are always a slip."""

_Found = list[dict[Path, Field]]


class _Place(msgspec.Struct, frozen=True):
    """Where the reader is: the fields' path, its spelling for people, whether inside `$or`."""

    path: Path = ()
    told: str = ""
    inside_or: bool = False

    def into(self, name: str) -> "_Place":
        """Return the place of a member."""
        told = f"{self.told}.{name}" if self.told else name
        return _Place((*self.path, name), told, self.inside_or)


def parse_pattern(text: str) -> Pattern:
    """Return the pattern that a JSON text is.

    Raises:
        Invalid: code 'bad-pattern'; the field names the place and the message what to do.
    """
    members = read_json(text)
    if not isinstance(members, Members):
        raise refuse('a pattern is a JSON object such as {"type": ["usage.http"]}', "")
    return Pattern(text, tuple(_object([{}], members, _Place())))


def _object(found: _Found, members: Members, place: _Place) -> _Found:
    """Return the alternatives with what an object says added to each."""
    if not members:
        raise refuse("an empty object says nothing: name a field, or leave it out", place.told)
    if len(place.path) > DEPTH_MAX:
        raise refuse(f"fields may be nested {DEPTH_MAX} deep", place.told)
    _no_twins(members, place)
    for name, value in members:
        found = _or(found, value, place) if name == OR else _member(found, name, value, place)
        if len(found) > ALTERNATIVES_MAX or sum(map(len, found)) > FIELDS_MAX:
            message = f"$or spreads out to more than {ALTERNATIVES_MAX} alternatives: split it"
            raise refuse(message, place.told)
    return found


def _no_twins(members: Members, place: _Place) -> None:
    names = [name for name, _ in members]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        message = f"the key '{twins[0]}' is there twice: put all its values in one list"
        raise refuse(message, place.into(twins[0]).told)


def _member(found: _Found, name: str, value: Any, place: _Place) -> _Found:
    inner = place.into(name)
    if place.inside_or and name in RESERVED:
        message = f"'{name}' cannot be a field inside $or: is a field's name missing before it?"
        raise refuse(message, inner.told)
    if isinstance(value, Members):
        return _object(found, value, inner)
    if not isinstance(value, list):
        message = 'a field has a list of values or an object of fields: write ["…"]'
        raise refuse(message, inner.told)
    if not value:
        raise refuse("an empty list matches nothing: name a value", inner.told)
    field = tuple(condition(item, f"{inner.told}[{at}]") for at, item in enumerate(value))
    if any(inner.path in fields for fields in found):
        message = "this path is there beside $or and inside it: name it in one of the two"
        raise refuse(message, inner.told)
    return [fields | {inner.path: field} for fields in found]


def _or(found: _Found, value: Any, place: _Place) -> _Found:
    told = place.into(OR).told
    if not isinstance(value, list) or not all(isinstance(each, Members) for each in value):
        raise refuse("$or is a list of objects, one for each alternative", told)
    if len(value) < 2:
        raise refuse("$or needs two alternatives at least", told)
    spread: _Found = []
    for at, each in enumerate(value):
        inner = _Place(place.path, f"{told}[{at}]", inside_or=True)
        spread += _object(found, each, inner)
        if len(spread) > ALTERNATIVES_MAX:
            message = f"$or spreads out to more than {ALTERNATIVES_MAX} alternatives: split it"
            raise refuse(message, told)
    return spread
