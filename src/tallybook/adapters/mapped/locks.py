"""Locks on single bytes of a file, between the processes of one machine.

They belong to the open file, not to the process (OFD locks), so that two users in one process keep
each other out too; the kernel drops them when the process ends, however it ends. Where the system
has none, the older locks of POSIX stand in: then one process may open a lock file once only.
"""

import errno
import fcntl
import os
import struct
import time
from pathlib import Path

from tallybook.kernel.errors import Unavailable

WAIT_SECONDS_MAX = 1.0
"""A holder computes for microseconds; one that is stopped for longer must not stop everybody."""
PAUSE_SECONDS = 0.00002

_SET = getattr(fcntl, "F_OFD_SETLK", None) if struct.calcsize("P") == 8 else None
_FLOCK = "hhqqi4x"
"""`struct flock` where addresses have 64 bits: type, whence, start, length, process."""
_BUSY = frozenset({errno.EAGAIN, errno.EACCES})


class ByteLocks:
    """The bytes of one lock file.

    Args:
        path: made when absent.

    Raises:
        Unavailable: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; it stays open."""
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}", code="limits-unavailable") from error
        self._calls: dict[int, tuple[bytes, bytes]] = {}

    def take(self, byte: int) -> None:
        """Lock a byte; raises Unavailable where it is not free in time."""
        if self.try_take(byte):
            return
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not self.try_take(byte):
            if time.monotonic() > deadline:
                message = "another process does not give the counts of limits free; try again"
                raise Unavailable(message, code="limits-unavailable", retry_after_seconds=1)
            time.sleep(PAUSE_SECONDS)

    def try_take(self, byte: int) -> bool:
        """Lock a byte where it is free; return whether it was."""
        try:
            if _SET is None:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            else:
                fcntl.fcntl(self._file, _SET, self._spelled(byte)[0])
        except OSError as error:
            if error.errno in _BUSY:
                return False
            raise Unavailable(f"lock: {error.strerror}", code="limits-unavailable") from error
        return True

    def drop(self, byte: int) -> None:
        """Give a byte free."""
        if _SET is None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)
        else:
            fcntl.fcntl(self._file, _SET, self._spelled(byte)[1])

    def close(self) -> None:
        """Give every byte free and close the file."""
        os.close(self._file)

    def _spelled(self, byte: int) -> tuple[bytes, bytes]:
        found = self._calls.get(byte)
        if found is None:
            found = self._calls[byte] = (
                struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0),
                struct.pack(_FLOCK, fcntl.F_UNLCK, os.SEEK_SET, byte, 1, 0),
            )
        return found
