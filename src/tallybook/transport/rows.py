"""Checked events on their way into one log row, as plain lists, one entry an event."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from tallybook.transport.columns import ROUNDED, ColumnSet, typed_arrays
from tallybook.transport.identity import UNSENT, Keys, identities, keys_array, row_hashes
from tallybook.transport.shape import Cell

_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("tenant", pa.string(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
    pa.field("id", pa.string(), nullable=False),
    pa.field("type", pa.string(), nullable=False),
    pa.field("subject", pa.string()),
    pa.field("time_us", pa.int64(), nullable=False),
    pa.field("received_us", pa.int64(), nullable=False),
    pa.field("ext", pa.string()),
    pa.field("data", pa.string(), nullable=False),
    pa.field("problem", pa.string()),
    pa.field("flags", pa.int32(), nullable=False),
    pa.field("id_hi", pa.int64(), nullable=False),
    pa.field("id_lo", pa.int64(), nullable=False),
    pa.field("row_hash", pa.int64(), nullable=False),
]
BASE = pa.schema(_FIELDS)
"""Columns of a log row that every event has.

tenant, source, id, type: text. subject: text or NULL (nobody). time_us, received_us: microseconds
UTC. ext: JSON object of all other attributes, NULL for none. data: the JSON text as received.
problem: 'code: message' where the piece is quarantined, else NULL. flags: bits of
`transport.columns`. id_hi, id_lo: identity. row_hash: 63 bits of identity and content.
"""


class Rows:
    """Events of one or more requests, ready to be encoded together.

    Every list has one entry an event; `cells` has one such list per column of `columns`.
    """

    __slots__ = (
        "cells", "columns", "datas", "exts", "ids", "problems", "received", "sources",
        "stamped", "subjects", "tenants", "times", "types",
    )  # fmt: skip

    def __init__(self, columns: ColumnSet) -> None:
        """Start empty."""
        self.columns = columns
        self.tenants: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.types: list[str] = []
        self.subjects: list[str | None] = []
        self.times: list[int] = []
        self.stamped: list[bool] = []
        self.received: list[int] = []
        self.exts: list[str | None] = []
        self.datas: list[bytes] = []
        self.problems: list[str | None] = []
        self.cells: list[list[Cell]] = [[] for _ in columns.columns]

    def __len__(self) -> int:
        """Return how many events there are."""
        return len(self.ids)

    @property
    def data_bytes(self) -> int:
        """How many bytes of data the events carry."""
        return sum(map(len, self.datas))

    def extend(self, other: "Rows") -> None:
        """Take over the events of another request; both must have the same columns."""
        assert self.columns is other.columns, "rows of two column sets cannot share a batch"
        for name in self.__slots__:
            if name not in {"cells", "columns"}:
                getattr(self, name).extend(getattr(other, name))
        for mine, theirs in zip(self.cells, other.cells, strict=True):
            mine.extend(theirs)

    def reorder(self, places: Sequence[int]) -> None:
        """Move each event to a place of its own: the first of them to `places[0]`, and so on."""
        order = sorted(range(len(places)), key=places.__getitem__)
        for name in self.__slots__:
            if name not in {"cells", "columns"}:
                setattr(self, name, [getattr(self, name)[at] for at in order])
        self.cells = [[cells[at] for at in order] for cells in self.cells]

    def to_batch(self) -> pa.RecordBatch:
        """Return the events as Arrow columns: `BASE` and then the typed columns."""
        typed, rounded = typed_arrays(self.columns, self.cells)
        flags = np.zeros(len(self), dtype=np.int32)
        flags[list(rounded)] = ROUNDED
        digests = self._identities()
        identified = keys_array(digests)
        keys = identified.view(np.int64)
        arrays: list[pa.Array[Any]] = [
            pa.array(self.tenants, pa.string()),
            pa.array(self.sources, pa.string()),
            pa.array(self.ids, pa.string()),
            pa.array(self.types, pa.string()),
            pa.array(self.subjects, pa.string()),
            pa.array(self.times, pa.int64()),
            pa.array(self.received, pa.int64()),
            pa.array(self.exts, pa.string()),
            pa.array(self.datas, pa.binary()).cast(pa.string()),
            pa.array(self.problems, pa.string()),
            pa.array(flags),
            pa.array(np.ascontiguousarray(keys[:, 0])),
            pa.array(np.ascontiguousarray(keys[:, 1])),
            pa.array(self._row_hashes(identified)),
        ]
        return pa.RecordBatch.from_arrays(arrays + typed, schema=batch_schema(self.columns))

    def _identities(self) -> list[bytes]:
        bad = [problem is not None for problem in self.problems]
        return identities(self.tenants, self.sources, self.ids, bad)

    def _row_hashes(self, keys: Keys) -> "np.typing.NDArray[np.int64]":
        sent = np.array(self.times, dtype=np.int64)
        if any(self.stamped):
            sent[np.array(self.stamped)] = UNSENT
        rests: Sequence[bytes] = self.datas
        if any(self.exts):
            both = zip(self.exts, self.datas, strict=True)
            rests = [data if ext is None else ext.encode() + data for ext, data in both]
        return row_hashes(keys, self.types, self.subjects, sent, rests)


def batch_schema(columns: ColumnSet) -> pa.Schema:
    """Return the Arrow schema of a log row that carries these typed columns."""
    return _schema(tuple((column.name, column.numeric) for column in columns.columns))


@lru_cache(maxsize=64)
def _schema(typed: tuple[tuple[str, bool], ...]) -> pa.Schema:
    schema = BASE
    for name, numeric in typed:
        schema = schema.append(pa.field(name, pa.decimal128(38, 12) if numeric else pa.string()))
    return schema
