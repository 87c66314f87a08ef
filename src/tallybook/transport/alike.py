"""The road of many events: columns are cut out of the body as it came.

No object is made of an event before its identity is hashed. Where its values stand is found in one
compiled pass that also proves the body to be JSON (`transport.places`), or where that was not
compiled, by comparing events that are spelled alike (`transport.spelled`); compiled column
operations do the rest. This road decides nothing: a body that has anything unusual in it (escapes,
line breaks, extension attributes, an instant of another zone, an attribute that is empty or long)
is left to the other roads. All roads make the same rows.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from tallybook.kernel.event import UNPARSED_TYPE
from tallybook.kernel.timestamps import SECOND_US
from tallybook.transport.accept import JSON_EXT, AcceptLimits, instants, instants_singly
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
from tallybook.transport.places import DATA, TIME, TYPE, Places, joined
from tallybook.transport.rows import batch_schema
from tallybook.transport.spelled.pieces import Pieces, pieces, spelled
from tallybook.transport.spelled.spelling import Positions

EVENTS_MIN = 200
"""Fewer events than this are quicker on the fast road."""

_UNPARSED = np.uint64(xxhash.xxh3_64_intdigest(UNPARSED_TYPE.encode()))
"""As `hashes_of` gives it; by hand, because making an array imports more than a start needs."""
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
    """A request's body, a JSON array, and where its events are.

    Attributes:
        body: without escapes and line breaks.
        events: how many it has.
        columns: that `places` are for.
        places: of all values; None where nothing is compiled.
        pieces: of the events, where nothing is compiled.
    """

    body: bytes
    events: int
    columns: ColumnSet
    places: Places | None = None
    pieces: Pieces | None = None


def split(body: bytes, limits: AcceptLimits, columns: ColumnSet) -> Split | None:
    """Return where the events of a request are; None where another road has to be taken."""
    if len(body) > limits.request_bytes_max:
        return None
    if columns.find is None:
        found = pieces(body, limits)
        return None if found is None else Split(body, len(found.starts), columns, pieces=found)
    places = columns.find(body, limits.request_events_max, limits.event_bytes_max)
    return None if places is None else Split(body, len(places.events), columns, places)


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

    Cost: about 0.5 ms, and then less than a third of the fast road's for each event.
    """
    fresh = [
        part if part.columns is columns else split(part.body, limits, columns) for part in parts
    ]
    kept = [part for part in fresh if part is not None]
    found = _found(kept, columns) if len(kept) == len(parts) else None
    return None if found is None else _Cutter(*found, columns).columns(tenant, now_us, limits)


def usual(part: Split, latest_us: int) -> "npt.NDArray[np.bool_]":
    """Return which events of a request are not left to another road because of time or type.

    Args:
        part: the request, split by the compiled pass.
        latest_us: times after it are beyond the allowed future.
    """
    assert part.places is not None, "events are sifted by the compiled pass alone"
    return _Cutter(part.body, part.places, part.columns).usual(latest_us)


def _found(parts: Sequence[Split], columns: ColumnSet) -> tuple[bytes, Places] | None:
    """Return the bodies behind each other and where their values stand."""
    bodies = [part.body for part in parts]
    placed = [part.places for part in parts if part.places is not None]
    if len(placed) < len(parts):
        return spelled(bodies, [part.pieces for part in parts if part.pieces], columns)
    begins = accumulate(map(len, bodies), initial=0)
    return b"".join(bodies), joined(list(zip(placed, begins, strict=False)))


class _Cutter:
    """Cuts columns out of a body."""

    def __init__(self, body: bytes, placed: Places, columns: ColumnSet) -> None:
        self._body = body
        self._letters = np.frombuffer(body, np.uint8)
        self._placed = placed
        self._columns = columns
        self._buffer = pa.py_buffer(body)
        self._count = len(placed.events)
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
        batch = pa.RecordBatch.from_arrays(arrays, schema=batch_schema(self._columns))
        return Alike(batch, int((self._placed.ends[DATA] - self._placed.starts[DATA]).sum()))

    def usual(self, latest_us: int) -> "npt.NDArray[np.bool_]":
        """Return which events have an ordinary type, and a time that can be read and has come."""
        times = self._times(self._placed.starts[TIME] < 0, 0)
        if times is None:
            singly = [instants_singly([text]) for text in self._cut(TIME).to_pylist()]
            times = np.array([latest_us + 1 if one is None else one[0] for one in singly])
        found: npt.NDArray[np.bool_] = times <= latest_us
        found &= hashes_of(self._cut(TYPE)) != _UNPARSED
        return found

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
            offsets.reshape(-1, 2)[absent] = self._placed.events[absent, None]
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
        for number, column in enumerate(self._columns.columns):
            array, rows = self._typed_column(column, DATA + 1 + number)
            arrays.append(array)
            rounded += rows
        return arrays, rounded

    def _typed_column(self, column: Column, row: int) -> "tuple[pa.Array[Any], list[int]]":
        starts = self._placed.starts[row]
        letters = self._letters[starts[starts >= 0]]
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
        body = self._body
        starts, ends = self._placed.starts[row].tolist(), self._placed.ends[row].tolist()
        places = zip(starts, ends, strict=True)
        return [None if start < 0 else body[start:end] for start, end in places]
