"""Where values stand, found by comparing events that are spelled alike: where nothing is compiled.

The body is split once, which also proves that it is JSON; where its quotes are tells where every
value is (`spelled.spelling`). A spelling is learned from an event that the fast road of
`transport.accept` has judged, so nothing is decided here about keys and structure.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX
from tallybook.transport.accept import AcceptLimits, is_plain
from tallybook.transport.columns import ColumnSet
from tallybook.transport.places import DATA, Places
from tallybook.transport.spelled.spelling import WORD, Bounds, Positions, Spelling, Spellings

LEARNED_MAX = 8
"""Most spellings that one request may teach; one of more variety takes the fast road."""
SPELLINGS_MAX = 16
"""Most spellings of one pass."""
LOOKS_MAX = 5
"""How often the events of a pass may be looked at, each by those spellings that came before its
own: more kinds side by side than that are quicker on the fast road."""
TEXT_BYTES_MAX = 16 * 1024
"""A longer event is no pattern for others."""

_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_UNREAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_FIRST_LETTER = ord(" ")
_QUOTE = ord('"')


class Pieces(NamedTuple):
    """Where the events of a body are.

    Attributes:
        starts, ends: shape (n,); where white space stands elsewhere than behind commas, places at
            which no spelling fits.
    """

    starts: Positions
    ends: Positions


def pieces(body: bytes, limits: AcceptLimits) -> Pieces | None:
    """Return where the events of a request are; None where another road has to be taken."""
    if b"\\" in body:
        return None
    try:
        if not body.isascii():
            body.decode()
        raws = _RAWS.decode(body)
    except _UNREAD:
        return None
    if not 0 < len(raws) <= limits.request_events_max:
        return None
    lengths = np.fromiter(map(len, raws), np.int64, len(raws))
    spare = len(body) - int(lengths.sum())
    apart = 1 if spare == len(raws) + 1 else 2  # a comma, or one and a space
    if spare != apart * (len(raws) - 1) + 2 or lengths.max() > limits.event_bytes_max:
        return None
    ends = np.cumsum(lengths + apart) - apart + 1
    if np.frombuffer(body, np.uint8).min() < _FIRST_LETTER:
        return None
    return Pieces(ends - lengths, ends)


def spelled(
    bodies: Sequence[bytes], parts: Sequence[Pieces], columns: ColumnSet
) -> tuple[bytes, Places] | None:
    """Return bodies behind each other, and where their values stand; None for another road."""
    body = _joined(bodies, parts)
    placed = _Placed(len(body.starts), columns)
    if not _spelled(body, placed) or not placed.in_range():
        return None
    return body.padded, Places(placed.starts, placed.ends, placed.declared, body.starts)


class _Body(NamedTuple):
    """Bodies behind each other; letters and padded are the same bytes, and `WORD` more."""

    padded: bytes
    letters: npt.NDArray[np.uint8]
    starts: Positions
    ends: Positions


def _joined(bodies: Sequence[bytes], parts: Sequence[Pieces]) -> _Body:
    padded = b"".join([*bodies, bytes(WORD)])
    begins = np.cumsum([0, *map(len, bodies[:-1])])
    placed = list(zip(parts, begins, strict=True))
    starts = np.concatenate([part.starts + begin for part, begin in placed])
    ends = np.concatenate([part.ends + begin for part, begin in placed])
    return _Body(padded, np.frombuffer(padded, np.uint8), starts, ends)


class _Placed:
    """Where each column's values stand, while they are found."""

    def __init__(self, count: int, columns: ColumnSet) -> None:
        self.columns = columns
        wide = (DATA + 1 + len(columns), count)
        self.starts = np.full(wide, -1, np.int64)
        self.ends = np.full(wide, -1, np.int64)
        self.declared = np.zeros(count, np.bool_)

    def put(self, spelling: Spelling, which: Any, edges: Positions) -> None:
        """Take over the places of events that are spelled alike."""
        for row, span in enumerate(spelling.spans(self.columns.paths.values())):
            if span is not None:
                self.starts[row, which] = edges[span.start.edge] + span.start.further
                self.ends[row, which] = edges[span.end.edge] + span.end.further
        if spelling.declared:
            self.declared[which] = True

    def in_range(self) -> bool:
        """Whether all attributes are, by their bytes: those with more are judged by characters."""
        rows = slice(0, DATA)
        lengths = (self.ends - self.starts)[rows][self.starts[rows] >= 0]
        return bool(lengths.min() > 0 and lengths.max() <= ATTRIBUTE_CHARS_MAX)


class _Quotes(NamedTuple):
    """Where the quotes of a body are, which of them is each event's first, and how many it has."""

    places: Positions
    firsts: Positions
    counts: Positions


def _spelled(body: _Body, placed: _Placed) -> bool:
    """Find the spelling of every event; whether all have one, and there are few."""
    places = np.flatnonzero(body.letters == _QUOTE)
    firsts = np.searchsorted(places, body.starts)
    quotes = _Quotes(places, firsts, np.diff(firsts, append=len(places)))
    left = np.arange(len(firsts))
    known = placed.columns.spellings
    learned = looks = 0
    for _ in range(SPELLINGS_MAX):
        looks += len(left)
        if looks > LOOKS_MAX * len(firsts):
            return False
        spelling = _known(known, body, quotes, left[:1])
        if spelling is None:
            learned += 1
            text = body.padded[body.starts[left[0]] : body.ends[left[0]]]
            if learned > LEARNED_MAX or not _learn(known, text):
                return False
            spelling = known.of(text.count(b'"'))[0]
        left = _matched(spelling, body, quotes, left, placed)
        if not len(left):
            return True
    return False


def _known(known: Spellings, body: _Body, quotes: _Quotes, one: Positions) -> Spelling | None:
    """Return the spelling of an event; asked of it alone, for all of them are asked."""
    for spelling in known.of(int(quotes.counts[one[0]])):
        _, fits = spelling.edges(_bounds(spelling, body, quotes, one))
        if fits[0]:
            return spelling
    return None


def _learn(known: Spellings, text: bytes) -> bool:
    return len(text) <= TEXT_BYTES_MAX and is_plain(text) and known.learn(text)


def _bounds(spelling: Spelling, body: _Body, quotes: _Quotes, here: Positions) -> Bounds:
    """Return where to look in some events, which have as many quotes as the spelling."""
    of_each = quotes.places[quotes.firsts[here] + np.arange(spelling.quotes)[:, None]]
    return Bounds(body.padded, body.starts[here], body.ends[here], of_each)


def _matched(
    spelling: Spelling, body: _Body, quotes: _Quotes, left: Positions, placed: _Placed
) -> Positions:
    """Put down the events that are spelled so; return those that are left."""
    same = quotes.counts[left] == spelling.quotes
    if len(left) == len(quotes.counts) and same.all():
        of_each = quotes.places.reshape(len(left), -1).T
        edges, fits = spelling.edges(Bounds(body.padded, body.starts, body.ends, of_each))
        if fits.all():
            placed.put(spelling, slice(None), edges)
            return left[:0]
        here = left
    else:
        here = left[same]
        edges, fits = spelling.edges(_bounds(spelling, body, quotes, here))
    placed.put(spelling, here[fits], edges[:, fits])
    return np.setdiff1d(left, here[fits], assume_unique=True)
