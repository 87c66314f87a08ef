"""How an event is spelled: which pieces of its text are fixed, and where its values stand.

Events of one sender differ in their values and in nothing else: the same keys in the same order,
with the same white space. A spelling is learned from one event that was judged on another road.
Whether others are spelled alike is then a comparison of their fixed pieces, of all events at once,
and what holds for the keys and the structure of the first holds for theirs.

Why that is enough: the body is valid JSON without escapes, so quotes alternate between opening and
closing. A slot that is a string ends at a quote of known number; the fixed piece behind it matches
from there, so its quotes are the next ones, and the next slot begins where it began in the learned
event. A slot that is bare begins as a number or word behind a colon and ends as one, with no quote
between: had it more than one value inside, there would be a key between them.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tallybook.kernel.jsonpath import Path, Step, steps
from tallybook.transport.places import ATTRIBUTES

Positions = npt.NDArray[np.int64]
"""Places in a body; shape (n,), or (rows, n)."""

WORD = 8
"""Bytes that are compared at a time."""
TOKENS_MAX = 512
"""Most keys and values of an event that is learned."""
KNOWN_MAX = 64
"""Most spellings that are remembered."""
_TOKEN = re.compile(rb'"([^"]*)"|[^\s{}\[\]:,"]+')
_BEGINS, _ENDS = np.zeros(256, np.bool_), np.zeros(256, np.bool_)
_BEGINS[list(b"-0123456789tfn")] = True
_ENDS[list(b"0123456789el")] = True


class At(NamedTuple):
    """A place: so many bytes after the end of the slot before it.

    Attributes:
        edge: how many slots end before it.
        further: bytes after the last of them, or after the event's start.
    """

    edge: int
    further: int


class Span(NamedTuple):
    """From one place to another."""

    start: At
    end: At


class Bounds(NamedTuple):
    """Where the pieces of some events of a body are found.

    Attributes:
        padded: the body, and `WORD` bytes that no body has.
        starts, ends: of the events, shape (n,).
        quotes: places of their quotes, shape (quotes of each, n).
    """

    padded: bytes
    starts: Positions
    ends: Positions
    quotes: Positions


class Spelling:
    """The fixed pieces of an event and the slots between them.

    Args:
        text: a JSON object without escapes in which no object has a key twice.

    Raises:
        ValueError: a number or word stands in an array, where quotes tell nothing apart; or there
            are more than `TOKENS_MAX` keys and values.
    """

    def __init__(self, text: bytes) -> None:
        """Read the structure of the text."""
        self.text = text
        self._tokens = list(_TOKEN.finditer(text))
        if len(self._tokens) > TOKENS_MAX:
            raise ValueError("too many pieces to be worth it")
        self._keys: dict[str, int] = {}
        numbers = iter(range(len(self._tokens)))
        numbered = _TOKEN.sub(lambda _: b'"%d"' % next(numbers), text)
        self.tree: dict[str, Any] = json.loads(numbered, object_pairs_hook=self._named)
        self._slots = {token: place for place, token in enumerate(sorted(self._values()))}
        self._spans: dict[Path, Span | None] = {}
        self.quotes = text.count(b'"')
        self.declared = self._is_text("datacontenttype")
        self._compile()
        self._named_spans = [*map(self._attribute, ATTRIBUTES), self._data()]

    def spans(self, paths: Iterable[Path]) -> list[Span | None]:
        """Return where the attributes stand, the data, and the values at paths, quotes and all.

        None for what an event has not, and for what never has a text: null attributes, objects and
        arrays at a path.
        """
        return [*self._named_spans, *map(self._span, paths)]

    def edges(self, bounds: Bounds) -> "tuple[Positions, npt.NDArray[np.bool_]]":
        """Return where slots end in each event, behind its start, and which are spelled so.

        Returns:
            Shapes (slots + 1, n) and (n,). The ends mean nothing where the event is not.
        """
        edges = np.empty((len(self._number) + 1, len(bounds.starts)), np.int64)
        edges[0] = bounds.starts
        last = len(bounds.quotes) - 1
        edges[1:] = bounds.quotes[np.minimum(self._number, last)]
        edges[1:][self._number > last] = bounds.ends
        edges[1:] -= self._before
        alike = edges[-1] + self._length[-1] == bounds.ends
        if self._is_bare.any():
            alike &= self._one_value(edges, bounds.padded)
        return edges, alike & self._fixed_alike(edges, bounds.padded)

    def _one_value(self, edges: Positions, padded: bytes) -> "npt.NDArray[np.bool_]":
        """Whether each bare slot begins and ends as a number or word does."""
        starts = (edges[:-1] + self._length[:-1])[self._is_bare]
        ends = edges[1:][self._is_bare]
        letters = np.frombuffer(padded, np.uint8)
        begun = _BEGINS[letters.take(starts, mode="clip")]
        ended = _ENDS[letters.take(ends - 1, mode="clip")]
        return np.asarray((begun & ended & (starts < ends)).all(axis=0))

    def _fixed_alike(self, edges: Positions, padded: bytes) -> "npt.NDArray[np.bool_]":
        words = np.ndarray(len(padded) - WORD + 1, "<u8", padded, strides=(1,))
        found = words.take(edges[self._after] + self._step, mode="clip")
        found ^= self._word
        found &= self._mask
        return np.asarray((found == 0).all(axis=0))

    def _named(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._keys = {self._content(int(key)): int(key) for key, _ in pairs}  # the outermost last
        return {self._content(int(key)): value for key, value in pairs}

    def _content(self, token: int) -> str:
        return str(self._tokens[token][1].decode())

    def _bare(self, token: int) -> bool:
        return self._tokens[token][1] is None

    def _values(self) -> Iterator[int]:
        """Yield the tokens that are slots."""
        for name in ATTRIBUTES:
            if self._is_text(name):
                yield int(self.tree[name])
        data = self.tree.get("data")
        if isinstance(data, dict):
            yield from self._inside(data)

    def _inside(self, value: Any) -> Iterator[int]:
        items = value.values() if isinstance(value, dict) else value
        for item in items:
            if not isinstance(item, str):
                yield from self._inside(item)
            elif isinstance(value, list) and self._bare(int(item)):
                raise ValueError("a number or word in an array")
            else:
                yield int(item)

    def _is_text(self, name: str) -> bool:
        token = self.tree.get(name)
        return isinstance(token, str) and not self._bare(int(token))

    def _attribute(self, name: str) -> Span | None:
        if not self._is_text(name):
            return None
        slot = self._slots[int(self.tree[name])]
        return Span(At(slot, self._lengths[slot]), At(slot + 1, 0))

    def _data(self) -> Span | None:
        if not isinstance(self.tree.get("data"), dict):
            return None
        start = self.text.index(b"{", self._tokens[self._keys["data"]].end())
        bare = _TOKEN.sub(lambda token: b"." * len(token[0]), self.text)
        depth, end = 1, start + 1
        while depth:
            depth += {ord("{"): 1, ord("}"): -1}.get(bare[end], 0)
            end += 1
        return Span(self._at(start), self._at(end))

    def _span(self, path: Path) -> Span | None:
        if path not in self._spans:
            self._spans[path] = self._span_of(steps(path))
        return self._spans[path]

    def _span_of(self, path: tuple[Step, ...]) -> Span | None:
        found = self.tree.get("data") if path and isinstance(path[0], str) else None
        for step in path:
            if isinstance(found, dict) and isinstance(step, str):
                found = found.get(step)
            elif isinstance(found, list) and isinstance(step, int):
                found = found[step] if step < len(found) else None
            else:
                return None
        if not isinstance(found, str):
            return None
        slot, quote = self._slots[int(found)], 0 if self._bare(int(found)) else 1
        return Span(At(slot, self._lengths[slot] - quote), At(slot + 1, quote))

    def _at(self, place: int) -> At:
        """Return a place of a fixed piece."""
        edge = sum(begin <= place for begin in self._begins) - 1
        return At(edge, place - self._begins[edge])

    def _edges_of(self, token: int) -> tuple[int, int]:
        """Return where a slot begins and ends in the learned event."""
        group = 0 if self._bare(token) else 1
        return self._tokens[token].span(group)

    def _compile(self) -> None:
        """Cut the fixed pieces into words, each with its distance from the slot before it."""
        slots = [self._edges_of(token) for token in self._slots]
        self._begins = [0, *(end for _, end in slots)]
        self._lengths = lengths = [
            stop - begin
            for begin, stop in zip(
                self._begins, [*(start for start, _ in slots), len(self.text)], strict=True
            )
        ]
        ends = [end for _, end in slots]
        quotes = [i for i, letter in enumerate(self.text) if letter == ord('"')]
        following = [next((q for q in quotes if q >= end), len(self.text)) for end in ends]
        self._length = _column(lengths)
        self._number = np.searchsorted(np.array(quotes, np.int64), np.array(following, np.int64))
        self._before = _column([at - end for at, end in zip(following, ends, strict=True)])
        self._is_bare = np.array([self._bare(token) for token in self._slots], np.bool_)
        steps = [
            (edge, step, min(WORD, length - step))
            for edge, length in enumerate(lengths)
            for step in range(0, length, WORD)
        ]
        pieces = [self.text[self._begins[e] + s :][:size] for e, s, size in steps]
        self._after = np.array([edge for edge, _, _ in steps], np.int64)
        self._step = _column([step for _, step, _ in steps])
        self._word = np.array([[int.from_bytes(p, "little")] for p in pieces], np.uint64)
        self._mask = np.array([[(1 << 8 * len(p)) - 1] for p in pieces], np.uint64)


def _column(numbers: list[int]) -> Positions:
    return np.array(numbers, np.int64).reshape(-1, 1)


class Spellings:
    """The spellings that were learned; the newest are kept.

    Safe for threads: what is known is replaced, never changed.
    """

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._known: tuple[Spelling, ...] = ()

    def of(self, quotes: int) -> list[Spelling]:
        """Return those of so many quotes, the latest first."""
        return [one for one in self._known if one.quotes == quotes]

    def learn(self, text: bytes) -> bool:
        """Remember how an event is spelled; whether that can be."""
        try:
            spelling = Spelling(text)
        except ValueError:
            return False
        self._known = (spelling, *self._known[: KNOWN_MAX - 1])
        return True
