"""A parsed pattern compiled to a tree of tests for each alternative.

Cost of a match: every node of the pattern meets every node of the event at its path at most once;
nothing is tried twice, whatever the strings are.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tallybook.route.pattern.leaves import Test, leaf_test
from tallybook.route.pattern.terms import Alternative, Exists, Path, Pattern

Document = Mapping[str, Any]
"""An event as JSON values: objects as dicts, arrays as lists, numbers exact."""


class Tree:
    """Tests of the members of one object."""

    __slots__ = ("below", "leaves", "vacuous")

    def __init__(self, fields: Alternative) -> None:
        """Compile the fields of one alternative."""
        self.leaves: list[tuple[str, Test, bool]] = []
        self.below: list[tuple[str, Tree]] = []
        inner: dict[str, dict[Path, Any]] = {}
        for path, field in fields.items():
            if len(path) > 1:
                inner.setdefault(path[0], {})[path[1:]] = field
                continue
            absent = any(isinstance(c, Exists) and not c.wanted for c in field)
            self.leaves.append((path[0], leaf_test(field), absent))
        self.below = [(name, Tree(members)) for name, members in inner.items()]
        self.vacuous: bool = all(absent for *_, absent in self.leaves) and all(
            tree.vacuous for _, tree in self.below
        )

    def holds(self, members: Document) -> bool:
        """Whether an object meets everything."""
        for name, test, absent in self.leaves:
            value = members.get(name, _NOTHING)
            if value.__class__ is list or value.__class__ is dict or value is _NOTHING:
                if not _any_leaf(value, test, absent=absent):
                    return False
            elif not test(value):
                return False
        return not self.below or all(tree.holds_at(members.get(name)) for name, tree in self.below)

    def holds_at(self, value: Any) -> bool:
        """Whether an object, or one element of an array, meets everything.

        What is no object has no members: it meets a tree that asks only for absence.
        """
        if value.__class__ is dict:
            return self.holds(value)
        if value.__class__ is not list:
            return self.vacuous
        inside = list(elements(value))
        if not inside:
            return self.vacuous
        return any(self.holds(e) if e.__class__ is dict else self.vacuous for e in inside)


_NOTHING: list[Any] = []


def _any_leaf(value: Any, test: Test, *, absent: bool) -> bool:
    """Whether a leaf of an array passes; without any leaf, whether absence is enough."""
    found = leaves_of(value)
    return any(map(test, found)) if found else absent


def leaves_of(value: Any) -> Sequence[Any]:
    """Return the leaves of a value: itself, or those of its elements; none of an object."""
    if value.__class__ is dict:
        return []
    if value.__class__ is not list:
        return [value]
    return [element for element in elements(value) if element.__class__ is not dict]


def elements(values: Sequence[Any]) -> Iterator[Any]:
    """Yield the elements of arrays in arrays, in order, however deep."""
    stack = [iter(values)]
    while stack:
        for value in stack[-1]:
            if value.__class__ is list:
                stack.append(iter(value))
                break
            yield value
        else:
            stack.pop()


class Matcher:
    """Tells whether events match one pattern.

    Attributes:
        pattern: what it was compiled from.
        trees: one for each alternative, in order.
    """

    __slots__ = ("pattern", "trees")

    def __init__(self, pattern: Pattern) -> None:
        """Compile a pattern."""
        self.pattern = pattern
        self.trees = tuple(Tree(fields) for fields in pattern.alternatives)

    def matches(self, document: Document) -> bool:
        """Whether an event matches."""
        return any(tree.holds(document) for tree in self.trees)
