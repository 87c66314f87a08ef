"""The accepted events of the lake in the order they are routed.

The order within a commit is that of the log: partition, offset, and the sender's own order within
a request. A compaction forgets the latter; from then on event time and identity take its place.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tallybook.adapters.delta.event_table import DeltaEventTable
from tallybook.kernel.errors import Corrupt, Unavailable
from tallybook.route.ports import Slice
from tallybook.route.record import DONE, Place, Record
from tallybook.store.compact import sharing_commits
from tallybook.store.dedupe import I64
from tallybook.store.ports import LakeFile

SLICE_ROWS = 20_000
"""Records of one step: bounds how long consumers wait for the router's transaction."""
_LOG = ["commit_seq", "partition", "log_offset"]
_KEYS = [*_LOG, "time_us", "id_hi", "id_lo"]
_TEXTS = ["tenant", "id", "source", "type", "subject", "ext", "data"]
_MORE = ["received_us"]


class LakeRecords:
    """`CommittedRecords` on the lake.

    Args:
        table: the event table; it is refreshed by `head`.
    """

    def __init__(self, table: DeltaEventTable) -> None:
        """Use an open table."""
        self._table = table

    def head(self) -> int:
        """Return the newest commit's number."""
        return self._table.head()

    def read(self, after: Place, upto_seq: int, tenants: Sequence[str]) -> Iterator[Slice]:
        """Yield what came after a place, up to and including a commit."""
        first = after.commit_seq + 1 if after.row >= DONE else after.commit_seq
        files = [f for f in self._table.files() if f.seq_max >= first and f.seq_min <= upto_seq]
        for group in sharing_commits(files):
            yield from _slices(*self._rows(group, first, upto_seq, tenants), after)
        yield Slice((), Place(upto_seq, DONE))

    def _rows(
        self, files: Sequence[LakeFile], first: int, last: int, tenants: Sequence[str]
    ) -> "tuple[I64, pa.Table]":
        """Return the places of the wanted rows, shape (n, 2), and the rows, in order."""
        paths = [f.path for f in files]
        by = _LOG if all(f.seq_min == f.seq_max for f in files) else _KEYS
        try:
            keys = _concat(paths, [*_KEYS, "tenant", "problem"], first, last)
            keys = keys.take(_order(keys, by))
            wanted = pc.and_(
                pc.is_in(keys["tenant"], value_set=pa.array(tenants, pa.string())),
                pc.is_null(keys["problem"]),
            )
            places = _places(keys["commit_seq"].to_numpy())[wanted.to_numpy()]
            rows = _concat(paths, [*_KEYS, *_TEXTS, *_MORE, "problem"], first, last, tenants)
            rows = rows.filter(pc.is_null(rows["problem"]))
            rows = rows.take(_order(rows, by))
        except FileNotFoundError as error:
            message = "lake files were replaced while they were read; they are read again"
            raise Unavailable(message, code="lake-moved") from error
        except OSError as error:
            raise Unavailable(f"lake: {error}") from error
        except pa.ArrowInvalid as error:
            raise Corrupt(f"lake: {error}") from error
        assert len(places) == rows.num_rows, "both readings are of the same files"
        return places, rows


def _concat(
    paths: Sequence[str], columns: list[str], first: int, last: int, tenants: Sequence[str] = ()
) -> pa.Table:
    rows: Any = (pc.field("commit_seq") >= first) & (pc.field("commit_seq") <= last)
    if tenants:
        rows = rows & pc.field("tenant").isin(list(tenants))
    read = [pq.read_table(p, columns=columns, filters=rows, partitioning=None) for p in paths]
    return pa.concat_tables(read)


def _order(rows: pa.Table, by: Sequence[str]) -> "pa.Array[Any]":
    """Return the rows' indices in the order of records; rows that are equal stay as they are."""
    keys = [rows[name].to_numpy() for name in reversed(by)]
    return pa.array(np.lexsort(keys))


def _places(seqs: I64) -> I64:
    """Return commit and number of the row within it, after which each row is done."""
    starts = np.searchsorted(seqs, seqs, side="left")
    return np.column_stack([seqs, np.arange(len(seqs)) - starts + 1]).astype(np.int64)


def _slices(places: I64, rows: pa.Table, after: Place) -> Iterator[Slice]:
    done = (places[:, 0] == after.commit_seq) & (places[:, 1] <= after.row)
    done |= places[:, 0] < after.commit_seq
    skip = int(done.sum())
    for start in range(skip, len(places), SLICE_ROWS):
        part = rows.slice(start, SLICE_ROWS)
        seq, row = places[start + part.num_rows - 1]
        yield Slice(_records(part), Place(int(seq), int(row)))


def _records(rows: pa.Table) -> list[Record]:
    hi, lo = rows["id_hi"].to_numpy(), rows["id_lo"].to_numpy()
    keys = np.column_stack([hi, lo]).astype(">i8").tobytes()
    wanted = [*_TEXTS, "time_us", "received_us", "commit_seq"]
    columns = [rows[column].to_pylist() for column in wanted]
    return [
        Record(
            tenant=tenant, id=name, source=source, type=kind, subject=subject, ext=ext, data=data,
            time_us=time_us, received_us=received_us, commit_seq=seq,
            key=keys[16 * at : 16 * at + 16],
        )
        for at, (tenant, name, source, kind, subject, ext, data, time_us, received_us, seq)
        in enumerate(zip(*columns, strict=True))
    ]  # fmt: skip
