"""The log partition of one API worker: the lowest free one, locked while the worker lives.

One writer a partition (DECISIONS 5). A file that SQLite calls malformed is put aside under a name
that `doctor` reports, and a new log, of a new epoch, takes its place, so that accepting goes on.
"""

import fcntl
import os
import time
from pathlib import Path

import structlog

from tallybook.adapters.sqlite.noted_log import NotedLog
from tallybook.kernel.errors import Corrupt, Unavailable

PARTITIONS_MAX = 256


class Partition:
    """A locked partition and its log.

    Attributes:
        number: from 0.
        log: this process is its only writer.
    """

    def __init__(self, number: int, lock_fd: int, log: NotedLog) -> None:
        """Keep the lock's descriptor open."""
        self.number = number
        self.log = log
        self._lock_fd = lock_fd

    def close(self) -> None:
        """Close the log and give the partition up."""
        self.log.close()
        os.close(self._lock_fd)


def take_lowest(log_dir: Path) -> Partition:
    """Lock the lowest free partition and open its log.

    Raises:
        Unavailable: the folder cannot be used, or no partition is free.
    """
    for number in range(PARTITIONS_MAX):
        if (partition := take(log_dir, number)) is not None:
            return partition
    raise Unavailable(f"all {PARTITIONS_MAX} log partitions are taken")


def take(log_dir: Path, number: int) -> Partition | None:
    """Lock one partition, or return None where another process has it."""
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        lock_fd = os.open(log_dir / f"p{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"{log_dir}: {error}") from error
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock_fd)
        return None  # taken: the answer to the question
    try:
        return Partition(number, lock_fd, _open(log_dir / f"p{number}.db"))
    except BaseException:
        os.close(lock_fd)
        raise


def _open(path: Path) -> NotedLog:
    try:
        return NotedLog(path)
    except Corrupt as error:
        put_aside(path, error)
        return NotedLog(path)


def put_aside(path: Path, error: Corrupt) -> None:
    """Rename a damaged log file and its companions; nothing of it is deleted."""
    mark = f".damaged-{time.time_ns() // 1000}"
    structlog.get_logger("log").error(
        "log.damaged", path=str(path), kept=path.name + mark, error=str(error)
    )
    for companion in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        if companion.exists():
            companion.rename(companion.with_name(companion.name + mark))
