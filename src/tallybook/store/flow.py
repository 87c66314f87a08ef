"""The pump: read the log, find duplicates, commit to the lake, remember, and only then trim.

The order is the guarantee (DECISIONS 9). Each stop says what is done again after it:

1. read log          nothing happened yet
2. find duplicates   the index is only read
3. ONE lake commit   rows, offsets, counters; a crash before it repeats 1 and 2
4. put the index     a crash before it: the index catches up from the lake on start
5. trim the log      a crash before it: the rows stay until the next trim
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec
import pyarrow as pa

from tallybook.kernel.errors import Corrupt, TallybookError, Unavailable
from tallybook.store.commit import Judged, all_columns, concat, judge_batch, read_rows
from tallybook.store.ports import Commit, DuplicateIndex, EventTable, KeyReader, LogPosition
from tallybook.transport.codec import unpacked_bytes
from tallybook.transport.columns import ColumnSet
from tallybook.transport.ports import EventLog, LogRow

READ_ROWS_MAX = 64
READ_BYTES_MAX = 8 * 1024 * 1024
"""Of packed log rows that are read at a time, but for one that is larger."""
COMMIT_EVENTS_MAX = 200_000
"""Most events of a commit; what is stored of a full one is large enough to be left unmerged."""
COMMIT_BYTES_MAX = 64 * 1024 * 1024
"""Of unpacked columns, but for the last row of each partition; a step needs a small multiple of it
as memory, however large events are. It ends a commit before `COMMIT_EVENTS_MAX` does where events
have more than 335 bytes unpacked."""


class Pumped(msgspec.Struct, frozen=True, kw_only=True):
    """What one commit did.

    Attributes:
        seq: its number.
        received: events read from the log.
        stored: rows written.
        conflicts: duplicates whose content differs from the first, as log rows.
        more: whether the log holds more than fitted.
    """

    seq: int
    received: int
    stored: int
    conflicts: pa.Table
    more: bool


def catch_up(index: DuplicateIndex, lake: KeyReader) -> int:
    """Bring an index that is behind up to the lake; return how many commits it read."""
    commits = 0
    for seq, keys, row_hash in lake.keys_after(index.covered()):
        index.put(seq, keys, row_hash)
        commits += 1
    return commits


def pump_once(
    partitions: Mapping[LogPosition, EventLog],
    table: EventTable,
    index: DuplicateIndex,
    columns: ColumnSet,
    park: Callable[[LogPosition, LogRow], None] | None = None,
    unreadable: Callable[[LogPosition, TallybookError], None] | None = None,
) -> Pumped | None:
    """Move what the log holds into the lake, in one commit; None where there is nothing.

    Args:
        partitions: every partition, by epoch and number.
        table: the lake; this process is its only appender.
        index: covers the lake's head.
        columns: typed columns of the next commit, a superset of the table's.
        park: called with each row that fails its checksum, before its events are committed as
            quarantined (DECISIONS 33).
        unreadable: called with a partition that cannot be read, and why; the others go on.
            Without it the failure is raised.

    Raises:
        Corrupt: the index is ahead of the lake.

    Guarantees:
        Every event of the rows read changes the lake exactly once, whatever is killed when.
    """
    seq = table.head() + 1
    if index.covered() >= seq:
        message = "the duplicate index knows commits that the lake has not; was the lake restored?"
        raise Corrupt(f"{message} Remove the folder lake/index: it is built again from the lake")
    assert index.covered() == seq - 1, "the index must cover the lake before the next commit"
    logs = _guarded(partitions, unreadable)
    tables, offsets, more = _read(logs, table, columns, park)
    if not offsets:
        return None
    judged = judge_batch(concat(tables), seq, index.judge, table.counters)
    table.append(judged.rows, Commit(seq=seq, offsets=offsets, counters=judged.counters))
    index.put(seq, judged.keys, judged.row_hash)
    return _report(seq, tables, judged, more=more)


_Read = Callable[[int], list[LogRow]]


def _guarded(
    partitions: Mapping[LogPosition, EventLog],
    unreadable: Callable[[LogPosition, TallybookError], None] | None,
) -> dict[LogPosition, _Read]:
    """Return how to read each partition, in order; one that fails reads as if it had no more."""

    def guarded(position: LogPosition, log: EventLog) -> _Read:
        def read(after: int) -> list[LogRow]:
            try:
                return log.read(after, READ_ROWS_MAX, READ_BYTES_MAX)
            except (Corrupt, Unavailable) as error:
                if unreadable is None:
                    raise
                unreadable(position, error)
                return []

        return read

    return {position: guarded(position, log) for position, log in sorted(partitions.items())}


def _read(
    partitions: Mapping[LogPosition, _Read],
    table: EventTable,
    columns: ColumnSet,
    park: Callable[[LogPosition, LogRow], None] | None,
) -> tuple[list[pa.Table], dict[LogPosition, int], bool]:
    tables: list[pa.Table] = []
    offsets: dict[LogPosition, int] = {}
    more = False
    parts = max(1, len(partitions))
    for position, read in partitions.items():
        events, size, full, at = 0, 0, False, table.offset(position)
        while not full:
            rows = read(at)
            taken: list[LogRow] = []
            for row in rows:
                if row.payload is None and park is not None:
                    park(position, row)
                taken.append(row)
                at = offsets[position] = row.offset
                events += row.events
                size += unpacked_bytes(row.payload)
                full = events * parts >= COMMIT_EVENTS_MAX or size * parts >= COMMIT_BYTES_MAX
                if full:
                    break
            if taken:
                tables.append(read_rows(taken, position, columns))
            if len(rows) < READ_ROWS_MAX and _packed_bytes(rows) < READ_BYTES_MAX:
                break
        more = more or full
    return tables, offsets, more


def _packed_bytes(rows: Iterable[LogRow]) -> int:
    """Return how many bytes rows may have had in the log: a damaged one, as many as are read."""
    return sum(READ_BYTES_MAX if row.payload is None else len(row.payload) for row in rows)


def _report(seq: int, tables: Iterable[pa.Table], judged: Judged, *, more: bool) -> Pumped:
    return Pumped(
        seq=seq,
        received=sum(t.num_rows for t in tables),
        stored=judged.rows.num_rows,
        conflicts=judged.conflicts,
        more=more,
    )


def next_columns(meter_columns: Iterable[str], table_columns: Iterable[str]) -> ColumnSet:
    """Return the typed columns of the next commit; a column, once made, stays for good."""
    return all_columns(meter_columns, table_columns)
