"""From log rows to one lake commit: fill, judge, count. Pure.

Source: DECISIONS 8, 9, 11, 33.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tallybook.kernel.errors import Corrupt
from tallybook.kernel.jsonpath import column_path
from tallybook.meter.usage import Counters
from tallybook.store.dedupe import I64, Mask, Verdict
from tallybook.store.ports import LogPosition
from tallybook.store.schema import FIXED, typed_field, typed_names
from tallybook.transport.codec import decode
from tallybook.transport.columns import ROUNDED, ColumnSet, typed_arrays
from tallybook.transport.identity import Keys, hashes_array, identity, keys_array
from tallybook.transport.ports import LogRow
from tallybook.transport.rows import batch_schema


def all_columns(wanted: Iterable[str], present: Iterable[str]) -> ColumnSet:
    """Return the typed columns of the next commit: those of meters and those of the table."""
    return ColumnSet({name: column_path(name) for name in sorted({*wanted, *present})})


def read_row(row: LogRow, position: LogPosition, columns: ColumnSet) -> pa.Table:
    """Return a log row's events with every typed column and where they came from.

    A row that fails its checksum or cannot be read becomes as many quarantined pieces as it
    held events, so that none of them leaves the accounts (DECISIONS 33).
    """
    table = None
    if row.payload is not None:
        try:
            table = fill(decode(row.payload), columns)
        except Corrupt:
            table = None
    if table is None or table.num_rows != row.events:
        table = fill(_lost(row, position), columns)
    return _placed(table, row.offset, position)


def fill(table: pa.Table, columns: ColumnSet) -> pa.Table:
    """Return the table with exactly these typed columns; missing ones are read from `data`."""
    lacking = {c.name: c.path for c in columns.columns if c.name not in table.schema.names}
    if lacking:
        missing = ColumnSet(lacking)
        readable = pc.if_else(pc.is_valid(table["problem"]), "null", table["data"])
        datas = [str(data).encode() for data in readable.to_pylist()]
        arrays, rounded = typed_arrays(missing, missing.cells(datas))
        table = _flagged(table, rounded)
        for column, array in zip(missing.columns, arrays, strict=True):
            table = table.append_column(typed_field(column.name), array)
    fixed = [name for name in table.schema.names if name in FIXED.names]
    return table.select(fixed + [column.name for column in columns.columns])


def _flagged(table: pa.Table, rounded: set[int]) -> pa.Table:
    if not rounded:
        return table
    flags = table["flags"].to_numpy().copy()
    flags[list(rounded)] |= ROUNDED
    at = table.schema.get_field_index("flags")
    return table.set_column(at, FIXED.field("flags"), pa.array(flags, pa.int32()))


def _lost(row: LogRow, position: LogPosition) -> pa.Table:
    source = f"tallybook:log/{position.epoch}/{position.partition}"
    ids = [f"{row.offset}/{index}" for index in range(row.events)]
    digests = [identity("", source, event_id, quarantined=True) for event_id in ids]
    keys = keys_array(digests).view(np.int64)
    message = "corrupt-log-row: the stored batch fails its checksum; senders must send it again"
    count = row.events
    arrays = {
        "tenant": ["default"] * count,
        "source": [source] * count,
        "id": ids,
        "type": [""] * count,
        "subject": [None] * count,
        "time_us": [row.appended_us] * count,
        "received_us": [row.appended_us] * count,
        "ext": [None] * count,
        "data": ["null"] * count,
        "problem": [message] * count,
        "flags": [0] * count,
        "id_hi": keys[:, 0],
        "id_lo": keys[:, 1],
        "row_hash": hashes_array([digest[:8] for digest in digests]),
    }
    return pa.table(arrays, schema=batch_schema(ColumnSet({})))


def _placed(table: pa.Table, offset: int, position: LogPosition) -> pa.Table:
    count = table.num_rows
    placed: dict[str, pa.Array[Any]] = {
        "partition": pa.array(np.full(count, position.partition, dtype=np.int32)),
        "log_epoch": pa.repeat(pa.scalar(position.epoch), count),
        "log_offset": pa.array(np.full(count, offset, dtype=np.int64)),
    }
    for name, array in placed.items():
        table = table.append_column(FIXED.field(name), array)
    return table


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that is ready to be committed.

    Attributes:
        rows: what is stored, with `commit_seq`.
        keys, row_hash: their identities and contents, for the index.
        counters: totals since ever of every tenant of the batch.
        conflicts: duplicates whose content differs from the first.
    """

    rows: pa.Table
    keys: Keys
    row_hash: I64
    counters: Mapping[str, Counters]
    conflicts: pa.Table


def judge_batch(
    batch: pa.Table,
    seq: int,
    look_up: Callable[[Keys, I64], Verdict],
    before: Callable[[str], Counters],
) -> Judged:
    """Return what of a batch is new, with the counters after it.

    Args:
        batch: as `read_row` gives it, in log order.
        seq: number of the commit that will hold it.
        look_up: the duplicate index, read only.
        before: totals of a tenant up to here.
    """
    keys = _keys(batch)
    row_hash = batch["row_hash"].to_numpy()
    verdict = look_up(keys, row_hash)
    new = verdict.order[verdict.new[verdict.order]]
    stored = batch.filter(pa.array(verdict.new)) if len(new) < batch.num_rows else batch
    seqs = pa.array(np.full(stored.num_rows, seq, dtype=np.int64))
    stored = stored.append_column(FIXED.field("commit_seq"), seqs)
    stored = stored.select([*FIXED.names, *typed_names(stored.schema)])
    return Judged(
        rows=stored,
        keys=keys[new],
        row_hash=row_hash[new],
        counters=_count(batch, verdict, before),
        conflicts=batch.filter(pa.array(verdict.conflict)),
    )


def _keys(table: pa.Table) -> Keys:
    hi = table["id_hi"].to_numpy().view(np.uint64)
    lo = table["id_lo"].to_numpy().view(np.uint64)
    return np.column_stack([hi, lo])


def _count(
    batch: pa.Table, verdict: Verdict, before: Callable[[str], Counters]
) -> dict[str, Counters]:
    codes = batch["tenant"].combine_chunks().dictionary_encode()
    indices = codes.indices.to_numpy()
    bad = pc.is_valid(batch["problem"]).to_numpy()
    found: dict[str, Counters] = {}
    for index, tenant in enumerate(map(str, codes.dictionary.to_pylist())):
        mine: Mask = indices == index
        found[tenant] = _add(
            before(tenant),
            Counters(
                received=int(mine.sum()),
                accepted=int((mine & verdict.new & ~bad).sum()),
                duplicate=int((mine & ~verdict.new).sum()),
                quarantined=int((mine & verdict.new & bad).sum()),
                id_conflict=int((mine & verdict.conflict).sum()),
            ),
        )
    return found


def _add(a: Counters, b: Counters) -> Counters:
    total = Counters(
        received=a.received + b.received,
        accepted=a.accepted + b.accepted,
        duplicate=a.duplicate + b.duplicate,
        quarantined=a.quarantined + b.quarantined,
        id_conflict=a.id_conflict + b.id_conflict,
    )
    assert total.received == total.accepted + total.duplicate + total.quarantined
    return total


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all tables, in order."""
    return pa.concat_tables(tables)
