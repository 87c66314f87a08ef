"""Many rules at once: an index tells which few can match a record, and only they are asked.

Each alternative of a pattern is filed under one of its paths that takes certain strings only,
`type` where it has it. A record looks up its own strings at the filed paths; alternatives that
have no such path are asked for every record.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tallybook.kernel.errors import TallybookError
from tallybook.route.pattern.compile import Matcher, Tree, leaves_of
from tallybook.route.pattern.leaves import exact_texts
from tallybook.route.pattern.parse import parse_pattern
from tallybook.route.pattern.terms import Alternative, Path
from tallybook.route.record import Record, document
from tallybook.route.rule import Rule

_TYPE: Path = ("type",)


class Broken(msgspec.Struct, frozen=True):
    """A rule that cannot be used, and why."""

    rule: Rule
    reason: str


class _Filed(msgspec.Struct, frozen=True, eq=False):
    """One alternative of a rule: what must hold, and whose it is (its place among the rules)."""

    tree: Tree
    rule: int


class RoutingTable:
    """The rules of one tenant, compiled.

    Attributes:
        rules: those that work, in the order given.
        broken: those that cannot be compiled; they stop no other.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        """Compile and file the rules."""
        self.rules: list[Rule] = []
        self.broken: list[Broken] = []
        matchers: list[Matcher] = []
        for rule in rules:
            try:
                matchers.append(Matcher(parse_pattern(rule.pattern)))
            except TallybookError as error:
                self.broken.append(Broken(rule, error.message))
                continue
            self.rules.append(rule)
        self._index: dict[Path, dict[str, list[_Filed]]] = {}
        self._rest: list[_Filed] = []
        self._file(matchers)
        self._by_type = self._index.pop(_TYPE, {})

    def _file(self, matchers: Sequence[Matcher]) -> None:
        alternatives = [fields for matcher in matchers for fields in matcher.pattern.alternatives]
        popular = Counter(path for fields in alternatives for path in _filable(fields))
        for at, matcher in enumerate(matchers):
            for tree, fields in zip(matcher.trees, matcher.pattern.alternatives, strict=True):
                path = _best(_filable(fields), popular)
                if path is None:
                    self._rest.append(_Filed(tree, at))
                    continue
                under = self._index.setdefault(path, {})
                for text in exact_texts(fields[path]) or ():
                    under.setdefault(text, []).append(_Filed(tree, at))

    def matching(self, record: Record) -> list[Rule]:
        """Return the rules a record matches, in their order."""
        candidates = self._by_type.get(record.type)
        if candidates is None and not self._rest and not self._index:
            return []
        found = document(record)
        hits: set[int] = set()
        for each in self._candidates(candidates or (), found):
            if each.rule not in hits and each.tree.holds(found):
                hits.add(each.rule)
        return [self.rules[at] for at in sorted(hits)]

    def _candidates(self, first: Iterable[_Filed], found: Mapping[str, Any]) -> Iterable[_Filed]:
        yield from first
        for path, under in self._index.items():
            for text in set(_texts(found, path)):
                yield from under.get(text, ())
        yield from self._rest


def _filable(fields: Alternative) -> list[Path]:
    """Return the paths of an alternative at which only certain strings will do."""
    return [path for path, field in fields.items() if exact_texts(field) is not None]


def _best(paths: Sequence[Path], popular: Mapping[Path, int]) -> Path | None:
    """Return the path to file under: the type, else the one most alternatives share."""
    if _TYPE in paths:
        return _TYPE
    return max(paths, key=lambda path: (popular[path], path), default=None)


def _texts(value: Any, path: Path) -> Iterable[str]:
    """Yield every string at a path, in whatever element of arrays it is."""
    if not path:
        yield from (leaf for leaf in leaves_of(value) if leaf.__class__ is str)
    elif value.__class__ is dict:
        if path[0] in value:
            yield from _texts(value[path[0]], path[1:])
    elif value.__class__ is list:
        for element in value:
            yield from _texts(element, path)
