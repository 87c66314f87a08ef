"""One round of keeping the lake: roll-ups, compaction, checkpoints, clean-up.

Nothing here changes an answer: roll-ups repeat what raw rows say, a compaction rewrites the same
rows, and what was replaced stays until no reader can still use it.
"""

import time
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from tallybook.adapters.delta.event_table import DeltaEventTable
from tallybook.adapters.duckdb.spill import sweep
from tallybook.adapters.duckdb.usage_reader import LakeUsageReader
from tallybook.adapters.sql.catalog import SqlCatalog
from tallybook.catalog.meter import Meter
from tallybook.compose import open_control
from tallybook.kernel.errors import Refused, Unavailable
from tallybook.serve.api.partition import take
from tallybook.serve.worker.pipeline import (
    events_dir,
    partition_numbers,
    read_trim_mark,
    trim_mark,
)
from tallybook.settings import Settings
from tallybook.store.commit import all_columns
from tallybook.store.compact import clustered, next_merge, repeating

STEPS_MAX = 8
"""Most roll-up steps of one meter a round, so that no meter starves another."""


class LakeKeeper:
    """Keeps one lake; the only process that rewrites files.

    Args:
        settings: folders, retention and limits.
    """

    def __init__(self, settings: Settings) -> None:
        """Open lake and catalog."""
        self._settings = settings
        self.table = DeltaEventTable(events_dir(settings))
        memory = f"{settings.lake.memory_mb}MB"
        self.reader = LakeUsageReader(
            self.table, settings.lake_dir / "rollups", memory_limit=memory, threads=1
        )
        self.reader.rollups.drop_drafts()
        self._catalog = SqlCatalog(open_control(settings))
        self._tidied = 0.0

    def round(self) -> None:
        """Do what is due."""
        try:
            if self.table.checkpoint():
                _give_back()
            self.roll_up()
            while self.compact():
                _give_back()
            self.trim_orphans()
            if time.monotonic() - self._tidied > self._settings.lake.tidy_seconds:
                self._tidied = time.monotonic()
                self.tidy(self._settings.retention.vacuum_hours)
        finally:
            _give_back()

    def roll_up(self) -> None:
        """Bring the roll-ups of every meter version nearer to the lake's head.

        One that cannot be rolled up (values whose sum has more than 38 digits, too little memory)
        is told, and holds up neither the others nor the rest of the round.
        """
        for tenant, meter in self._catalog.all_meters():
            try:
                self._roll_up(tenant, meter)
            except (Refused, Unavailable) as error:
                log = structlog.get_logger("lake").bind(tenant=tenant, meter=meter.key)
                log.warning("lake.roll_up_put_off", version=meter.version, error=error.message)

    def _roll_up(self, tenant: str, meter: Meter) -> None:
        for _ in range(STEPS_MAX):
            if not self.reader.rollups.build(tenant, meter):
                break
            self.reader.source.release()  # or it would be held beside what a merge of files takes

    def compact(self) -> bool:
        """Merge one run of small files; whether there was one."""
        self.table.refresh()
        chosen = next_merge(self.table.files())
        if not chosen:
            return False
        columns = all_columns((), self.table.typed_columns())
        tables = (_read(file.path, repeating(columns)) for file in chosen)
        rows = self.table.replace(chosen, clustered(tables, columns))
        first, last = chosen[0].seq_min, max(file.seq_max for file in chosen)
        structlog.get_logger("lake").info(
            "lake.compacted", files=len(chosen), rows=rows, commits=f"{first}..{last}"
        )
        return True

    def tidy(self, keep_hours: float) -> int:
        """Checkpoint, and delete what compaction replaced before `keep_hours`; how many files."""
        sweep(self._settings.lake_dir)
        deleted = self.table.tidy(keep_hours)
        self.reader.rollups.sweep(time.time_ns() // 1000 - int(keep_hours * 3_600_000_000))
        return len(deleted)

    def trim_orphans(self) -> None:
        """Trim partitions that no worker writes now (fewer workers than before)."""
        for number in partition_numbers(self._settings.log_dir):
            mark = trim_mark(self._settings.log_dir, number)
            partition = take(self._settings.log_dir, number)
            if partition is not None:
                try:
                    upto = read_trim_mark(mark, partition.log.epoch)
                    partition.log.trim(upto)
                finally:
                    partition.close()


def _give_back() -> None:
    """Give free memory back to the system, whose allocator is Arrow's too: see `share_heaps`."""
    pa.default_memory_pool().release_unused()


def _read(path: str, coded: Sequence[str]) -> pa.Table:
    """Return a file's rows, one column after the other: memory is scarcer here than time."""
    names = pq.read_schema(path).names
    coded = [name for name in coded if name in names]
    return pq.ParquetFile(path, pre_buffer=False, read_dictionary=coded).read(use_threads=False)
