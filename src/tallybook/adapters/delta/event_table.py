"""The lake's event table as a Delta table.

Offsets, the commit number and the counters are application transactions of the same Delta commit
as the rows, so they are one atomic fact and survive checkpoints and log clean-up. A stale one would
go backward without complaint, so the head is checked here first (DECISIONS 9). A commit's entry is
written here: it is whole before anybody sees it, and costs the same however many files there are.
deltalake does the rest, and does not fsync; so that is done here too, because the log is trimmed by
it.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from tallybook.adapters.delta.table_log import TableLog
from tallybook.kernel.errors import Conflict, Corrupt, Unavailable
from tallybook.meter.usage import Counters
from tallybook.store.compact import sharing_commits
from tallybook.store.dedupe import I64
from tallybook.store.ports import Commit, LakeFile, LogPosition
from tallybook.store.schema import FIXED, typed_names
from tallybook.transport.identity import Keys

CHECKPOINT_ENTRIES = 100
"""Entries of the table's log from one sum of it to the next."""
ORPHAN_HOURS = 24
"""How old a file must be that no commit names before it is deleted."""
_SEQ = "tallybook/commit_seq"
_COUNTS = ("received", "accepted", "duplicate", "quarantined", "id_conflict")
_UNIQUE = ("id", "data", "time_us", "id_hi", "id_lo", "row_hash")
"""Columns whose values hardly repeat: a dictionary of them costs time and space."""
_ASKED = ("tenant", "type", "subject", "time_us", "problem", "commit_seq")
"""Columns by whose bounds a query leaves out parts of a file."""
ROW_GROUP_ROWS = 200_000
"""Rows that are written, and kept in memory as Parquet, at a time."""
_COMPACTION = CommitProperties(custom_metadata={"tallybook": "compaction"})
_SKIPPING = ("tenant", "type", "time_us", "commit_seq")
"""Columns whose bounds the table's log keeps of every file."""
_APPEND = {
    "operation": "WRITE",
    "operationParameters": {"mode": "Append", "partitionBy": "[]"},
    "engineInfo": "tallybook",
}
_CONFIGURATION = {
    "delta.logRetentionDuration": "interval 1 days",
    "delta.deletedFileRetentionDuration": "interval 1 hours",
    "delta.dataSkippingStatsColumns": ",".join(_SKIPPING),
    "delta.checkpointInterval": str(CHECKPOINT_ENTRIES),
}


