"""The lake's event table as a Delta table.

Offsets, the commit number and the counters are application transactions of the same Delta commit
as the rows, so they are one atomic fact and survive checkpoints and log clean-up. deltalake takes
a stale application transaction without complaint, so the head is checked here first (DECISIONS 9).
delta-rs does not fsync; this adapter does, before it returns, because the log is trimmed by it.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from tallybook.kernel.errors import Conflict, Corrupt, Unavailable
from tallybook.meter.usage import Counters
from tallybook.store.compact import sharing_commits
from tallybook.store.dedupe import I64
from tallybook.store.ports import Commit, LakeFile, LogPosition
from tallybook.store.schema import FIXED, typed_names
from tallybook.transport.identity import Keys

ORPHAN_HOURS = 24
"""How old a file must be that no commit names before it is deleted."""
_SEQ = "tallybook/commit_seq"
_COUNTS = ("received", "accepted", "duplicate", "quarantined", "id_conflict")
_UNIQUE = ("id", "data", "time_us", "id_hi", "id_lo", "row_hash")
"""Columns whose values hardly repeat: a dictionary of them costs time and space."""
ROW_GROUP_ROWS = 200_000
_WRITER = WriterProperties(
    compression="ZSTD",
    compression_level=1,
    max_row_group_size=ROW_GROUP_ROWS,
    column_properties={name: ColumnProperties(dictionary_enabled=False) for name in _UNIQUE},
)
_SKIPPING = ("tenant", "type", "time_us", "commit_seq")
"""Columns whose bounds the table's log keeps of every file."""
_CONFIGURATION = {
    "delta.logRetentionDuration": "interval 1 days",
    "delta.deletedFileRetentionDuration": "interval 1 hours",
    "delta.dataSkippingStatsColumns": ",".join(_SKIPPING),
    "delta.checkpointInterval": "50",
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
            self._table = DeltaTable(str(path))

    def head(self) -> int:
        """Return the newest commit's number."""
        self.refresh()
        return self._noted(_SEQ)

    def refresh(self) -> None:
        """Take note of commits that other processes made."""
        with _translated(self.path):
            self._table.update_incremental()

    def version(self) -> int:
        """Return the Delta version last seen; it grows with every append and every rewrite."""
        return self._table.version()

    def offset(self, position: LogPosition) -> int:
        """Return the last contained log offset."""
        return self._noted(_offset_id(position))

    def counters(self, tenant: str) -> Counters:
        """Return a tenant's totals."""
        return Counters(**{name: self._noted(_count_id(tenant, name)) for name in _COUNTS})

    def _noted(self, name: str) -> int:
        """Return the newest number that commits noted under a name; 0 where none did."""
        with _translated(self.path):
            return self._table.transaction_version(name) or 0

    def typed_columns(self) -> list[str]:
        """Return the typed columns that the table has."""
        with _translated(self.path):
            schema = pa.schema(self._table.schema().to_arrow())  # type: ignore[arg-type]  # capsule
        return typed_names(schema)

    def append(self, rows: pa.Table, commit: Commit) -> None:
        """Make one commit, durable on return."""
        if self.head() != commit.seq - 1:
            raise Conflict(
                f"lake head is {self.head()}, not {commit.seq - 1}: is a second pump at work?"
            )
        with _translated(self.path):
            before = self._table.version()
            self._add_columns(rows.schema)
            added: list[AddAction | RemoveAction] = []
            if rows.num_rows:
                added.append(self._written(rows, commit.seq))
            self._table.create_write_transaction(
                actions=added,
                mode="append",
                schema=self._table.schema(),
                commit_properties=CommitProperties(app_transactions=_transactions(commit)),
            )
            self._table.update_incremental()
            for version in range(before + 1, self._table.version() + 1):
                self._fsync_version(version)

    def _add_columns(self, schema: pa.Schema) -> None:
        """Make the table have every typed column of a commit; one without rows changes nothing."""
        present = {field.name for field in self._table.schema().fields}
        lacking = [field for field in schema if field.name not in present]
        if lacking:
            made = DeltaSchema.from_arrow(pa.schema(lacking))
            self._table.alter.add_columns(made.fields)
            self._table.update_incremental()

    def _written(self, rows: pa.Table, seq: int) -> AddAction:
        """Write rows into a file of their own, durable before the commit that names it."""
        path = self.path / f"part-{seq:05d}-{uuid4()}-c000.zstd.parquet"
        try:
            pq.write_table(rows, path, **_parquet(rows.schema.names))
            _fsync(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return AddAction(
            path=path.name,
            size=path.stat().st_size,
            partition_values={},
            modification_time=time.time_ns() // 1_000_000,
            data_change=True,
            stats=json.dumps(_statistics(rows)),
        )

    def files(self) -> Sequence[LakeFile]:
        """Return the live files, by commit."""
        with _translated(self.path):
            actions = pa.table(self._table.get_add_actions(flatten=True)).to_pylist()
        files = [self._file(action) for action in actions if action["num_records"]]
        return sorted(files, key=lambda f: (f.seq_min, f.path))

    def _file(self, action: Mapping[str, object]) -> LakeFile:
        numbers = {
            name: int(str(value))
            for name, value in action.items()
            if name != "path" and _is_count(name)
        }
        return LakeFile(
            path=str(self.path / str(action["path"])),
            rows=numbers["num_records"],
            bytes=numbers["size_bytes"],
            seq_min=numbers["min.commit_seq"],
            seq_max=numbers["max.commit_seq"],
            time_min=numbers["min.time_us"],
            time_max=numbers["max.time_us"],
        )

    def replace(self, seq_min: int, seq_max: int, rows: pa.Table) -> None:
        """Put these rows in the place of all rows of the commits; the content must be the same.

        Raises:
            Conflict: another writer changed the same files meanwhile; try again.
        """
        with _translated(self.path):
            write_deltalake(
                self._table,
                rows,
                mode="overwrite",
                predicate=f"commit_seq >= {int(seq_min)} AND commit_seq <= {int(seq_max)}",
                writer_properties=_WRITER,
                commit_properties=CommitProperties(custom_metadata={"tallybook": "compaction"}),
            )
            self._table.update_incremental()
            self._fsync_version(self._table.version())

    def tidy(self, keep_hours: float) -> list[str]:
        """Write a checkpoint, clean the transaction log, delete files that no reader may still use.

        Args:
            keep_hours: how long files stay after they were replaced; longer than any reader runs.

        Returns:
            The files deleted.
        """
        with _translated(self.path):
            self._table.update_incremental()
            self._table.create_checkpoint()
            self._table.cleanup_metadata()
            deleted: list[str] = self._table.vacuum(
                retention_hours=int(keep_hours), enforce_retention_duration=False, dry_run=False
            )
            # What a killed commit left was never part of the table; a day is longer than a commit.
            return deleted + self._table.vacuum(
                retention_hours=max(int(keep_hours), ORPHAN_HOURS),
                dry_run=False,
                full=True,
                enforce_retention_duration=False,
            )

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
            self._table.update_incremental()
            if (self.path / "_delta_log" / f"{self._table.version():020d}.json").exists():
                self._fsync_version(self._table.version())

    def _fsync_version(self, version: int) -> None:
        entry = self.path / "_delta_log" / f"{version:020d}.json"
        for line in entry.read_text().splitlines():
            if (added := json.loads(line).get("add")) is not None:
                _fsync(self.path / added["path"])
        for path in (self.path, entry, entry.parent):
            _fsync(path)


def _parquet(names: Sequence[str]) -> dict[str, Any]:
    """Return how a commit's file is written: as `_WRITER` says, without bounds nobody asks for."""
    return {
        "compression": "zstd",
        "compression_level": 1,
        "row_group_size": ROW_GROUP_ROWS,
        "use_dictionary": [name for name in names if name not in _UNIQUE],
        "write_statistics": [name for name in names if name == "time_us" or name not in _UNIQUE],
    }


def _statistics(rows: pa.Table) -> dict[str, object]:
    """Return what the table's log says of a file."""
    bounds: dict[str, dict[str, object]] = {}
    for name in _SKIPPING:
        bounds[name] = cast("dict[str, object]", pc.min_max(rows[name]).as_py())
    return {
        "numRecords": rows.num_rows,
        "minValues": {name: found["min"] for name, found in bounds.items()},
        "maxValues": {name: found["max"] for name, found in bounds.items()},
        "nullCount": {name: rows[name].null_count for name in _SKIPPING},
    }


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


def _is_count(name: str) -> bool:
    ranges = {f"{end}.{column}" for end in ("min", "max") for column in ("commit_seq", "time_us")}
    return name in ranges | {"num_records", "size_bytes"}


def _offset_id(position: LogPosition) -> str:
    return f"tallybook/log/{position.epoch}/{position.partition}"


def _count_id(tenant: str, name: str) -> str:
    return f"tallybook/count/{name}/{tenant}"


def _transactions(commit: Commit) -> list[Transaction]:
    found = [Transaction(_SEQ, commit.seq)]
    found += [
        Transaction(_offset_id(position), offset) for position, offset in commit.offsets.items()
    ]
    for tenant, counters in commit.counters.items():
        found += [Transaction(_count_id(tenant, name), getattr(counters, name)) for name in _COUNTS]
    return found


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
