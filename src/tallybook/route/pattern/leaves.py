"""Conditions compiled to tests of one leaf, the cheap ones first."""

from collections.abc import Callable
from decimal import Decimal
from ipaddress import IPv6Address
from typing import Any, assert_never

from tallybook.route.pattern.terms import (
    Affix,
    AnythingBut,
    Cidr,
    Condition,
    Equal,
    Exists,
    Field,
    IgnoreCase,
    Numeric,
    SameAddress,
    SameNumber,
    SameWord,
    Wildcard,
    address_of,
)

Leaf = Any
"""A string, an exact number, true, false, null, or a number beyond computing."""
Test = Callable[[Leaf], bool]


def leaf_test(field: Field) -> Test:
    """Return whether a leaf meets one of the conditions; `exists: false` is not about leaves."""
    texts = frozenset(c.text for c in field if isinstance(c, Equal))
    numbers = frozenset(c.value for c in field if isinstance(c, SameNumber))
    known = (Equal, SameNumber, Exists)
    others = tuple(_test(c) for c in field if not isinstance(c, known))
    if any(isinstance(c, Exists) and c.wanted for c in field):
        return _always
    if not others and not numbers:
        return lambda leaf: leaf.__class__ is str and leaf in texts

    def test(leaf: Leaf) -> bool:
        if leaf.__class__ is str:
            if leaf in texts:
                return True
        elif numbers and _is_number(leaf) and leaf in numbers:
            return True
        return any(other(leaf) for other in others)

    return test


def _always(leaf: Leaf) -> bool:
    del leaf
    return True


def _never(leaf: Leaf) -> bool:
    del leaf
    return False


def _is_number(leaf: Leaf) -> bool:
    return leaf.__class__ is int or leaf.__class__ is Decimal


def _test(condition: Condition) -> Test:
    match condition:
        case Equal(text):
            return lambda leaf: leaf.__class__ is str and leaf == text
        case SameNumber(value):
            return lambda leaf: _is_number(leaf) and leaf == value
        case SameWord(word):
            wanted = {"true": True, "false": False, "null": None}[word]
            return lambda leaf: leaf is wanted
        case SameAddress(address):
            return lambda leaf: leaf.__class__ is str and address_of(leaf) == address
        case Affix() | IgnoreCase() | Wildcard():
            text_test = _text_test(condition)
            return lambda leaf: leaf.__class__ is str and text_test(leaf)
        case Numeric():
            return _within(condition)
        case Cidr():
            return _in_block(condition)
        case AnythingBut(none_of):
            tests = tuple(_test(c) for c in none_of)
            return lambda leaf: not any(test(leaf) for test in tests)
        case Exists(wanted_leaf):
            return _always if wanted_leaf else _never
        case _:
            assert_never(condition)


def _text_test(condition: Affix | IgnoreCase | Wildcard) -> Callable[[str], bool]:
    match condition:
        case Affix("prefix", text, ignore_case=False):
            return lambda leaf: leaf.startswith(text)
        case Affix("suffix", text, ignore_case=False):
            return lambda leaf: leaf.endswith(text)
        case Affix(kind, text):
            size, same = len(text), _same_but_case(text)
            if kind == "prefix":
                return lambda leaf: same(leaf[:size])
            return lambda leaf: len(leaf) >= size and same(leaf[len(leaf) - size :])
        case IgnoreCase(text):
            return _same_but_case(text)
        case Wildcard(_, parts):
            return _wildcard(parts)


def _same_but_case(text: str) -> Callable[[str], bool]:
    """Return whether a string is the text, each letter in the case of either."""
    letters = [{c, *(v for v in (c.lower(), c.upper()) if len(v) == 1)} for c in text]
    lower = text.lower() if text.isascii() else None

    def same(leaf: str) -> bool:
        if len(leaf) != len(letters):
            return False
        if lower is not None and leaf.isascii():
            return leaf.lower() == lower
        return all(c in either for c, either in zip(leaf, letters, strict=True))

    return same


def _wildcard(parts: tuple[str, ...]) -> Callable[[str], bool]:
    """Return whether a string is these parts with anything between.

    Cost: each part is looked for once, from where the last ended: the leftmost place is as good
    as any other, so nothing is ever tried again.
    """
    first, middle, last = parts[0], parts[1:-1], parts[-1]
    if len(parts) == 1:
        return lambda leaf: leaf == first
    least = len(first) + len(last)

    def test(leaf: str) -> bool:
        if len(leaf) < least or not leaf.startswith(first) or not leaf.endswith(last):
            return False
        at, end = len(first), len(leaf) - len(last)
        for part in middle:
            at = leaf.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return test


def _within(bounds: Numeric) -> Test:
    low, high = bounds.low, bounds.high
    low_open, high_open = bounds.low_open, bounds.high_open

    def test(leaf: Leaf) -> bool:
        if not _is_number(leaf):
            return False
        if low is not None and (leaf < low or (low_open and leaf == low)):
            return False
        return high is None or leaf < high or (not high_open and leaf == high)

    return test


def _in_block(cidr: Cidr) -> Test:
    block = cidr.block
    v6 = block.version == 6

    def test(leaf: Leaf) -> bool:
        if leaf.__class__ is not str:
            return False
        address = address_of(leaf)
        return address is not None and isinstance(address, IPv6Address) == v6 and address in block

    return test
