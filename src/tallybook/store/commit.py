"""From log rows to one lake commit: fill, judge, count. Pure.

Source: DECISIONS 8, 9, 11, 33.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
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

CODED = ("tenant", "type")
"""Texts of few values that are asked for again and again on the way: they get codes at once."""


def all_columns(wanted: Iterable[str], present: Iterable[str]) -> ColumnSet:
    """Return the typed columns of the next commit: those of meters and those of the table."""
    return ColumnSet({name: column_path(name) for name in sorted({*wanted, *present})})


def read_rows(rows: Sequence[LogRow], position: LogPosition, columns: ColumnSet) -> pa.Table:
    """Return log rows' events with every typed column and where they came from, in order.

    A row that fails its checksum or cannot be read becomes as many quarantined pieces as it
    held events, so that none of them leaves the accounts (DECISIONS 33).

    Args:
        rows: of one partition, at least one.
        position: the partition.
        columns: typed columns of the result.

    Returns:
        A table in which `CODED` columns have codes.
    """
    tables = [_unpacked(row, position) for row in rows]
    alike = [pa.concat_tables(same) for _, same in groupby(tables, lambda table: table.schema)]
    filled = pa.concat_tables([fill(table, columns) for table in alike])
    return _placed(_coded(filled), rows, position)


def _unpacked(row: LogRow, position: LogPosition) -> pa.Table:
    table = None
    if row.payload is not None:
        with suppress(Corrupt):
            table = decode(row.payload)
    return _lost(row, position) if table is None or table.num_rows != row.events else table


def _coded(table: pa.Table) -> pa.Table:
    for name in CODED:
        at = table.schema.get_field_index(name)
        codes = table[name].dictionary_encode()
        table = table.set_column(at, table.field(at).with_type(codes.type), codes)
    return table


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


def _placed(table: pa.Table, rows: Sequence[LogRow], position: LogPosition) -> pa.Table:
    count = table.num_rows
    offsets = np.array([row.offset for row in rows], dtype=np.int64)
    zeros = np.zeros(count, dtype=np.int32)
    placed: dict[str, pa.Array[Any]] = {
        "partition": pa.array(np.full(count, position.partition, dtype=np.int32)),
        "log_epoch": pa.DictionaryArray.from_arrays(zeros, pa.array([position.epoch])),
        "log_offset": pa.array(np.repeat(offsets, [row.events for row in rows])),
    }
    for name, array in placed.items():
        table = table.append_column(FIXED.field(name).with_type(array.type), array)
    return table


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that is ready to be committed.

    Attributes:
        rows: what is stored, with `commit_seq`; some texts have codes.
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
        batch: as `read_rows` gives it, in log order.
        seq: number of the commit that will hold it.
        look_up: the duplicate index, read only.
        before: totals of a tenant up to here.
    """
    verdict = look_up(_keys(batch), batch["row_hash"].to_numpy())
    some = len(verdict.keys) < batch.num_rows
    stored = batch.filter(pa.array(verdict.new)) if some else batch
    seqs = pa.array(np.full(stored.num_rows, seq, dtype=np.int64))
    stored = stored.append_column(FIXED.field("commit_seq"), seqs)
    stored = stored.select([*FIXED.names, *typed_names(stored.schema)])
    return Judged(
        rows=stored,
        keys=verdict.keys,
        row_hash=verdict.row_hash,
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
    codes: Any = batch["tenant"].dictionary_encode().combine_chunks()
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
    """Return the rows of all tables, in order, with the same codes in all of them."""
    return pa.concat_tables(tables).unify_dictionaries()
