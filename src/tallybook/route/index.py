"""What is filed under the conditions of one path: a leaf finds the few that can hold of it.

Every lookup may find too much, never too little: what it finds is asked in full afterwards.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any, Generic, TypeVar

from tallybook.route.pattern.terms import (
    Affix,
    Cidr,
    Condition,
    Equal,
    Field,
    IgnoreCase,
    Numeric,
    SameAddress,
    SameNumber,
    SameWord,
    Wildcard,
    address_of,
)

Filed = TypeVar("Filed")
Key = tuple[str, Any]
"""A kind of condition, and what it asks for."""

_LEAST, _MOST = Decimal("-Infinity"), Decimal("Infinity")


GRAM = 3
"""Letters of a piece of a wildcard that it is found by, wherever it stands."""
GRAMS_MAX = 64
"""Of one wildcard that are thought of."""


def keys_of(field: Field) -> list[list[Key]] | None:
    """Return what each condition of a field can be filed under, any one of its list.

    None where an index is no help, because one of the conditions takes too much.
    """
    keys = [_keys(condition) for condition in field]
    return keys if all(keys) else None


def _keys(condition: Condition) -> list[Key]:
    if isinstance(condition, Wildcard):
        return _of_wildcard(condition.parts)
    key = _key(condition)
    return [] if key is None else [key]


def _key(condition: Condition) -> Key | None:
    match condition:
        case Equal(text):
            return "text", text
        case SameNumber(value):
            return "value", value
        case SameWord(word):
            return "word", word
        case IgnoreCase(text) if text.isascii():
            return "folded", text.lower()
        case Affix(kind, text, ignore_case=False) if text:
            return kind, text
        case Affix(kind, text) if text and text.isascii():
            return f"folded {kind}", text.lower()
        case Numeric():
            low = _LEAST if condition.low is None else condition.low
            return "range", (low, _MOST if condition.high is None else condition.high)
        case Cidr(block):
            return "block", (block.version, block.prefixlen, int(block.network_address))
        case SameAddress(address):
            return "block", (6, 128, int(address))
        case _:
            return None


def _of_wildcard(parts: tuple[str, ...]) -> list[Key]:
    """Return its two ends, and every piece of three letters of what stands between stars."""
    if len(parts) == 1:
        return [("text", parts[0])]
    ends: list[Key] = [("prefix", parts[0]), ("suffix", parts[-1])]
    grams = (part[at : at + GRAM] for part in parts for at in range(len(part) - GRAM + 1))
    pieces = sorted(set(islice(grams, GRAMS_MAX)))
    return [key for key in ends if key[1]] + [("piece", gram) for gram in pieces]


class PathIndex(Generic[Filed]):
    """Everything filed at one path.

    Args:
        filed: what, each under a key.
    """

    def __init__(self, filed: Iterable[tuple[Key, Filed]]) -> None:
        """File everything."""
        kinds: dict[str, dict[Any, list[Filed]]] = {}
        for (kind, wanted), each in filed:
            kinds.setdefault(kind, {}).setdefault(wanted, []).append(each)
        self.texts = kinds.pop("text", {})
        self._values = kinds.pop("value", {})
        self._words = kinds.pop("word", {})
        self._folded = kinds.pop("folded", {})
        self._blocks = _Blocks(kinds.pop("block", {}))
        self._ranges = _Ranges(kinds.pop("range", {}))
        self._pieces = kinds.pop("piece", {})
        self._prefixes = _Prefixes(kinds.pop("prefix", {}))
        self._folded_prefixes = _Prefixes(kinds.pop("folded prefix", {}))
        self._suffixes = _Prefixes(_reversed(kinds.pop("suffix", {})))
        self._folded_suffixes = _Prefixes(_reversed(kinds.pop("folded suffix", {})))
        assert not kinds
        self.only_texts = not (
            self._values or self._words or self._folded or self._blocks or self._ranges
            or self._prefixes or self._folded_prefixes or self._suffixes or self._folded_suffixes
            or self._pieces
        )  # fmt: skip

    def at(self, leaf: Any) -> Sequence[Filed]:
        """Return what a leaf may meet."""
        kind = leaf.__class__
        if kind is str:
            found = self.texts.get(leaf, ())
            return found if self.only_texts else [*found, *self._of_text(leaf)]
        if kind is int or kind is Decimal:
            return [*self._values.get(leaf, ()), *self._ranges.at(leaf)]
        if leaf is None or kind is bool:
            return self._words.get({None: "null", True: "true", False: "false"}[leaf], ())
        return ()

    def _of_text(self, leaf: str) -> Iterator[Filed]:
        if self._prefixes:
            yield from self._prefixes.of(leaf)
        if self._suffixes:
            yield from self._suffixes.of(leaf[::-1])
        if self._folded or self._folded_prefixes or self._folded_suffixes:
            lower = leaf.lower()  # ASCII is all that is asked for, and that keeps its length
            yield from self._folded.get(lower, ())
            yield from self._folded_prefixes.of(lower)
            yield from self._folded_suffixes.of(lower[::-1])
        if self._blocks:
            yield from self._blocks.at(leaf)
        if self._pieces:
            yield from self._with_pieces(leaf)

    def _with_pieces(self, leaf: str) -> Iterator[Filed]:
        if len(leaf) > len(self._pieces):
            grams = {gram for gram in self._pieces if gram in leaf}
        else:
            grams = {leaf[at : at + GRAM] for at in range(len(leaf) - GRAM + 1)}
        for gram in grams:
            yield from self._pieces.get(gram, ())


def _reversed(found: dict[str, list[Filed]]) -> dict[str, list[Filed]]:
    return {text[::-1]: filed for text, filed in found.items()}


class _Prefixes(Generic[Filed]):
    """Literals, sorted; each knows the longest other one that it begins with.

    Cost: one search, and a step for each literal that the greatest one not after the text begins
    with: all that the text begins with are among them.
    """

    def __init__(self, found: dict[str, list[Filed]]) -> None:
        self._sorted = sorted(found)
        self._filed = [found[text] for text in self._sorted]
        self._above: list[int] = []
        open_: list[int] = []
        for at, text in enumerate(self._sorted):
            while open_ and not text.startswith(self._sorted[open_[-1]]):
                open_.pop()
            self._above.append(open_[-1] if open_ else -1)
            open_.append(at)

    def __bool__(self) -> bool:
        return bool(self._sorted)

    def of(self, text: str) -> Iterator[Filed]:
        """Yield what is filed under literals that a text begins with."""
        at = bisect_right(self._sorted, text) - 1
        while at >= 0 and not text.startswith(self._sorted[at]):
            at = self._above[at]
        while at >= 0:
            yield from self._filed[at]
            at = self._above[at]


class _Blocks(Generic[Filed]):
    """Blocks of addresses, by version and length; one lookup for each length there is."""

    def __init__(self, found: dict[tuple[int, int, int], list[Filed]]) -> None:
        self._found = found
        self._lengths: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for version, bits in sorted({(version, bits) for version, bits, _ in found}):
            size = 32 if version == 4 else 128
            mask = (1 << size) - (1 << (size - bits))
            self._lengths[version].append((bits, mask))

    def __bool__(self) -> bool:
        return bool(self._found)

    def at(self, leaf: str) -> Iterator[Filed]:
        """Yield what is filed under blocks that have an address."""
        address = address_of(leaf)
        if address is None:
            return
        number, version = int(address), address.version
        for bits, mask in self._lengths[version]:
            yield from self._found.get((version, bits, number & mask), ())


class _Ranges(Generic[Filed]):
    """Ranges by their lower end, as a balanced tree that knows the greatest upper end below it.

    Bounds count as within: which of them are is asked afterwards.
    """

    def __init__(self, found: dict[tuple[Any, Any], list[Filed]]) -> None:
        self._sorted = sorted(found)
        self._filed = [found[bounds] for bounds in self._sorted]
        self._greatest: list[Any] = [_LEAST] * len(self._sorted)
        self._note(0, len(self._sorted))

    def __bool__(self) -> bool:
        return bool(self._sorted)

    def _note(self, first: int, end: int) -> Any:
        if first >= end:
            return _LEAST
        middle = (first + end) // 2
        sides = self._note(first, middle), self._note(middle + 1, end)
        self._greatest[middle] = max(self._sorted[middle][1], *sides)
        return self._greatest[middle]

    def at(self, number: Any) -> Iterator[Filed]:
        """Yield what is filed under ranges that a number is within."""
        todo = [(0, len(self._sorted))]
        while todo:
            first, end = todo.pop()
            middle = (first + end) // 2
            if first >= end or self._greatest[middle] < number:
                continue
            todo.append((first, middle))
            low, high = self._sorted[middle]
            if low <= number:
                if number <= high:
                    yield from self._filed[middle]
                todo.append((middle + 1, end))


def counted(fields: Iterable[Sequence[Sequence[Key]]]) -> Counter[Key]:
    """Return how many fields of one path could be found by each key.

    Ranges count as one key, and that for half: a number is within some of them.
    """
    found = Counter(
        key for options in fields for key in {_counting(key) for keys in options for key in keys}
    )
    found[_RANGE] = (found[_RANGE] + 1) // 2
    return found


def best(options: Sequence[Sequence[Key]], counts: Counter[Key]) -> tuple[int, set[Key]]:
    """Return the keys a field is best filed under, and how many others are found with it at most.

    Args:
        options: as `keys_of` gives them.
        counts: of the field's path.
    """
    chosen = [min(keys, key=lambda key: counts[_counting(key)]) for keys in options]
    return max(counts[_counting(key)] for key in chosen), set(chosen)


_RANGE: Key = ("range", None)


def _counting(key: Key) -> Key:
    return _RANGE if key[0] == "range" else key