class DeltaEventTable:
    """`EventTable` and `KeyReader` on a local Delta table.

    Args:
        path: the table's folder, made when absent.

    Raises:
        Unavailable: the folder cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        """Open the table, or make an empty one."""
        self.path = path
        with _translated(path):
            path.mkdir(parents=True, exist_ok=True)
            if not DeltaTable.is_deltatable(str(path)):
                _create(path)
            self._log = TableLog(path)
        # What came up to here is durable, for all this writer knows.
        self._synced = self._log.version
        self._names: frozenset[str] = frozenset()  # columns the table is known to have

    def head(self) -> int:
        """Return the newest commit's number."""
        self.refresh()
        return self._noted(_SEQ)

    def refresh(self) -> None:
        """Take note of commits that other processes made."""
        with _translated(self.path):
            self._log.refresh()

    def version(self) -> int:
        """Return the Delta version last seen; it grows with every append and every rewrite."""
        return self._log.version

    def offset(self, position: LogPosition) -> int:
        """Return the last contained log offset."""
        return self._noted(_offset_id(position))

    def counters(self, tenant: str) -> Counters:
        """Return a tenant's totals."""
        return Counters(**{name: self._noted(_count_id(tenant, name)) for name in _COUNTS})

    def _noted(self, name: str) -> int:
        with _translated(self.path):
            return self._log.number(name)

    def _opened(self) -> DeltaTable:
        """Return deltalake's own view of the table; it is large where there are many files."""
        table = DeltaTable(str(self.path))
        self._log.refresh()
        return table

    def typed_columns(self) -> list[str]:
        """Return the typed columns that the table has."""
        with _translated(self.path):
            return typed_names(_schema(self._opened()))

    def append(self, rows: pa.Table, commit: Commit) -> None:
        """Make one commit, durable on return."""
        self._expect(commit.seq - 1)
        with _translated(self.path):
            path, added = self._path(commit.seq), None
            try:
                self._add_columns(rows.schema)
                if rows.num_rows:
                    added = self._written(path, [rows], rows.num_rows)
                entry = _entry(added, commit)
                self._sync_others()
                while not self._log.enter(entry):  # another writer was first: it merged files
                    self._expect(commit.seq - 1)
                    self._sync_others()
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            self._synced += 1
            self._log.refresh()
            _fsync(self.path / "_delta_log")

    def _expect(self, head: int) -> None:
        found = self.head()
        if found != head:
            raise Conflict(f"lake head is {found}, not {head}: is a second pump at work?")

    def _sync_others(self) -> None:
        """Bring what others committed to stable storage, or ours could outlive what it follows."""
        self._sync_since(self._synced)
        self._synced = self._log.version

    def _sync_since(self, version: int) -> None:
        for later in range(version + 1, self._log.version + 1):
            self._fsync_version(later)

    def _add_columns(self, schema: pa.Schema) -> None:
        """Make the table have every typed column of a commit; one without rows changes nothing."""
        if self._names.issuperset(schema.names):
            return
        table = self._opened()
        present = set(_schema(table).names)
        lacking = [field for field in schema if field.name not in present]
        if lacking:
            table.alter.add_columns(DeltaSchema.from_arrow(pa.schema(lacking)).fields)
            self._log.refresh()
        self._names = frozenset(present.union(schema.names))

    def _path(self, seq: int) -> Path:
        return self.path / f"part-{seq:05d}-{uuid4()}-c000.zstd.parquet"

    def _written(self, path: Path, pieces: Iterable[pa.Table], count: int) -> AddAction:
        """Write so many rows into a file, durable before the commit that names it."""
        bounds = Bounds()
        writer: pq.ParquetWriter | None = None
        for piece in pieces:
            if writer is None:
                writer = pq.ParquetWriter(path, piece.schema, **_parquet(piece.schema.names))
            writer.write_table(piece, row_group_size=ROW_GROUP_ROWS)
            bounds.add(piece)
            del piece  # or it would stay while the next one is made
        if writer is not None:
            writer.close()
        if bounds.rows != count:
            raise Corrupt(f"{bounds.rows} rows are no replacement for the {count} declared")
        _fsync(path)
        _fsync(path.parent)  # its name: a commit must not outlive what it names
        return AddAction(
            path=path.name,
            size=path.stat().st_size,
            partition_values={},
            modification_time=_now_ms(),
            data_change=True,
            stats=bounds.told(),
        )

    def files(self) -> Sequence[LakeFile]:
        """Return the live files, by commit."""
        return self._log.files()

    def replace(self, old: Sequence[LakeFile], rows: Iterable[pa.Table]) -> int:
        """Put rows in the place of whole files; the content must be the same.

        Args:
            old: live files; no other file holds rows of their commits.
            rows: pieces with the same columns, written one after the other.

        Returns:
            How many rows were written.

        Raises:
            Conflict: another writer replaced some of the files meanwhile; try again.
            Corrupt: the pieces do not hold as many rows as the files; nothing happened.
        """
        with _translated(self.path):
            table = self._opened()
            live = {file.path for file in self.files()}
            if any(file.path not in live for file in old):
                raise Conflict("the files to be replaced are no longer part of the lake")
            before, path = self._log.version, self._path(old[0].seq_min)
            try:
                added = self._written(path, rows, sum(file.rows for file in old))
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            table.create_write_transaction(
                actions=[added, *map(_removed, old)],
                mode="append",
                schema=table.schema(),
                commit_properties=_COMPACTION,
            )
            self._log.refresh()
            self._sync_since(before)
        return sum(file.rows for file in old)

    def checkpoint(self, entries: int = CHECKPOINT_ENTRIES) -> bool:
        """Sum up the table's log where so many entries came since that was done; whether it was.

        Opening the table reads what came since; commits leave it to the process that tidies.
        """
        with _translated(self.path):
            if self._log.refresh() - self._log.checkpoint() < entries:
                return False
            self._sum_up(self._opened())
            return True

    def tidy(self, keep_hours: float) -> list[str]:
        """Write a checkpoint, clean the transaction log, delete files that no reader may still use.

        Args:
            keep_hours: how long files stay after they were replaced; longer than any reader runs.

        Returns:
            The files deleted.
        """
        with _translated(self.path):
            table, before = self._opened(), self._log.version
            self._sum_up(table)
            table.cleanup_metadata()
            self._log.sweep(ORPHAN_HOURS)
            deleted: list[str] = table.vacuum(
                retention_hours=int(keep_hours), enforce_retention_duration=False, dry_run=False
            )
            # What a killed commit left was never part of the table; a day is longer than a commit.
            deleted += table.vacuum(
                retention_hours=max(int(keep_hours), ORPHAN_HOURS),
                dry_run=False,
                full=True,
                enforce_retention_duration=False,
            )
            self._log.refresh()
            self._sync_since(before)
            return deleted

    def _sum_up(self, table: DeltaTable) -> None:
        """Write a checkpoint, durable before the entries go that it stands for."""
        table.create_checkpoint()
        log = self.path / "_delta_log"
        for path in log.glob(f"{table.version():020d}.checkpoint*"):
            _fsync(path)
        _fsync(log / "_last_checkpoint")
        _fsync(log)

    def keys_after(self, seq: int) -> Iterator[tuple[int, Keys, I64]]:
        """Yield the identities of every commit after `seq`, in order.

        Cost: every row is read once; memory holds the files that share commits.
        """
        head = self.head()
        done = seq
        for files in sharing_commits([f for f in self.files() if f.seq_max > seq]):
            last = max(f.seq_max for f in files)
            with _translated(self.path):
                rows = _key_rows([f.path for f in files], done)
            for commit in range(done + 1, last + 1):
                yield commit, *_keys(rows, commit)
            done = last
        for commit in range(done + 1, head + 1):
            yield commit, *_keys(_key_rows([], 0), commit)

    def make_durable(self) -> None:
        """Bring the newest commit to stable storage, also where the commit itself failed to.

        Raises:
            Unavailable: the disk refuses.
        """
        with _translated(self.path):
            self._fsync_version(self._log.refresh())

    def _fsync_version(self, version: int) -> None:
        """Bring a commit to stable storage; what is gone was cleaned, or replaced and deleted."""
        entry = self.path / "_delta_log" / f"{version:020d}.json"
        with suppress(FileNotFoundError):
            for line in entry.read_text().splitlines():
                if (added := json.loads(line).get("add")) is not None:
                    with suppress(FileNotFoundError):
                        _fsync(self.path / added["path"])
            _fsync(entry)
        for path in (self.path, entry.parent):
            _fsync(path)


