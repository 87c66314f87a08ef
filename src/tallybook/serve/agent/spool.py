"""The agent's memory on disk: one spool that the collecting and the sending thread share."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock

from tallybook.adapters.sqlite.spool import SqliteSpool
from tallybook.collect.sending.parcel import Waiting
from tallybook.kernel.errors import Conflict, Corrupt, Unavailable
from tallybook.transport.ports import Batch, LogRow, LogState

SPOOL_NAME = "spool.db"


class SharedSpool:
    """`EventLog` and `Outbox` for two threads: one call at a time.

    Attributes:
        lost: where a spool that could not be read any more was put; None for none.
    """

    def __init__(self, log: SqliteSpool, lost: Path | None = None) -> None:
        """Wrap a spool that nobody else uses."""
        self._log = log
        self._lock = Lock()
        self.lost = lost

    @property
    def epoch(self) -> str:
        """The incarnation."""
        return self._log.epoch

    def append(self, batches: Sequence[Batch], cursors: Mapping[str, str] | None = None) -> int:
        """Append batches and cursors in one transaction."""
        with self._lock:
            return self._log.append(batches, cursors)

    def read(self, after: int, rows_max: int, bytes_max: int | None = None) -> list[LogRow]:
        """Return rows after an offset."""
        with self._lock:
            return self._log.read(after, rows_max, bytes_max)

    def trim(self, upto: int) -> None:
        """Drop rows up to an offset."""
        with self._lock:
            self._log.trim(upto)

    def oldest(self, since_us: int | None = None) -> LogRow | None:
        """Return the oldest row, of all or of those appended since an instant."""
        with self._lock:
            return self._log.oldest(since_us)

    def drop(self, offset: int) -> None:
        """Drop one row."""
        with self._lock:
            self._log.drop(offset)

    def waiting(self) -> Waiting:
        """Return what waits to be sent."""
        with self._lock:
            return self._log.waiting()

    def state(self) -> LogState:
        """Return where the spool stands."""
        with self._lock:
            return self._log.state()

    def cursors(self) -> dict[str, str]:
        """Return positions and baselines."""
        with self._lock:
            return self._log.cursors()

    def raw(self, offset: int) -> bytes:
        """Return the bytes of a row whose checksum fails."""
        with self._lock:
            return self._log.raw(offset)

    def close(self) -> None:
        """Close the file, after the call that the other thread may be in the middle of."""
        with self._lock:
            self._log.close()


@contextmanager
def opened_spool(folder: Path) -> Iterator[SharedSpool]:
    """Open the spool of a state folder for as long as the block runs.

    Raises:
        Conflict: another agent works on this folder.
        Unavailable: the folder cannot be made or written.
    """
    with _locked(folder), closing(SharedSpool(*_opened(folder / SPOOL_NAME))) as spool:
        yield spool


def _opened(path: Path) -> tuple[SqliteSpool, Path | None]:
    """Open a spool; one that the disk has ruined is put aside and a new one begun.

    Collecting must go on: files are read again from their start, which changes nothing, and
    counters begin at a new baseline, which is reported as such.
    """
    try:
        return SqliteSpool(path), None
    except Corrupt:
        lost = path.with_name(f"damaged-{time.time_ns() // 1_000_000}-{path.name}")
        for suffix in ("", "-wal", "-shm"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(lost.with_name(lost.name + suffix))
        return SqliteSpool(path), lost


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        message = f"the state folder {folder} cannot be used: {error.strerror or error}"
        raise Unavailable(message) from error
    try:
        _take(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in {errno.EAGAIN, errno.EACCES}:
            raise Unavailable(f"the state folder {folder} cannot be locked: {error}") from error
        message = f"another agent runs on {folder}; stop it or give --state another folder"
        raise Conflict(message) from error
