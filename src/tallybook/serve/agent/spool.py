"""The agent's memory on disk: one spool that the collecting and the sending thread share."""

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.kernel.errors import Conflict, Unavailable
from tallybook.transport.ports import Batch, LogRow, LogState

SPOOL_NAME = "spool.db"


class SharedSpool:
    """`EventLog` for two threads: one call at a time."""

    def __init__(self, log: SqliteEventLog) -> None:
        """Wrap a log that nobody else uses."""
        self._log = log
        self._lock = Lock()

    def append(self, batches: Sequence[Batch], cursors: Mapping[str, str] | None = None) -> int:
        """Append batches and cursors in one transaction."""
        with self._lock:
            return self._log.append(batches, cursors)

    def read(self, after: int, rows_max: int) -> list[LogRow]:
        """Return rows after an offset."""
        with self._lock:
            return self._log.read(after, rows_max)

    def trim(self, upto: int) -> None:
        """Drop rows up to an offset."""
        with self._lock:
            self._log.trim(upto)

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


@contextmanager
def opened_spool(folder: Path) -> Iterator[SharedSpool]:
    """Open the spool of a state folder for as long as the block runs.

    Raises:
        Conflict: another agent works on this folder.
        Unavailable: the folder cannot be made or written.
    """
    with _locked(folder):
        log = SqliteEventLog(folder / SPOOL_NAME)
        try:
            yield SharedSpool(log)
        finally:
            log.close()


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
