"""Which lake files to merge, and into what order: pure (DECISIONS 12)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tallybook.kernel.timestamps import DAY_US
from tallybook.store.commit import fill
from tallybook.store.dedupe import I64
from tallybook.store.ports import LakeFile
from tallybook.store.schema import FIXED
from tallybook.transport.columns import ColumnSet

FANOUT = 8
FILE_ROWS_MAX = 200_000
"""Most rows of a merge: bounds the memory of one compaction. Half as many are left alone."""
PIECE_ROWS = 100_000
"""Rows of a merge that are put in order at a time, and become a row group."""
FILE_BYTES_MAX = 32 * 1024 * 1024
"""Most bytes of a merge, for large events; half as many are left alone. They unpack to much more:
to ten times as many, or, where events hardly differ, to forty."""
_BULK = ("id", "data")
_TEXTS = [f.name for f in FIXED if f.type == pa.string() and f.name not in _BULK]
_REPEATS_MIN = 16
"""How often the values of a column occur, on average, for codes to be worth their dictionary."""


class _Part(NamedTuple):
    """Files that share commits; a merge takes all of them or none, for it replaces commits."""

    files: tuple[LakeFile, ...]
    rows: int
    bytes: int


def next_merge(files: Sequence[LakeFile]) -> list[LakeFile]:
    """Return neighbouring small files to be merged into one, or none.

    Size classes grow by `FANOUT`, so a row is rewritten a logarithmic number of times. No file
    that is left out shares a commit with one that is taken.

    Args:
        files: live files, by commit.
    """
    best: list[_Part] = []
    run: list[_Part] = []
    for part in map(_part, sharing_commits(files)):
        large = _large(part.rows, part.bytes)
        grows = run and part.rows * FANOUT < max(p.rows for p in run)
        if large or grows or not _fits([*run, part]):
            best = _longer(best, run)
            run = []
        if not large:
            run.append(part)
    return [file for part in _longer(best, run) for file in part.files]


def sharing_commits(files: Sequence[LakeFile]) -> Iterator[list[LakeFile]]:
    """Yield the files in groups of which no two share a commit.

    Args:
        files: by commit.
    """
    sharing: list[LakeFile] = []
    last = 0
    for file in files:
        if sharing and file.seq_min > last:
            yield sharing
            sharing = []
        sharing.append(file)
        last = max(last, file.seq_max)
    if sharing:
        yield sharing


def _part(files: Sequence[LakeFile]) -> _Part:
    return _Part(tuple(files), sum(f.rows for f in files), sum(f.bytes for f in files))


def _fits(run: Sequence[_Part]) -> bool:
    rows, size = sum(p.rows for p in run), sum(p.bytes for p in run)
    return rows <= FILE_ROWS_MAX and size <= FILE_BYTES_MAX


def _longer(best: list[_Part], run: list[_Part]) -> list[_Part]:
    return run if _worth(run) and len(run) > len(best) else best


def _worth(run: Sequence[_Part]) -> bool:
    """Whether a merge is due: of many files, or of some that become one to be left alone."""
    if len(run) < FANOUT:
        return len(run) > 1 and _large(sum(p.rows for p in run), sum(p.bytes for p in run))
    return True


def _large(rows: int, size: int) -> bool:
    """Whether files of so many rows and bytes are left alone."""
    return rows >= FILE_ROWS_MAX // 2 or size >= FILE_BYTES_MAX // 2


def repeating(columns: ColumnSet) -> list[str]:
    """Return the text columns that a merge handles as codes: all but those of bulk."""
    return [*_TEXTS, *(column.name for column in columns.columns if not column.numeric)]


def clustered(tables: Iterable[pa.Table], columns: ColumnSet) -> Iterator[pa.Table]:
    """Yield the rows of all tables with every typed column, by tenant, day, type, subject, time.

    So a query for one customer and month reads few row groups. Rows that are equal in all of that
    stay in the order of the tables.

    Args:
        tables: by commit; cheapest where the columns `repeating` have codes already, as a reader
            of Parquet gives them.
        columns: typed columns of the result.

    Returns:
        Pieces of `PIECE_ROWS` with one schema; texts that repeat have codes.

    Cost: memory is the tables, one more column while a piece is taken, and the piece.
    """
    rows = pa.concat_tables([_coded(fill(table, columns), columns) for table in tables])
    rows = rows.unify_dictionaries()
    order = _order(rows)
    rows = _texts_again(rows)
    for at in range(0, max(1, len(order)), PIECE_ROWS):
        yield rows.take(order[at : at + PIECE_ROWS])


def _coded(table: pa.Table, columns: ColumnSet) -> pa.Table:
    for name in repeating(columns):
        if not pa.types.is_dictionary(table.schema.field(name).type):
            at = table.schema.get_field_index(name)
            codes = table[name].dictionary_encode()
            table = table.set_column(at, table.schema.field(at).with_type(codes.type), codes)
    return table


def _order(rows: pa.Table) -> I64:
    """Return the rows' indices in the order of `clustered`: a stable sort by small numbers."""
    times = rows["time_us"].to_numpy()
    days = times // DAY_US
    tenants, types, subjects = (_ranks(rows[name]) for name in ("tenant", "type", "subject"))
    order: I64 = np.lexsort((times, subjects, types, days, tenants))
    return order


def _ranks(column: "pa.ChunkedArray[Any]") -> "npt.NDArray[np.unsignedinteger[Any]]":
    """Return the place of every value among all values, nulls last.

    Args:
        column: codes, with the same values in every chunk.
    """
    sorted_places = pc.sort_indices(_values(column)).to_numpy()
    null = len(sorted_places)
    kind = np.uint16 if null < 1 << 16 else np.uint32  # numpy sorts the short ones by counting
    ranks = np.empty(null + 1, dtype=kind)
    ranks[sorted_places] = np.arange(null, dtype=kind)
    ranks[null] = null
    chunks: list[Any] = column.chunks
    parts = [ranks[chunk.indices.fill_null(null).to_numpy()] for chunk in chunks]
    return np.concatenate([np.empty(0, dtype=kind), *parts])


def _values(column: "pa.ChunkedArray[Any]") -> "pa.Array[Any]":
    """Return the values that codes stand for."""
    codes: Any = column.chunk(0) if column.num_chunks else None
    return pa.array([], pa.string()) if codes is None else codes.dictionary


def _texts_again(rows: pa.Table) -> pa.Table:
    """Return rows in which a column that hardly repeats has texts instead of codes."""
    for at, field in enumerate(rows.schema):
        column = rows.column(at)
        if not pa.types.is_dictionary(field.type):
            continue
        if len(_values(column)) * _REPEATS_MIN > rows.num_rows:
            texts = column.cast(field.type.value_type)
            rows = rows.set_column(at, field.with_type(texts.type), texts)
    return rows
