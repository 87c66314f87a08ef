"""Where recorded events wait on disk: in a file of this process, durable when `put` returns.

A folder holds one SQLite file for each process that records, each under a lock for as long as its
process lives. What a process leaves behind when it ends or is killed is sent by the next one that
opens the folder, or by one that is there already. Threads that record at once share a flush.
"""

import fcntl
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Condition, Lock

import msgspec

from tallybook.adapters.sqlite.spool import SqliteSpool
from tallybook.client.buffer import Taken
from tallybook.collect.spool import cut, joined, parted
from tallybook.kernel.errors import Corrupt, TallybookError, Unavailable
from tallybook.transport.ports import Batch, LogRow

_LOG = logging.getLogger("tallybook")

ADOPT_SECONDS = 30.0
"""How often a process looks for files whose process is gone."""
ROWS_AT_ONCE = 32
"""Read in one step; a row has up to a MiB."""
RESERVE_BYTES = 1024 * 1024
SUFFIX = ".spool"


class _Mark(msgspec.Struct, frozen=True):
    file: "SpoolFile"
    upto: int


class SpoolFile:
    """One file, locked by this process.

    Raises:
        Unavailable: another process has it, or the disk refuses.
        Corrupt: it is no spool any more.
    """

    def __init__(self, path: Path) -> None:
        """Lock and open it."""
        self.path = path
        self.damaged = 0
        self._fd = _locked(path)
        try:
            self._spool = SqliteSpool(path, reserve_bytes=RESERVE_BYTES)
        except BaseException:
            os.close(self._fd)
            raise
        self._lock = Lock()
        self._events = self._spool.waiting().events

    def append(self, pieces: Sequence[bytes]) -> None:
        """Keep events in one transaction; on return they are on stable storage."""
        with self._lock:
            self._spool.append([Batch(len(some), joined(some)) for some in cut(pieces)])
            self._events += len(pieces)

    def head(self, events_max: int, bytes_max: int) -> Taken | None:
        """Return the events of the oldest rows, whole rows only."""
        with self._lock:
            pieces: list[bytes] = []
            size, upto = 0, 0
            for row in self._rows():
                length = len(row.payload or b"")
                if pieces and (len(pieces) + row.events > events_max or size + length > bytes_max):
                    break
                pieces += self._pieces(row)
                size, upto = size + length, row.offset
            if upto and not pieces:
                self._forget(upto)  # damaged rows alone; they are set aside
        return Taken(pieces, _Mark(self, upto)) if pieces else None

    def trim(self, upto: int) -> None:
        """Forget rows."""
        with self._lock:
            self._forget(upto)

    def waiting(self) -> int:
        """Return how many events wait."""
        return self._events

    def close(self, *, remove: bool) -> None:
        """Close the file; an empty one may be removed. The lock goes last."""
        with self._lock:
            self._spool.close()
            if remove:
                for part in self.path.parent.glob(f"{self.path.name}*"):
                    part.unlink(missing_ok=True)
                _lock_path(self.path).unlink(missing_ok=True)
            os.close(self._fd)

    def forget(self) -> None:
        """Let go of the lock in a child that was forked; the file stays the parent's."""
        os.close(self._fd)

    def _rows(self) -> Iterator[LogRow]:
        """Yield rows, the oldest first; few of them are in memory."""
        after = 0
        while rows := self._spool.read(after, ROWS_AT_ONCE):
            yield from rows
            after = rows[-1].offset

    def _forget(self, upto: int) -> None:
        self._spool.trim(upto)
        self._events = self._spool.waiting().events

    def _pieces(self, row: LogRow) -> list[bytes]:
        try:
            if row.payload is not None:
                return parted(row.payload)
        except msgspec.MsgspecError:
            pass
        aside = self.path.with_name(f"damaged-{self.path.stem}-{row.offset}.bin")
        aside.write_bytes(self._spool.raw(row.offset))
        self.damaged += 1
        _LOG.error("%d spooled events are damaged; see %s", row.events, aside)
        return []


