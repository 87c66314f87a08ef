"""Which lake files to merge, and into what order: pure (DECISIONS 12)."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tallybook.kernel.timestamps import DAY_US
from tallybook.store.commit import fill
from tallybook.store.ports import LakeFile
from tallybook.transport.columns import ColumnSet

FANOUT = 8
FILE_ROWS_MAX = 1_000_000
"""Files of this many rows are left alone; also bounds the memory of one compaction."""


def next_merge(files: Sequence[LakeFile]) -> list[LakeFile]:
    """Return neighbouring small files to be merged into one, or none.

    Size classes grow by `FANOUT`, so a row is rewritten a logarithmic number of times.

    Args:
        files: live files, by commit; no two share a commit, or they are taken together.
    """
    best: list[LakeFile] = []
    run: list[LakeFile] = []
    for file in files:
        rows = sum(f.rows for f in run)
        grows = run and file.rows * FANOUT < max(f.rows for f in run)
        if file.rows >= FILE_ROWS_MAX // 2 or rows + file.rows > FILE_ROWS_MAX or grows:
            best = _longer(best, run)
            run = []
        if file.rows < FILE_ROWS_MAX // 2:
            run.append(file)
    return _longer(best, run)


def _longer(best: list[LakeFile], run: list[LakeFile]) -> list[LakeFile]:
    return run if len(run) >= FANOUT and len(run) > len(best) else best


def clustered(tables: Sequence[pa.Table], columns: ColumnSet) -> pa.Table:
    """Return the rows of all tables with every typed column, by tenant, day, type, subject, time.

    So a query for one customer and month reads few row groups.
    """
    rows = pa.concat_tables([fill(table, columns) for table in tables])
    day = pc.floor(pc.divide(pc.cast(rows["time_us"], pa.float64()), float(DAY_US)))
    keyed = rows.append_column("event_day", day)
    order = ["tenant", "event_day", "type", "subject", "time_us", "source", "id"]
    indices = pc.sort_indices(keyed, sort_keys=[(name, "ascending") for name in order])
    return rows.take(indices)
