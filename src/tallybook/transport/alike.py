"""The road of many events that are spelled alike: columns are cut out of the body as it came.

No object is made of an event before its identity is hashed. The body is split once, which also
proves that it is JSON; where its quotes are tells where every value is (`transport.spelling`); and
compiled column operations do the rest. A spelling is learned from an event that the fast road of
`transport.accept` has judged, so this road decides nothing about keys and structure; a body that
has anything else in it (escapes, line breaks, extension attributes, an instant of another zone, an
attribute that is empty or long) is left to the other roads. All roads make the same rows.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from tallybook.kernel.event import UNPARSED_TYPE
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX
from tallybook.kernel.timestamps import SECOND_US
from tallybook.transport.accept import JSON_EXT, AcceptLimits, instants, instants_singly, is_plain
from tallybook.transport.columns import (
    ROUNDED,
    Column,
    ColumnSet,
    number_array,
    numbers_of,
    text_array,
    whole_numbers,
)
from tallybook.transport.identity import (
    UNSENT,
    digests_of,
    hashes_of,
    joined_texts,
    keys_array,
    mixed_hashes,
    named_identities,
)
from tallybook.transport.rows import batch_schema
from tallybook.transport.spelling import ATTRIBUTES, WORD, Bounds, Positions, Spelling, Spellings

EVENTS_MIN = 200
"""Fewer events than this are quicker on the fast road."""
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
TIME, DATA = ATTRIBUTES.index("time"), len(ATTRIBUTES)
"""Rows of the places: attributes, data, and then the typed columns."""
_UNPARSED = np.uint64(xxhash.xxh3_64_intdigest(UNPARSED_TYPE.encode()))
"""As `hashes_of` gives it; by hand, because making an array imports more than a start needs."""
_FIRST_LETTER = ord(" ")
_QUOTE = ord('"')
_DIGITS = np.zeros(256, np.bool_)
_DIGITS[list(b"-0123456789")] = True


class Alike(msgspec.Struct, frozen=True):
    """Events as columns, ready for the log.

    Attributes:
        batch: as `transport.rows` makes it.
        data_bytes: how many bytes of data they carry.
    """

    batch: pa.RecordBatch
    data_bytes: int

    def to_batch(self) -> pa.RecordBatch:
        """Return the columns."""
        return self.batch

    def __len__(self) -> int:
        """Return how many there are."""
        return self.batch.num_rows


class Split(NamedTuple):
    """A request's body and where its events are.

    Attributes:
        body: a JSON array without escapes and line breaks.
        starts, ends: of its events, shape (n,); where white space stands elsewhere than behind
            commas, places at which no spelling fits.
    """

    body: bytes
    starts: Positions
    ends: Positions


class _Body(NamedTuple):
    """Bodies behind each other; letters and padded are the same bytes, and `WORD` more."""

    padded: bytes
    letters: npt.NDArray[np.uint8]
    starts: Positions
    ends: Positions


def split(body: bytes, limits: AcceptLimits) -> Split | None:
    """Return where the events of a request are; None where another road has to be taken."""
    if b"\\" in body or len(body) > limits.request_bytes_max:
        return None
    try:
        if not body.isascii():
            body.decode()
        pieces = _RAWS.decode(body)
    except _UNREAD:
        return None
    if not 0 < len(pieces) <= limits.request_events_max:
        return None
    lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
    spare = len(body) - int(lengths.sum())
    apart = 1 if spare == len(pieces) + 1 else 2  # a comma, or one and a space
    if spare != apart * (len(pieces) - 1) + 2 or lengths.max() > limits.event_bytes_max:
        return None
    ends = np.cumsum(lengths + apart) - apart + 1
    if np.frombuffer(body, np.uint8).min() < _FIRST_LETTER:
        return None
    return Split(body, ends - lengths, ends)


def alike(
    tenant: str, parts: Sequence[Split], now_us: int, columns: ColumnSet, limits: AcceptLimits
) -> Alike | None:
    """Return the events of some requests as columns; None where another road has to be taken.

    Args:
        tenant: whose events.
        parts: the requests, in order; each of them is good, or None is returned.
        now_us: receipt time.
        columns: typed columns to fill.
        limits: bounds.

    Cost: about 0.5 ms, and then a third of the fast road's for each event.
    """
    body = _joined(parts)
    placed = _Places(len(body.starts), columns)
    if not _spelled(body, placed) or not placed.in_range():
        return None
    return _Cutter(body, placed).columns(tenant, now_us, limits)


def _joined(parts: Sequence[Split]) -> _Body:
    padded = b"".join([*(part.body for part in parts), bytes(WORD)])
    letters = np.frombuffer(padded, np.uint8)
    if len(parts) == 1:
        return _Body(padded, letters, parts[0].starts, parts[0].ends)
    begins = np.cumsum([0, *(len(part.body) for part in parts[:-1])])
    placed = list(zip(parts, begins, strict=True))
    starts = np.concatenate([part.starts + begin for part, begin in placed])
    ends = np.concatenate([part.ends + begin for part, begin in placed])
    return _Body(padded, letters, starts, ends)


class _Places:
    """Where each column's values stand; -1 as the start of one that an event has not."""

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


