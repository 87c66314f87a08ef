"""A file of complete events that several processes append to and an agent follows."""

import contextlib
import fcntl
import logging
import os
import secrets
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from threading import Lock

import msgspec

from tallybook.kernel.errors import Unavailable
from tallybook.kernel.limits import EVENT_BYTES_MAX
from tallybook.kernel.timestamps import format_us

_LOG = logging.getLogger("tallybook")
ROTATE_BYTES = 64 * 1024 * 1024


class Journal:
    """Appends events to a file; safe for threads, forks and several processes.

    Args:
        path: the file; its folder must exist.
        source: the events' source; None is `app:` and the file's name.
        rotate_bytes: at this size the file is renamed and a new one begun.
        durable: wait for the disk at every line.
        strict: raise where a line cannot be written, rather than count it as lost.

    Attributes:
        lost: lines that could not be written.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        source: str | None = None,
        rotate_bytes: int = ROTATE_BYTES,
        durable: bool = False,
        strict: bool = False,
    ) -> None:
        """Open nothing before the first line."""
        self.path = Path(path).absolute()
        self.source = source or f"app:{self.path.name}"
        self.lost = 0
        self._rotate_bytes = rotate_bytes
        self._durable = durable
        self._strict = strict
        self._lock = Lock()
        self._file = -1
        self._begin()

    def event(
        self,
        kind: str,
        data: Mapping[str, object],
        *,
        subject: str | None = None,
        time_us: int | None = None,
    ) -> None:
        """Append one event.

        Args:
            kind: its type.
            data: its JSON object; money and usage as int, Decimal or text, not as float.
            subject: who used it.
            time_us: when, microseconds UTC; None is now.

        Raises:
            Unavailable: `strict`, and the line cannot be written.
        """
        line: dict[str, object] = {
            "specversion": "1.0",
            "type": kind,
            "source": self.source,
            "id": self._id(),
        }
        if subject:
            line["subject"] = subject
        line["time"] = format_us(time.time_ns() // 1000 if time_us is None else time_us)
        line["data"] = data
        encoded = msgspec.json.encode(line)
        if len(encoded) > EVENT_BYTES_MAX:
            self._lose(f"an event of {len(encoded)} bytes is larger than {EVENT_BYTES_MAX}")
            return
        self._append(encoded + b"\n")

    def close(self) -> None:
        """Close the file; a later event opens it again."""
        with self._lock:
            self._close()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._own = secrets.token_hex(8)
        self._numbers = count(1)

    def _id(self) -> str:
        if self._pid != os.getpid():  # forked: the child's ids are its own
            with self._lock:
                if self._pid != os.getpid():
                    self._begin()
        return f"{self._own}-{next(self._numbers)}"

    def _append(self, line: bytes) -> None:
        try:
            with self._lock:
                file = self._opened()
                written = os.write(file, line)
                if written != len(line):
                    os.write(file, b"\n")  # the half line stands alone, and goes to quarantine
                    raise OSError("the disk is full")
                if self._durable:
                    os.fsync(file)
        except OSError as error:
            self._lose(f"{self.path}: {error.strerror or error}")

    def _lose(self, message: str) -> None:
        self.lost += 1
        if self._strict:
            raise Unavailable(message)
        if self.lost & (self.lost - 1) == 0:  # the first, second, fourth, eighth …
            _LOG.error("usage is lost: %s (%d lines so far)", message, self.lost)

    def _opened(self) -> int:
        """Return the file under the journal's name, renamed first where it is too large."""
        while True:
            if self._file >= 0 and self._is_current():
                if os.fstat(self._file).st_size < self._rotate_bytes:
                    return self._file
                self._rotate()
            self._close()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._file = os.open(self.path, flags, 0o640)

    def _is_current(self) -> bool:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(self._file)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def _rotate(self) -> None:
        """Rename the file, once, whichever process comes first."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            if self._is_current():
                stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
                name = f"{self.path.name}.{stamp}-{time.time_ns() % 10**9:09d}"
                self.path.rename(self.path.with_name(name))
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _close(self) -> None:
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1
