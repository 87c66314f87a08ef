"""The edge's spool: a log whose rows leave one by one, in any order, as they are acknowledged.

Also forgetting a row is a write, and a write-ahead log that cannot be brought into the file because
the disk is full can take none: what was acknowledged could never leave, and the disk would stay
full. So a reserve is held on disk. It is given back when a row cannot be dropped, which lets the
log be brought in; and nothing is appended before there is a reserve again, or as much free space
within the file.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.collect.sending.parcel import Waiting
from tallybook.kernel.errors import Unavailable
from tallybook.transport.ports import Batch, LogRow, LogState

RESERVE_BYTES = 8 * 1024 * 1024
"""More than the write-ahead log can hold when the disk is full."""
_CHECKPOINT_PAGES = 512
_CACHE_KIB = 512
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_AGE = "CREATE INDEX IF NOT EXISTS batch_age ON batch (appended_us, offset)"


def clock_us() -> int:
    """Return the machine's clock, microseconds UTC."""
    return time.time_ns() // 1000


class Reserve:
    """Space on disk that is held by a file, until something needs it more.

    Args:
        path: of the file.
        size: bytes.
    """

    def __init__(self, path: Path, size: int) -> None:
        """Look whether it is held."""
        self._path = path
        self._size = size
        try:
            self.held = path.stat().st_size >= size
        except OSError:
            self.held = False

    def hold(self) -> bool:
        """Take the space where it is not held; return whether it is now."""
        if self.held:
            return True
        try:
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size)
        except OSError:
            self.release()
            return False
        self.held = True
        return True

    def release(self) -> None:
        """Give the space back."""
        self.held = False
        self._path.unlink(missing_ok=True)


class SqliteSpool(SqliteEventLog):
    """`Outbox` and `EventLog` on one SQLite file, for one process.

    What waits is counted once, when the file is opened, and kept up to date in memory: an hour's
    backlog is not counted again for every batch.

    Args:
        path: see `SqliteEventLog`.
        readonly: for a look from another process.
        now_us: the clock that rows are stamped with.
        reserve_bytes: held on disk beside the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        readonly: bool = False,
        now_us: Callable[[], int] = clock_us,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        """Open the file and count what waits."""
        self._clock = now_us
        self._reserve_bytes = reserve_bytes
        self._reserve = Reserve(path.with_name(f"{path.name}-reserve"), reserve_bytes)
        super().__init__(path, readonly=readonly)
        with self._translated():
            if not readonly:
                self._db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
                self._db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
                self._db.execute(_AGE)
            self._batches, self._events, self._bytes = self._db.execute(
                "SELECT count(*), coalesce(sum(events), 0), coalesce(sum(length(payload)), 0)"
                " FROM batch"
            ).fetchone()

    def append(self, batches: Sequence[Batch], cursors: Mapping[str, str] | None = None) -> int:
        """Append all batches and cursors in one fsynced transaction; return the last offset.

        Raises:
            Unavailable: the disk refuses, or is as good as full.
        """
        if not self._reserve.hold() and self._free_bytes() < self._reserve_bytes:
            raise Unavailable(f"{self.path}: the disk is full")
        last = super().append(batches, cursors)
        self._batches += len(batches)
        self._events += sum(batch.events for batch in batches)
        self._bytes += sum(len(batch.payload) for batch in batches)
        return last

    def trim(self, upto: int) -> None:
        """Drop rows up to and including an offset."""
        with self._translated():
            batches, events, size = self._db.execute(
                "SELECT count(*), coalesce(sum(events), 0), coalesce(sum(length(payload)), 0)"
                " FROM batch WHERE offset <= ?",
                (upto,),
            ).fetchone()
        super().trim(upto)
        self._batches -= batches
        self._events -= events
        self._bytes -= size

    def state(self) -> LogState:
        """Return where the spool stands, without counting again."""
        with self._translated():
            total, last = self._last()
            first = self._db.execute("SELECT min(offset) FROM batch").fetchone()[0]
        return LogState(
            epoch=self.epoch,
            first_offset=first or last + 1,
            last_offset=last,
            events_total=total,
            stored_bytes=self._bytes,
        )

    def oldest(self, since_us: int | None = None) -> LogRow | None:
        """Return the oldest row, of all or of those appended since an instant."""
        if since_us is None:
            return next(iter(self.read(0, 1)), None)
        with self._translated():
            found = self._db.execute(
                "SELECT offset FROM batch WHERE appended_us >= ?"
                " ORDER BY appended_us, offset LIMIT 1",
                (since_us,),
            ).fetchone()
        return next(iter(self.read(found[0] - 1, 1)), None) if found else None

    def drop(self, offset: int) -> None:
        """Drop one row; on return that is on stable storage."""
        try:
            gone = self._dropped(offset)
        except Unavailable as error:
            if not _is_full(error.__cause__):
                raise
            self._make_room()
            gone = self._dropped(offset)
        if gone is not None:
            self._batches -= 1
            self._events -= gone[0]
            self._bytes -= gone[1]

    def _dropped(self, offset: int) -> tuple[int, int] | None:
        with self._translated(), self._transaction():
            found: tuple[int, int] | None = self._db.execute(
                "DELETE FROM batch WHERE offset = ? RETURNING events, length(payload)", (offset,)
            ).fetchone()
        return found

    def _make_room(self) -> None:
        """Bring the write-ahead log into the file, for which the reserve makes room."""
        self._reserve.release()
        with self._translated():
            self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def _free_bytes(self) -> int:
        """Return how much the file can take without growing."""
        with self._translated():
            pages = self._db.execute("PRAGMA freelist_count").fetchone()[0]
            size = self._db.execute("PRAGMA page_size").fetchone()[0]
        return int(pages) * int(size)

    def waiting(self) -> Waiting:
        """Return what waits now."""
        with self._translated():
            found = self._db.execute(
                "SELECT offset, appended_us FROM batch ORDER BY offset LIMIT 1"
            ).fetchone()
            first, oldest_us = found or (self._last()[1] + 1, None)
        return Waiting(
            first=first,
            batches=self._batches,
            events=self._events,
            bytes=self._bytes,
            oldest_us=oldest_us,
        )

    def _now_us(self) -> int:
        return self._clock()


def _is_full(cause: BaseException | None) -> bool:
    code = getattr(cause, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _FULL