def _spelled(body: _Body, placed: _Places) -> bool:
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
    spelling: Spelling, body: _Body, quotes: _Quotes, left: Positions, placed: _Places
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


class _Cutter:
    """Cuts columns out of a body."""

    def __init__(self, body: _Body, placed: _Places) -> None:
        self._body = body
        self._placed = placed
        self._buffer = pa.py_buffer(body.padded)
        self._count = len(body.starts)
        self._every_other = np.arange(0, 2 * self._count, 2, dtype=np.int32)
        self._all = pa.array(self._every_other)

    def columns(self, tenant: str, now_us: int, limits: AcceptLimits) -> Alike | None:
        """Return the events as columns; None where an attribute needs a closer look."""
        ids, sources, types, subjects = (self._cut(row) for row in range(TIME))
        stamped = self._placed.starts[TIME] < 0
        times = self._times(stamped, now_us)
        kinds = hashes_of(types)
        latest_us = now_us + limits.future_seconds_max * SECOND_US
        if times is None or times.max() > latest_us or bool((kinds == _UNPARSED).any()):
            return None
        datas, exts, rests = self._contents()
        keys = keys_array(named_identities(tenant, sources, ids))
        sent = np.where(stamped, UNSENT, times)
        hashes = mixed_hashes(keys, kinds, hashes_of(subjects), sent, digests_of(rests))
        typed, rounded = self._typed()
        flags = np.zeros(self._count, np.int32)
        flags[rounded] = ROUNDED
        high, low = np.ascontiguousarray(keys.view(np.int64).T)
        arrays = [
            pa.repeat(tenant, self._count), sources, ids, types, subjects, pa.array(times),
            pa.array(np.full(self._count, now_us)), exts, datas,
            pa.nulls(self._count, pa.string()), pa.array(flags), pa.array(high), pa.array(low),
            pa.array(hashes), *typed,
        ]  # fmt: skip
        batch = pa.RecordBatch.from_arrays(arrays, schema=batch_schema(self._placed.columns))
        return Alike(batch, int((self._placed.ends[DATA] - self._placed.starts[DATA]).sum()))

    def _cut(self, row: int, inside: int = 0) -> Any:
        """Return the texts of one column; NULL where an event has none.

        Args:
            row: of the places.
            inside: how many bytes to leave off at both ends.
        """
        starts, ends = self._placed.starts[row], self._placed.ends[row]
        absent = starts < 0
        taken: pa.Array[Any] = self._all
        offsets = np.empty(2 * self._count, np.int32)
        offsets[0::2] = starts + inside
        offsets[1::2] = ends - inside
        if absent.any():
            taken = pa.array(self._every_other, mask=absent)
            offsets.reshape(-1, 2)[absent] = self._body.starts[absent, None]
        buffers = [None, pa.py_buffer(offsets.data), self._buffer]
        return pa.Array.from_buffers(pa.string(), 2 * self._count - 1, buffers).take(taken)

    def _times(self, stamped: "npt.NDArray[np.bool_]", now_us: int) -> Positions | None:
        times = np.full(self._count, now_us)
        if stamped.all():
            return times
        texts = self._cut(TIME).drop_null()
        found = instants(texts)
        singly = instants_singly(texts.to_pylist()) if found is None else found
        if singly is None:
            return None
        times[~stamped] = singly
        return times

    def _contents(self) -> "tuple[pa.Array[Any], pa.Array[Any], pa.Array[Any]]":
        """Return the data, the other attributes, and what is hashed of both together."""
        datas, declared = self._cut(DATA), self._placed.declared
        if datas.null_count:
            datas = datas.fill_null("null")
        if not declared.any():
            return datas, pa.nulls(self._count, pa.string()), datas
        exts = pa.array([JSON_EXT if told else None for told in declared.tolist()], pa.string())
        return datas, exts, joined_texts(exts.fill_null(""), datas)

    def _typed(self) -> "tuple[list[pa.Array[Any]], list[int]]":
        arrays: list[pa.Array[Any]] = []
        rounded: list[int] = []
        for number, column in enumerate(self._placed.columns.columns):
            array, rows = self._typed_column(column, DATA + 1 + number)
            arrays.append(array)
            rounded += rows
        return arrays, rounded

    def _typed_column(self, column: Column, row: int) -> "tuple[pa.Array[Any], list[int]]":
        starts = self._placed.starts[row]
        letters = self._body.letters[starts[starts >= 0]]
        quoted = bool((letters == _QUOTE).all())
        if not quoted and not _DIGITS[letters].all():
            cells = self._cells(row)
            return number_array(cells) if column.numeric else (text_array(cells), [])
        texts = self._cut(row, int(quoted))
        if not column.numeric:
            return texts, []
        whole = None if quoted else whole_numbers(texts)
        return numbers_of(texts) if whole is None else (whole, [])

    def _cells(self, row: int) -> list[bytes | None]:
        body = self._body.padded
        starts, ends = self._placed.starts[row].tolist(), self._placed.ends[row].tolist()
        places = zip(starts, ends, strict=True)
        return [None if start < 0 else body[start:end] for start, end in places]
