"""The pump process: the only committer of the lake (DECISIONS 1, 9)."""

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import structlog

from tallybook.adapters.delta.event_table import DeltaEventTable
from tallybook.adapters.runs.index import RunIndex
from tallybook.adapters.sql.catalog import SqlCatalog
from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.compose import open_control
from tallybook.kernel.errors import Corrupt, TallybookError, Unavailable
from tallybook.serve.worker.pipeline import events_dir, mark_text, partition_numbers, trim_mark
from tallybook.settings import Settings
from tallybook.store.flow import Pumped, catch_up, next_columns, pump_once
from tallybook.store.ports import LogPosition
from tallybook.transport.columns import ColumnSet
from tallybook.transport.ports import LogRow

IDLE_SECONDS = 0.02
COMMIT_SECONDS = 0.25
"""Shortest time from one commit to the next while there is no backlog: files are not tiny."""
BUSY_EVENTS, BUSY_SECONDS = 25_000, 0.5
"""After a commit of so many events the next one waits longer: what comes fast fills files that are
large enough to be left unmerged, and nothing is written twice."""
TAKEN_SHARE, SLOW_SECONDS_MAX = 0.3, 0.8
"""The share of its time that the pump is busy, where there is no backlog, and the longest wait for
it to be less: much of a commit costs the same whatever it holds, and more with more history."""
RETRY_SECONDS = 1.0
HOUSEKEEPING_SECONDS = 2.0
UNREADABLE_TRIES = 50
CONFLICTS_KEPT = 1_000
LEFT_OUT_SECONDS = 30.0
"""How long a damaged partition is left out before it is tried again."""


class Pump:
    """Reads all partitions, owns the duplicate index, commits to the lake.

    Args:
        settings: folders and limits.

    Raises:
        Unavailable, Corrupt: lake, index or control database cannot be opened.
    """

    def __init__(self, settings: Settings) -> None:
        """Open everything and bring the index up to the lake."""
        self._settings = settings
        self._log = structlog.get_logger("pump")
        self._table = DeltaEventTable(events_dir(settings))
        self._index = RunIndex(settings.lake_dir / "index")
        self._table.make_durable()
        caught = catch_up(self._index, self._table)
        self._log.info("pump.started", head=self._table.head(), index_commits_read=caught)
        self._catalog = SqlCatalog(open_control(settings))
        self._logs: dict[LogPosition, SqliteEventLog] = {}
        self._broken: dict[int, int] = {}
        self._columns: ColumnSet | None = None
        self._columns_version = -1
        self._retry: dict[int, float] = {}

    def step(self) -> Pumped | None:
        """Make one commit of what the log holds; None where there is nothing."""
        logs = self.partitions()
        if not any(self._has_more(position, log) for position, log in logs.items()):
            return None  # looked at often: neither the lake nor the catalog is asked
        return pump_once(
            logs, self._table, self._index, self.columns(), self._park, self._leave_out
        )

    def _has_more(self, position: LogPosition, log: SqliteEventLog) -> bool:
        """Whether a partition holds what the lake has not; what cannot be read does, to be told."""
        try:
            return log.newest() > self._table.offset(position)
        except (Corrupt, Unavailable):
            return True

    def _park(self, position: LogPosition, row: LogRow) -> None:
        """Keep the bytes of a damaged row, loudly; its senders must send again."""
        name = f"p{position.partition}-{position.epoch}-{row.offset}.bin"
        path = self._settings.log_dir / "parked" / name
        _replace(path, self._logs[position].raw(row.offset))
        self._log.error("pump.row_damaged", parked=str(path), events=row.events)

    def _leave_out(self, position: LogPosition, error: TallybookError) -> None:
        """Go on without a partition that cannot be read, loudly; try it again after a while."""
        self._logs.pop(position).close()
        seconds = LEFT_OUT_SECONDS if isinstance(error, Corrupt) else RETRY_SECONDS
        self._retry[position.partition] = time.monotonic() + seconds
        self._log.error("pump.partition_unreadable", partition=position.partition, error=str(error))

    def recover(self) -> None:
        """After a failure, start from what is on disk."""
        self.reopen()
        self._table.make_durable()
        catch_up(self._index, self._table)

    def partitions(self) -> Mapping[LogPosition, SqliteEventLog]:
        """Return the readable partitions; one that cannot be read is reported and left out."""
        known = {position.partition for position in self._logs}
        for number in partition_numbers(self._settings.log_dir):
            if number not in known and self._retry.get(number, 0.0) <= time.monotonic():
                self._open(number)
        return self._logs

    def _open(self, number: int) -> None:
        try:
            log = SqliteEventLog(self._settings.log_dir / f"p{number}.db", readonly=True)
        except (Corrupt, Unavailable) as error:
            failures = self._broken[number] = self._broken.get(number, 0) + 1
            if failures == UNREADABLE_TRIES:  # before that its writer may still be making it
                self._log.error("pump.partition_unreadable", partition=number, error=str(error))
            return
        self._broken.pop(number, None)
        self._logs[LogPosition(log.epoch, number)] = log

    def reopen(self) -> None:
        """Close all partitions, so that replaced files are found; they open again on demand."""
        for log in self._logs.values():
            log.close()
        self._logs = {}

    def columns(self) -> ColumnSet:
        """Return the typed columns of the next commit."""
        version = self._catalog.version()
        if self._columns is None or version != self._columns_version:
            present = self._table.typed_columns()
            wanted = {name for _, meter in self._catalog.all_meters() for name in meter.columns()}
            room = max(0, self._settings.limits.typed_columns_max - len(present))
            added = sorted(wanted - set(present))[:room]
            self._columns = next_columns(added, present)
            self._columns_version = version
        return self._columns

    def say_what_may_go(self) -> None:
        """Write each partition's trim mark: in the lake, and older than retention asks."""
        self._close_replaced()
        before_us = time.time_ns() // 1000 - self._settings.retention.log_hours * 3_600_000_000
        for position, log in list(self.partitions().items()):
            try:
                upto = min(self._table.offset(position), log.last_before(before_us))
            except (Corrupt, Unavailable) as error:
                self._leave_out(position, error)
                continue
            path = trim_mark(self._settings.log_dir, position.partition)
            _replace(path, mark_text(position.epoch, upto).encode())

    def _close_replaced(self) -> None:
        """Close logs whose file was put aside, so that the one in its place is opened."""
        for position, log in list(self._logs.items()):
            if not log.in_place():
                self._logs.pop(position).close()

    def note(self, pumped: Pumped) -> None:
        """Keep the newest conflicts where an operator finds them; the counters are exact."""
        if pumped.conflicts.num_rows == 0:
            return
        rows = (
            pumped.conflicts.select(["tenant", "source", "id", "time_us", "data"])
            .slice(0, 100)
            .to_pylist()
        )
        self._log.warning("pump.id_conflict", commit=pumped.seq, rows=pumped.conflicts.num_rows)
        path = self._settings.lake_dir / "conflicts.jsonl"
        known = path.read_text().splitlines() if path.exists() else []
        kept = [*known, *(json.dumps({"commit_seq": pumped.seq, **row}) for row in rows)]
        _replace(path, ("\n".join(kept[-CONFLICTS_KEPT:]) + "\n").encode())

    def close(self) -> None:
        """Write the index to disk, so that the next start reads nothing again."""
        self._index.flush()
        self.reopen()


