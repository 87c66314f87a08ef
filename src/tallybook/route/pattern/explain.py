"""Why an event does not match: the fields at fault of the alternative that comes nearest."""

from typing import Any

import msgspec

from tallybook.route.pattern.compile import Document, Matcher, Tree, leaves_of
from tallybook.route.pattern.terms import (
    Affix,
    AnythingBut,
    Beyond,
    Cidr,
    Condition,
    Equal,
    Exists,
    Field,
    IgnoreCase,
    Numeric,
    Path,
    SameAddress,
    SameNumber,
    SameWord,
    Wildcard,
)

FOUND_MAX = 20


class Miss(msgspec.Struct, frozen=True, kw_only=True):
    """One field that does not match.

    Attributes:
        field: its path, names joined with dots.
        wanted: what the pattern asks for, for people.
        found: the leaves that are there, as JSON; at most 20.
        message: a sentence for people.
    """

    field: str
    wanted: str
    found: list[str]
    message: str


def misses(matcher: Matcher, document: Document) -> list[Miss]:
    """Return why an event does not match; nothing where it does.

    Where `$or` gives several alternatives, the one with the fewest fields at fault is told.
    """
    if matcher.matches(document):
        return []
    told = [_of_alternative(fields, document) for fields in matcher.pattern.alternatives]
    return min(told, key=len)


def _of_alternative(fields: Any, document: Document) -> list[Miss]:
    alone = [(p, f) for p, f in fields.items() if not Tree({p: f}).holds(document)]
    if alone:
        return [_miss(path, field, document) for path, field in alone]
    names = ", ".join(".".join(path) for path in fields)
    message = "each of these fields matches, but no one element of the array has them all"
    return [Miss(field=names, wanted="the same element", found=[], message=message)]


def _miss(path: Path, field: Field, document: Document) -> Miss:
    found = [_json(leaf) for leaf in _leaves_at(document, path)[:FOUND_MAX]]
    wanted = " or ".join(map(spelled, field))
    name = ".".join(path)
    there = f"is {', '.join(found)}" if found else "is not there"
    return Miss(field=name, wanted=wanted, found=found, message=f"{name} {there}; wanted {wanted}")


def _leaves_at(value: Any, path: Path) -> list[Any]:
    if isinstance(value, list):
        found: list[Any] = []
        for element in value:
            found += _leaves_at(element, path) if path or isinstance(element, list) else [element]
        return [each for each in found if not isinstance(each, dict)] if not path else found
    if not path:
        return list(leaves_of(value))
    return (
        _leaves_at(value[path[0]], path[1:]) if isinstance(value, dict) and path[0] in value else []
    )


def _json(leaf: Any) -> str:
    if isinstance(leaf, Beyond):
        return leaf.text
    text = leaf if isinstance(leaf, str) else str(leaf) if not _is_word(leaf) else None
    if text is None:
        return {True: "true", False: "false", None: "null"}[leaf]
    return msgspec.json.encode(text[:200]).decode() if isinstance(leaf, str) else text


def _is_word(leaf: Any) -> bool:
    return leaf is None or isinstance(leaf, bool)


def spelled(condition: Condition) -> str:  # noqa: C901 - one line for each kind
    """Return a condition in words."""
    match condition:
        case Equal(text):
            return _json(text)
        case SameNumber(value):
            return str(value)
        case SameWord(word):
            return word
        case SameAddress(address):
            return f"the address {address}"
        case Affix(kind, text, ignore_case=ignored):
            return f"{kind} {_json(text)}{' in any case' if ignored else ''}"
        case IgnoreCase(text):
            return f"{_json(text)} in any case"
        case Wildcard(text):
            return f"wildcard {_json(text)}"
        case Numeric():
            return _range(condition)
        case Exists(wanted):
            return "present" if wanted else "absent"
        case Cidr(block):
            return f"an address of {block}"
        case AnythingBut(none_of):
            return f"anything but {' or '.join(map(spelled, none_of))}"


def _range(bounds: Numeric) -> str:
    if bounds.low is not None and bounds.low == bounds.high:
        return f"= {bounds.low}"
    low = f"{'>' if bounds.low_open else '>='} {bounds.low}" if bounds.low is not None else ""
    high = f"{'<' if bounds.high_open else '<='} {bounds.high}" if bounds.high is not None else ""
    return " and ".join(side for side in (low, high) if side)