def _schema(table: DeltaTable) -> pa.Schema:
    return pa.schema(table.schema().to_arrow())  # type: ignore[arg-type]  # capsule


def _parquet(names: Sequence[str]) -> dict[str, Any]:
    """Return how a commit's file is written: quickly, without bounds nobody asks for."""
    return {
        "compression": "zstd",
        "compression_level": 1,
        "store_schema": False,  # codes of a merge are a way of writing, not what is stored
        "use_dictionary": [name for name in names if name not in _UNIQUE],
        "write_statistics": list(_ASKED),
    }


class Bounds:
    """What the table's log says of a file, while the file is written.

    Attributes:
        rows: how many so far.
    """

    def __init__(self) -> None:
        """Nothing is written yet."""
        self.rows = 0
        self._least: dict[str, Any] = {}
        self._most: dict[str, Any] = {}

    def add(self, piece: pa.Table) -> None:
        """Take note of more rows; the columns hold no null."""
        self.rows += piece.num_rows
        for name in _SKIPPING if piece.num_rows else ():
            found = _ends(piece[name])
            self._least[name] = min(found["min"], self._least.get(name, found["min"]))
            self._most[name] = max(found["max"], self._most.get(name, found["max"]))

    def told(self) -> str:
        """Return it as Delta spells it."""
        nulls = dict.fromkeys(_SKIPPING, 0)
        told = {"numRecords": self.rows, "minValues": self._least, "maxValues": self._most}
        return json.dumps({**told, "nullCount": nulls})