class SpoolQueue:
    """`Queue` in a folder.

    Args:
        folder: made where it is absent.
        bytes_max: most bytes that this process may leave waiting.

    Raises:
        Unavailable: the folder cannot be used.
    """

    def __init__(self, folder: Path, bytes_max: int) -> None:
        """Open a file of this process, and those that others have left."""
        self.folder = folder
        self._bytes_max = bytes_max
        self._left: list[SpoolFile] = []
        self._looked = 0.0
        self._turn = 0
        self._damaged = 0
        self._flush = _SharedFlush(self._append)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Unavailable(f"{folder}: {error.strerror or error}") from error
        name = f"{os.getpid()}-{secrets.token_hex(6)}{SUFFIX}"
        self._own = SpoolFile(folder / name)
        self._adopt()

    @property
    def damaged(self) -> int:
        """How many rows were set aside."""
        return self._damaged + self._own.damaged + sum(file.damaged for file in self._left)

    def put(self, pieces: Sequence[bytes]) -> None:
        """Keep events; on return they are on stable storage."""
        self._flush.put(pieces)

    def head(self, events_max: int, bytes_max: int) -> Taken | None:
        """Return the oldest events, of this process and of those that are gone by turns."""
        self._adopt()
        files = [self._own, *self._left]
        for at in range(len(files)):
            taken = files[(self._turn + at) % len(files)].head(events_max, bytes_max)
            if taken is not None:
                self._turn += at + 1
                return taken
        self._close_left()
        return None

    def done(self, taken: Taken) -> None:
        """Forget events for good."""
        mark = taken.mark
        assert isinstance(mark, _Mark)
        mark.file.trim(mark.upto)

    def waiting(self) -> int:
        """Return how many events wait, those that others have left among them."""
        return sum(file.waiting() for file in [self._own, *self._left])

    def close(self) -> None:
        """Close the files; what waits is sent by the next process that opens the folder."""
        for file in [self._own, *self._left]:
            file.close(remove=file.waiting() == 0)
        self._left = []

    def forget(self) -> None:
        """Let go of the locks in a child that was forked."""
        for file in [self._own, *self._left]:
            file.forget()

    def _append(self, pieces: Sequence[bytes]) -> None:
        if self._own.waiting() and self._size() > self._bytes_max:
            raise Unavailable(f"{self.folder} has {self._bytes_max} bytes", code="buffer-full")
        self._own.append(pieces)

    def _size(self) -> int:
        try:
            return self._own.path.stat().st_size
        except OSError:
            return 0

    def _adopt(self) -> None:
        """Take over the files whose process is gone."""
        now = time.monotonic()
        if self._looked and now - self._looked < ADOPT_SECONDS:
            return
        self._looked = now
        known = {file.path for file in [self._own, *self._left]}
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path not in known:
                self._take(path)

    def _take(self, path: Path) -> None:
        try:
            self._left.append(SpoolFile(path))
        except Unavailable:
            return  # its process is alive
        except Corrupt as error:
            aside = path.with_name(f"damaged-{path.name}.db")
            path.rename(aside)
            self._damaged += 1
            _LOG.error("a spool is damaged and kept as %s: %s", aside, error.message)

    def _close_left(self) -> None:
        for file in self._left:
            self._damaged += file.damaged
            file.close(remove=True)
        self._left = []


class _Entry:
    """Events of one thread on their way to the disk."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = pieces
        self.done = False
        self.error: TallybookError | None = None


class _SharedFlush:
    """Lets threads that wait for the disk share one flush: the first of them writes for all."""

    def __init__(self, append: Callable[[Sequence[bytes]], None]) -> None:
        self._append = append
        self._turn = Condition()
        self._entries: list[_Entry] = []
        self._writing = False

    def put(self, pieces: Sequence[bytes]) -> None:
        """Write events, perhaps together with those of other threads; raises Unavailable."""
        mine = _Entry(pieces)
        with self._turn:
            self._entries.append(mine)
            while self._writing and not mine.done:
                self._turn.wait()
            if not mine.done:
                self._writing = True
        if not mine.done:
            self._write_all()
        if mine.error is not None:
            raise mine.error

    def _write_all(self) -> None:
        with self._turn:
            entries, self._entries = self._entries, []
        error: TallybookError | None = Unavailable("the events could not be spooled")
        try:
            self._append([piece for entry in entries for piece in entry.pieces])
            error = None
        except TallybookError as failure:
            error = failure
        finally:
            with self._turn:
                for entry in entries:
                    entry.done, entry.error = True, error
                self._writing = False
                self._turn.notify_all()


def _lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")


def _locked(path: Path) -> int:
    """Return the descriptor that holds the lock of a spool file; raises Unavailable."""
    lock = _lock_path(path)
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"{lock}: {error.strerror or error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino != lock.stat().st_ino:
            raise OSError("the file was sent and removed meanwhile")
    except OSError as error:
        os.close(descriptor)
        raise Unavailable(f"{path} is in use") from error
    return descriptor
