"""What the table's log says, followed entry by entry.

deltalake answers the same from a snapshot of its own. To bring one up to date takes it 5 ms and,
with 1,500 files, 10, whatever came; it holds some 12 KiB for each file; and every process that
reads follows every commit. To read the entry of a commit takes a tenth of a millisecond. Where the
log was cleaned while nobody asked, and at the beginning, deltalake says what is.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import msgspec
import pyarrow as pa
from deltalake import DeltaTable

from tallybook.kernel.errors import Corrupt
from tallybook.store.ports import LakeFile

FOLLOWED_MAX = 1_000
"""Entries that are followed at once; who is further behind begins anew, for that costs less."""
LIST_SECONDS = 10.0
READER_MAX, WRITER_MAX = 1, 2
"""The table's protocol, as it was made."""
_DRAFT = "_commit_{}.json.tmp"
_OF_FILE = (
    "path", "num_records", "size_bytes",
    "min.commit_seq", "max.commit_seq", "min.time_us", "max.time_us",
)  # fmt: skip
"""What deltalake says of a file, in the order of `LakeFile`."""


class _Ends(msgspec.Struct):
    commit_seq: int
    time_us: int


class _Rows(msgspec.Struct):
    count: int = msgspec.field(name="numRecords")


class _Bounds(msgspec.Struct, rename="camel"):
    min_values: _Ends
    max_values: _Ends


class _Add(msgspec.Struct, rename="camel"):
    path: str
    size: int
    stats: str
    deletion_vector: msgspec.Raw | None = None


class _Remove(msgspec.Struct):
    path: str


class _Number(msgspec.Struct):
    name: str = msgspec.field(name="appId")
    number: int = msgspec.field(name="version")


class _Protocol(msgspec.Struct, rename="camel"):
    min_reader_version: int
    min_writer_version: int

    def is_foreign(self) -> bool:
        """Whether it asks for more than the table was made with."""
        return self.min_reader_version > READER_MAX or self.min_writer_version > WRITER_MAX


class _Action(msgspec.Struct):
    """A line of an entry; the other kinds say nothing that is asked here."""

    add: _Add | None = None
    remove: _Remove | None = None
    txn: _Number | None = None
    protocol: _Protocol | None = None


class _Checkpoint(msgspec.Struct):
    version: int


class _Entry(msgspec.Struct, frozen=True):
    """What an entry changes."""

    added: list[LakeFile]
    removed: list[str]
    numbers: dict[str, int]


_ACTIONS = msgspec.json.Decoder(_Action)


