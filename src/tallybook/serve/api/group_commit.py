"""Group commit: requests that arrive while the disk is busy share the next flush (DECISIONS 5).

One thread owns the log. It takes everything that waits, writes it in one fsynced transaction and
then tells all of them; a request is answered only after that (guarantee 1).
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import structlog

from tallybook.kernel.errors import TallybookError, Unavailable
from tallybook.serve.worker.pipeline import read_trim_mark
from tallybook.transport.alike import Alike
from tallybook.transport.codec import encode
from tallybook.transport.ports import Batch, LogState
from tallybook.transport.rows import Rows

ROW_EVENTS_MAX = 20_000
"""Most events of one log row, but for a single request that has more."""
ALONE_EVENTS_MIN = 200
"""A request with so many events becomes a log row of its own, encoded where it was read: its
objects are in that processor's cache, and they never cross to another thread."""
WAITING_EVENTS_MAX = 400_000
WAITING_BYTES_MAX = 256 * 1024 * 1024
"""With more events or data waiting, new requests are told to come back: memory stays bounded."""
ROW_BYTES_MAX = 64 * 1024 * 1024
"""Most data of one log row, but for a single request that has more."""
TRIM_SECONDS = 2.0
LINGER_SECONDS = 0.001
"""While requests come side by side, how long a flush waits for more of them."""
LINGER_EVENTS_MAX = 2_000
"""With this many events waiting already, a flush goes at once."""

Notify = Callable[[list[object], TallybookError | None], None]


class Log(Protocol):
    """What is written to; see `adapters.sqlite.noted_log`."""

    def append(self, batches: Sequence[Batch]) -> int:
        """Append batches, durably."""
        ...

    def append_noted(self, batches: Sequence[Batch], notes: Sequence[bytes]) -> int:
        """Append batches and notes, durably and together."""
        ...

    def forget_notes(self, upto: int) -> None:
        """Drop notes."""
        ...

    def state(self) -> LogState:
        """Return where it stands."""
        ...

    def trim(self, upto: int) -> None:
        """Drop rows."""
        ...


class _Work(NamedTuple):
    """What one call queued."""

    rows: Rows | Batch
    tokens: list[object]
    notes: list[bytes]


class GroupCommit:
    """Appends rows of many requests with few fsyncs.

    Args:
        log: this object's thread is its only writer.
        notify: called on that thread with the tokens of a flush, and why it failed, if it did.
        trim_mark: file that says up to which offset the log may be trimmed.
    """

    def __init__(self, log: Log, notify: Notify, trim_mark: Path) -> None:
        """Start the thread."""
        self._log = log
        self._notify = notify
        self._trim_mark = trim_mark
        self._waiting: list[_Work] = []
        self._told = self._forgotten = 0
        self._events = self._bytes = 0
        self._closing = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    def submit(self, rows: Rows | Alike, token: object, note: bytes | None = None) -> None:
        """Queue rows; `notify` gets the token once they are durable, or refused.

        Args:
            rows: of one request.
            token: the request's.
            note: to keep with them; None for none.

        Raises:
            Unavailable: too much is waiting already, or the process is stopping.
        """
        self.submit_together(rows, [token], [] if note is None else [note])

    def submit_together(self, rows: Rows | Alike, tokens: list[object], notes: list[bytes]) -> None:
        """Queue rows of some requests; `notify` gets all of their tokens.

        Args:
            rows: of all of them.
            tokens: the requests'.
            notes: to keep with them.

        Raises:
            Unavailable: too much is waiting already, or the process is stopping.
        """
        alone = isinstance(rows, Alike) or len(rows) >= ALONE_EVENTS_MIN
        work = rows if isinstance(rows, Rows) and not alone else Batch(len(rows), encode(rows))
        size = rows.data_bytes
        with self._wake:
            many = self._events + len(rows) > WAITING_EVENTS_MAX
            full = many or self._bytes + size > WAITING_BYTES_MAX
            if self._closing or (full and self._waiting):
                raise Unavailable(
                    "the log is busy; send the same events again", retry_after_seconds=1
                )
            self._waiting.append(_Work(work, tokens, notes))
            self._events += len(rows)
            self._bytes += size
            self._wake.notify()

    def forget_notes(self, upto: int) -> None:
        """Drop the notes up to a place with the next trimming: they were told on."""
        self._told = max(self._told, upto)

    def close(self) -> None:
        """Flush what waits and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        trimmed_at = time.monotonic()
        side_by_side = False
        while True:
            with self._wake:
                if not self._waiting and not self._closing:
                    self._wake.wait(TRIM_SECONDS)
            if side_by_side and self._events < LINGER_EVENTS_MAX:
                time.sleep(LINGER_SECONDS)
            with self._wake:
                taken, self._waiting = self._waiting, []
                self._events = self._bytes = 0
            side_by_side = len(taken) > 1
            if taken:
                self._flush(taken)
            if time.monotonic() - trimmed_at > TRIM_SECONDS:
                trimmed_at = time.monotonic()
                self._trim()
            if self._closing and not self._waiting:
                self._trim()
                return

    def _flush(self, taken: "list[_Work]") -> None:
        failure: TallybookError | None = None
        notes = [note for work in taken for note in work.notes]
        try:
            rows = batches(work.rows for work in taken)
            if notes:
                self._log.append_noted(rows, notes)
            else:
                self._log.append(rows)
        except TallybookError as error:
            failure = error
        except Exception as error:  # noqa: BLE001  (whoever waits must hear of it; then it is fatal)
            structlog.get_logger("log").exception("log.append_failed")
            failure = Unavailable(f"the events could not be stored: {error}")
        self._notify([token for work in taken for token in work.tokens], failure)

    def _trim(self) -> None:
        try:
            state = self._log.state()
            upto = read_trim_mark(self._trim_mark, state.epoch)
            if upto >= state.first_offset:
                self._log.trim(upto)
            if (told := self._told) > self._forgotten:
                self._log.forget_notes(told)
                self._forgotten = told
        except TallybookError as error:
            structlog.get_logger("log").warning("log.trim_failed", error=str(error))


def batches(works: Iterable[Rows | Batch]) -> list[Batch]:
    """Return the log rows of many requests: large ones as they are, small ones together."""
    whole: list[Batch] = []
    small: list[Rows] = []
    for work in works:
        if isinstance(work, Batch):
            whole.append(work)
        else:
            small.append(work)
    return whole + [Batch(len(rows), encode(rows)) for rows in merged(small)]


def merged(parts: Iterable[Rows]) -> list[Rows]:
    """Return the rows of many requests in few log rows, in order."""
    found: list[Rows] = []
    size = 0
    for rows in parts:
        last = found[-1] if found else None
        if (
            last is None
            or last.columns is not rows.columns
            or len(last) + len(rows) > ROW_EVENTS_MAX
            or size + rows.data_bytes > ROW_BYTES_MAX
        ):
            last, size = Rows(rows.columns), 0
            found.append(last)
        last.extend(rows)
        size += rows.data_bytes
    return found
