"""The edge's spool: a log whose rows leave one by one, in any order, as they are acknowledged."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.collect.sending.parcel import Waiting
from tallybook.transport.ports import Batch, LogRow, LogState

_AGE = "CREATE INDEX IF NOT EXISTS batch_age ON batch (appended_us, offset)"


def clock_us() -> int:
    """Return the machine's clock, microseconds UTC."""
    return time.time_ns() // 1000


class SqliteSpool(SqliteEventLog):
    """`Outbox` and `EventLog` on one SQLite file, for one process.

    What waits is counted once, when the file is opened, and kept up to date in memory: an hour's
    backlog is not counted again for every batch.

    Args:
        path: see `SqliteEventLog`.
        readonly: for a look from another process.
        now_us: the clock that rows are stamped with.
    """

    def __init__(
        self, path: Path, *, readonly: bool = False, now_us: Callable[[], int] = clock_us
    ) -> None:
        """Open the file and count what waits."""
        self._clock = now_us
        super().__init__(path, readonly=readonly)
        with self._translated():
            if not readonly:
                self._db.execute(_AGE)
            self._batches, self._events, self._bytes = self._db.execute(
                "SELECT count(*), coalesce(sum(events), 0), coalesce(sum(length(payload)), 0)"
                " FROM batch"
            ).fetchone()

    def append(self, batches: Sequence[Batch], cursors: Mapping[str, str] | None = None) -> int:
        """Append all batches and cursors in one fsynced transaction; return the last offset."""
        last = super().append(batches, cursors)
        self._batches += len(batches)
        self._events += sum(batch.events for batch in batches)
        self._bytes += sum(len(batch.payload) for batch in batches)
        return last

    def trim(self, upto: int) -> None:
        """Drop rows up to and including an offset."""
        super().trim(upto)
        with self._translated():
            self._batches, self._events, self._bytes = self._db.execute(
                "SELECT count(*), coalesce(sum(events), 0), coalesce(sum(length(payload)), 0)"
                " FROM batch"
            ).fetchone()

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
        with self._translated(), self._transaction():
            gone = self._db.execute(
                "DELETE FROM batch WHERE offset = ? RETURNING events, length(payload)", (offset,)
            ).fetchone()
        if gone is not None:
            self._batches -= 1
            self._events -= gone[0]
            self._bytes -= gone[1]

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
