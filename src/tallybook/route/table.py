"""Many rules at once: an index tells which few can match a record, and only they are asked.

Each alternative of a pattern is filed under one of its paths: the one where the fewest others are
found together with it, `type` where that is as good. A record looks up its own leaves at the filed
paths; alternatives that no index helps (absence, anything-but, wildcards open at both ends) are
asked for every record.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tallybook.kernel.errors import TallybookError
from tallybook.route.index import Key, PathIndex, best, counted, keys_of
from tallybook.route.pattern.compile import Matcher, Tree, elements
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
        self._rest: list[_Filed] = []
        found = self._file(matchers)
        self._by_type = found.pop(_TYPE, PathIndex[_Filed](()))
        self._others = _Branch(found) if found else None

    def _file(self, matchers: Sequence[Matcher]) -> dict[Path, PathIndex[_Filed]]:
        filed = [
            (_Filed(tree, at), _filable(fields))
            for at, matcher in enumerate(matchers)
            for tree, fields in zip(matcher.trees, matcher.pattern.alternatives, strict=True)
        ]
        of_path: dict[Path, list[Sequence[Sequence[Key]]]] = {}
        for _, filable in filed:
            for path, keys in filable.items():
                of_path.setdefault(path, []).append(keys)
        counts = {path: counted(fields) for path, fields in of_path.items()}
        chosen: dict[Path, list[tuple[Key, _Filed]]] = {}
        for each, filable in filed:
            found = _best(filable, counts)
            if found is None:
                self._rest.append(each)
                continue
            chosen.setdefault(found[0], []).extend((key, each) for key in found[1])
        return {path: PathIndex(keyed) for path, keyed in chosen.items()}

    def matching(self, record: Record) -> list[Rule]:
        """Return the rules a record matches, in their order."""
        of_type = self._by_type.at(record.type)
        if not of_type and not self._rest and self._others is None:
            return []
        found = document(record)
        hits: set[int] = set()
        for each in self._candidates(of_type, found):
            if each.rule not in hits and each.tree.holds(found):
                hits.add(each.rule)
        return [self.rules[at] for at in sorted(hits)]

    def asked(self, record: Record) -> int:
        """Return how many alternatives are asked in full about a record."""
        return len(list(self._candidates(self._by_type.at(record.type), document(record))))

    def _candidates(self, of_type: Sequence[_Filed], found: dict[str, Any]) -> Iterable[_Filed]:
        yield from of_type
        if self._others is not None:
            leaves: set[_Leaf] = set()
            self._others.look(found, leaves)
            for index, _, leaf in leaves:
                yield from index.at(leaf)
        yield from self._rest


_Leaf = tuple[PathIndex[_Filed], type, Any]
"""A leaf, and the index of its path; its kind beside it, for 1 and true are equal."""


class _Branch:
    """Filed paths as a tree of names, walked together with the record."""

    __slots__ = ("below", "here")

    def __init__(self, found: Mapping[Path, PathIndex[_Filed]]) -> None:
        self.here = found.get(())
        inner: dict[str, dict[Path, PathIndex[_Filed]]] = {}
        for path, index in found.items():
            if path:
                inner.setdefault(path[0], {})[path[1:]] = index
        self.below = {name: _Branch(members) for name, members in inner.items()}

    def look(self, value: Any, leaves: set[_Leaf]) -> None:
        """Add the leaves of a value, in whatever element of arrays they are, each once."""
        if value.__class__ is list:
            for element in elements(value):
                self.look(element, leaves)
        elif value.__class__ is not dict:
            if self.here is not None:
                leaves.add((self.here, value.__class__, value))
        elif len(self.below) <= len(value):
            for name, branch in self.below.items():
                if name in value:
                    branch.look(value[name], leaves)
        else:
            for name, member in value.items():
                if name in self.below:
                    self.below[name].look(member, leaves)


_Filable = Mapping[Path, Sequence[Sequence[Key]]]


def _filable(fields: Alternative) -> _Filable:
    """Return the paths of an alternative that an index can find it by, and its keys there."""
    found = {path: keys_of(field) for path, field in fields.items()}
    return {path: keys for path, keys in found.items() if keys is not None}


def _best(filable: _Filable, counts: Mapping[Path, Counter[Key]]) -> tuple[Path, set[Key]] | None:
    """Return where to file: where fewest are found together, else the type, else any."""
    found = [(*best(keys, counts[path]), path) for path, keys in filable.items()]
    ranked = sorted((crowd, path != _TYPE, path, keys) for crowd, keys, path in found)
    return (ranked[0][2], ranked[0][3]) if ranked else None