def _ends(column: "pa.ChunkedArray[Any]") -> dict[str, Any]:
    """Return the least and the greatest value."""
    if pa.types.is_dictionary(column.type):
        column = pc.unique(column).cast(column.type.value_type)
    ends: Any = pc.min_max(column).as_py()
    return {"min": ends["min"], "max": ends["max"]}


def _removed(file: LakeFile) -> RemoveAction:
    return RemoveAction(
        path=Path(file.path).name,
        data_change=False,
        deletion_timestamp=_now_ms(),
        size=file.bytes,
        partition_values={},
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _key_rows(paths: Sequence[str], after: int) -> I64:
    """Return commit, both halves of the identity and the row hash, shape (4, n), by commit."""
    names = ["commit_seq", "id_hi", "id_lo", "row_hash"]
    tables = [pq.read_table(path, columns=names, partitioning=None) for path in paths]
    parts = [np.stack([table[name].to_numpy() for name in names]) for table in tables]
    rows: I64 = np.concatenate(parts, axis=1) if parts else np.empty((4, 0), dtype=np.int64)
    rows = rows[:, rows[0] > after]
    return rows[:, np.argsort(rows[0], kind="stable")]


def _keys(rows: I64, commit: int) -> "tuple[Keys, I64]":
    first, last = np.searchsorted(rows[0], [commit, commit + 1])
    mine = rows[:, first:last]
    return np.ascontiguousarray(mine[1:3].T).view(np.uint64), np.ascontiguousarray(mine[3])


def _offset_id(position: LogPosition) -> str:
    return f"tallybook/log/{position.epoch}/{position.partition}"


def _count_id(tenant: str, name: str) -> str:
    return f"tallybook/count/{name}/{tenant}"


def _entry(added: AddAction | None, commit: Commit) -> bytes:
    """Return a commit as the table's log has it: a line for each action."""
    actions: list[dict[str, Any]] = [{"commitInfo": {"timestamp": _now_ms(), **_APPEND}}]
    if added is not None:
        file = {
            "path": added.path,
            "partitionValues": added.partition_values,
            "size": added.size,
            "modificationTime": added.modification_time,
            "dataChange": added.data_change,
            "stats": added.stats,
        }
        actions.append({"add": file})
    for name, number in _notes(commit).items():
        actions.append({"txn": {"appId": name, "version": number}})
    return "".join(f"{json.dumps(action)}\n" for action in actions).encode()


def _notes(commit: Commit) -> dict[str, int]:
    """Return what a commit notes beside its rows."""
    noted = {_SEQ: commit.seq}
    noted |= {_offset_id(position): offset for position, offset in commit.offsets.items()}
    for tenant, counters in commit.counters.items():
        noted |= {_count_id(tenant, name): getattr(counters, name) for name in _COUNTS}
    return noted


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _create(path: Path) -> None:
    """Make an empty table, unless another process of the server makes it at the same moment."""
    try:
        DeltaTable.create(str(path), schema=FIXED, configuration=_CONFIGURATION)
    except DeltaError:
        if not DeltaTable.is_deltatable(str(path)):
            raise


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (DeltaError, OSError) as error:
        raise Unavailable(f"lake {path}: {error}") from error
    except pa.ArrowInvalid as error:
        raise Corrupt(f"lake {path}: {error}") from error