class TableLog:
    """The live files of a table and the newest number under each name; safe for threads.

    Args:
        path: the table's folder.
    """

    def __init__(self, path: Path) -> None:
        """Take over what the table says; raises DeltaError, OSError, Corrupt."""
        self._path = path
        self._entries = path / "_delta_log"
        self._draft = self._entries / _DRAFT.format(uuid4())
        self._lock = threading.RLock()
        self._listed = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        table = DeltaTable(str(self._path))
        files = _files_of(self._path, table)
        self._version = table.version()
        self._files = files
        self._numbers: dict[str, int] = {}
        self._asked: DeltaTable | None = table
        self._sorted: Sequence[LakeFile] | None = None

    @property
    def version(self) -> int:
        """The version that was followed up to."""
        return self._version

    def refresh(self) -> int:
        """Follow all entries there are; return the version.

        Raises:
            OSError, DeltaError: the log can not be read.
            Corrupt: an entry is not what a commit of ours writes.
        """
        with self._lock:
            before = self._version
            while self._follow():
                if self._version - before == FOLLOWED_MAX:
                    self._begin()
            if self._version > before:
                self._asked = None
            return self._version

    def enter(self, content: bytes) -> bool:
        """Make the next entry, whole and synced; False where another writer has made it.

        Its name is not synced. Nothing is raised once the entry can be seen.
        """
        self._draft.unlink(missing_ok=True)  # it is the entry before, by another name
        with self._draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            self._entry(self._version + 1).hardlink_to(self._draft)
        except FileExistsError:  # a network's file system may say so of what it has just made
            return self._draft.stat().st_nlink > 1
        return True

    def sweep(self, hours: float) -> None:
        """Remove the drafts of processes that ended long ago."""
        before = time.time() - hours * 3600
        for draft in self._entries.glob(_DRAFT.format("*")):
            with suppress(FileNotFoundError):  # its process made the next one
                if draft.stat().st_mtime < before:
                    draft.unlink()

    def _entry(self, version: int) -> Path:
        return self._entries / f"{version:020d}.json"

    def _follow(self) -> bool:
        """Follow the next entry; False where there is none yet."""
        path = self._entry(self._version + 1)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            if not self._entries.is_dir():
                raise
            if self._newest() <= self._version:
                return False
            if not path.exists():  # it was cleaned away, not written a moment ago
                before = self._version
                self._begin()
                if self._version == before:
                    raise Corrupt(f"{path} is missing, and later entries are there") from None
            return True
        try:
            entry = _read(self._path, content)
        except (msgspec.DecodeError, ValueError) as error:
            raise Corrupt(f"{path} is no entry that Tallybook writes: {error}") from error
        for name in entry.removed:
            self._files.pop(name, None)
        self._files |= {file.path: file for file in entry.added}
        self._numbers |= entry.numbers
        self._sorted = None
        self._version += 1
        return True

    def _newest(self) -> int:
        """Return a version that there is, as far as the newest checkpoint says.

        That is a hint, which a power cut may take away; so the log itself is looked at now and
        then.
        """
        now = time.monotonic()
        if now - self._listed < LIST_SECONDS:
            return self.checkpoint()
        self._listed = now
        names = (path.name.partition(".")[0] for path in self._entries.iterdir())
        return max((int(name) for name in names if name.isdecimal()), default=-1)

    def checkpoint(self) -> int:
        """Return the version of the newest checkpoint, -1 where none is told."""
        try:
            content = (self._entries / "_last_checkpoint").read_bytes()
            return msgspec.json.decode(content, type=_Checkpoint).version
        except (FileNotFoundError, msgspec.DecodeError):  # it is a hint, and written carelessly
            return -1

    def files(self) -> Sequence[LakeFile]:
        """Return the live files, by commit."""
        with self._lock:
            if self._sorted is None:
                self._sorted = sorted(self._files.values(), key=lambda f: (f.seq_min, f.path))
            return self._sorted

    def number(self, name: str) -> int:
        """Return the newest number that commits noted under a name; 0 where none did.

        One that no entry had since the beginning is asked of deltalake, once.
        """
        with self._lock:
            found = self._numbers.get(name)
            if found is None:
                if self._asked is None:
                    self._asked = DeltaTable(str(self._path))
                found = self._numbers[name] = self._asked.transaction_version(name) or 0
            return found


def _files_of(path: Path, table: DeltaTable) -> dict[str, LakeFile]:
    actions: Any = pa.table(table.get_add_actions(flatten=True))
    if actions.num_rows == 0:
        return {}
    told = [actions[column].to_pylist() for column in _OF_FILE]
    if any(value is None for values in told[1:3] for value in values):
        raise Corrupt(f"{path}: a file says nothing of its rows; Tallybook did not write it")
    files = (
        LakeFile(
            path=f"{path}/{name}", rows=rows, bytes=size, seq_min=seq_min,
            seq_max=seq_max, time_min=time_min, time_max=time_max,
        )
        for name, rows, size, seq_min, seq_max, time_min, time_max in zip(*told, strict=True)
        if rows
    )  # fmt: skip
    return {file.path: file for file in files}


def _read(path: Path, content: bytes) -> _Entry:
    """Return what an entry changes; raises ValueError, DecodeError."""
    entry = _Entry([], [], {})
    for line in content.splitlines():
        action = _ACTIONS.decode(line)
        if action.add is not None:
            entry.added.extend(_file(path, action.add))
        if action.remove is not None:
            entry.removed.append(_placed(path, action.remove.path))
        if action.txn is not None:
            entry.numbers[action.txn.name] = action.txn.number
        if action.protocol is not None and action.protocol.is_foreign():
            raise ValueError("the table was changed to a protocol that is not ours")
    return entry


def _file(path: Path, add: _Add) -> Iterator[LakeFile]:
    """Yield the file, where it has rows."""
    if add.deletion_vector is not None:
        raise ValueError(f"{add.path} has rows that were deleted beside it")
    place, rows = _placed(path, add.path), msgspec.json.decode(add.stats, type=_Rows).count
    if rows:
        bounds = msgspec.json.decode(add.stats, type=_Bounds)
        least, most = bounds.min_values, bounds.max_values
        yield LakeFile(
            path=place, rows=rows, bytes=add.size, seq_min=least.commit_seq,
            seq_max=most.commit_seq, time_min=least.time_us, time_max=most.time_us,
        )  # fmt: skip


def _placed(path: Path, name: str) -> str:
    """Return where a file is, whose name the log spells as part of an address."""
    if name.startswith("/") or ":" in name:
        raise ValueError(f"{name} is not in the table's folder")
    return f"{path}/{unquote(name)}"
