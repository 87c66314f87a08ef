"""Which lake files to merge, and into what order: pure (DECISIONS 12)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tallybook.kernel.timestamps import DAY_US
from tallybook.store.commit import fill
from tallybook.store.ports import LakeFile
from tallybook.transport.columns import ColumnSet

FANOUT = 8
FILE_ROWS_MAX = 500_000
"""Most rows of a merge: bounds the memory of one compaction. Half as many are left alone."""
PIECE_ROWS = 200_000
"""Rows of a merge that are put in order at a time."""
FILE_BYTES_MAX = 256 * 1024 * 1024
"""Most bytes of a merge, for large events; half as many are left alone."""


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
        large = _large([part])
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
    for file in files:
        if sharing and file.seq_min > max(f.seq_max for f in sharing):
            yield sharing
            sharing = []
        sharing.append(file)
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
    return len(run) >= FANOUT or (len(run) > 1 and _large(run))


def _large(parts: Sequence[_Part]) -> bool:
    rows, size = sum(p.rows for p in parts), sum(p.bytes for p in parts)
    return rows >= FILE_ROWS_MAX // 2 or size >= FILE_BYTES_MAX // 2


def clustered(tables: Sequence[pa.Table], columns: ColumnSet) -> Iterator[pa.Table]:
    """Yield the rows of all tables with every typed column, by tenant, day, type, subject, time.

    So a query for one customer and month reads few row groups.

    Cost: memory is the tables, the columns they are sorted by, and a piece of `PIECE_ROWS`.
    """
    rows = pa.concat_tables([fill(table, columns) for table in tables])
    order = ["tenant", "event_day", "type", "subject", "time_us", "source", "id"]
    days = pa.array(rows["time_us"].to_numpy() // DAY_US)
    keys = rows.append_column("event_day", days).select(order)
    indices = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in order])
    for at in range(0, max(1, len(indices)), PIECE_ROWS):
        yield rows.take(indices.slice(at, PIECE_ROWS))