def _replace(path: Path, content: bytes) -> None:
    """Replace a small file in one step; a full disk leaves the old one."""
    draft = path.with_name(f"{path.name}-new")
    try:
        path.parent.mkdir(exist_ok=True)
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or error}") from error


def pause_after(pumped: Pumped, took: float) -> float:
    """Return how long after the begin of a commit the next one begins, at the earliest.

    Args:
        pumped: what it brought.
        took: its seconds.
    """
    if pumped.more:
        return 0.0
    usual = BUSY_SECONDS if pumped.received >= BUSY_EVENTS else COMMIT_SECONDS
    return max(usual, min(took / TAKEN_SHARE, SLOW_SECONDS_MAX))


def run_pump(settings: Settings, stop: threading.Event) -> None:
    """Pump until asked to stop; then once more, so that an orderly stop leaves no lag."""
    pump = Pump(settings)
    housekept = due = 0.0
    recovering = False
    while not stop.is_set():
        backlog = False
        try:
            if recovering:
                pump.recover()
                recovering = False
            begun = time.monotonic()
            if begun >= due:
                pumped = pump.step()
                if pumped is not None:
                    due = begun + pause_after(pumped, time.monotonic() - begun)
                    backlog = pumped.more
                    pump.note(pumped)
            if time.monotonic() - housekept > HOUSEKEEPING_SECONDS:
                housekept = time.monotonic()
                pump.say_what_may_go()
        except Unavailable as error:
            structlog.get_logger("pump").error("pump.waiting", error=str(error))
            stop.wait(RETRY_SECONDS)
            recovering = True
        if not backlog:
            stop.wait(IDLE_SECONDS)
    _last_step(pump)


def _last_step(pump: Pump) -> None:
    try:
        while (pumped := pump.step()) is not None:
            pump.note(pumped)
    except TallybookError as error:
        structlog.get_logger("pump").error("pump.stopped_behind", error=str(error))
    finally:
        pump.close()
