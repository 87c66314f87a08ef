"""The live files of the lake, as one process last saw them."""

import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

from tallybook.meter.usage import Counters
from tallybook.store.ports import LakeFile

PORTION_FILES = 4
"""Files that are read first to find the first or last rows; then four times as many."""


class VersionedTable(Protocol):
    """What the reader needs of the lake's event table."""

    def head(self) -> int:
        """Take note of new commits; return the newest one's number."""
        ...

    def version(self) -> int:
        """Return a number that grows with every change of the file list."""
        ...

    def files(self) -> Sequence[LakeFile]:
        """Return the live files, by commit."""
        ...

    def counters(self, tenant: str) -> Counters:
        """Return a tenant's totals."""
        ...


class LakeFiles:
    """Caches the file list until the table changes; safe for threads."""

    def __init__(self, table: VersionedTable) -> None:
        """Wrap the event table."""
        self._table = table
        self._lock = threading.Lock()
        self._version = -1
        self._head = 0
        self._files: Sequence[LakeFile] = ()

    def now(self) -> tuple[int, Sequence[LakeFile]]:
        """Return head and live files of one and the same version."""
        with self._lock:
            self._head, version = self._table.head(), self._table.version()
            if version != self._version:
                self._files = self._table.files()
                moved = self._table.version() != version  # another thread took note of more
                self._version = -1 if moved else version
            return self._head, self._files

    def counters(self, tenant: str) -> Counters:
        """Return a tenant's totals, fresh."""
        with self._lock:
            self._table.head()
            return self._table.counters(tenant)


def of_commits(files: Sequence[LakeFile], after: int, upto: int) -> list[LakeFile]:
    """Return the files that may hold rows of the commits after `after`, up to `upto`."""
    return [f for f in files if f.seq_max > after and f.seq_min <= upto]


def of_times(files: Sequence[LakeFile], start_us: int, end_us: int) -> list[LakeFile]:
    """Return the files that may hold events of a time range."""
    return [f for f in files if f.time_max >= start_us and f.time_min < end_us]


def portions(files: Sequence[LakeFile]) -> Iterator[Sequence[LakeFile]]:
    """Yield files in their order, a few at first, for who hopes not to need them all."""
    at, many = 0, PORTION_FILES
    while at < len(files):
        yield files[at : at + many]
        at, many = at + many, many * 4
