"""Follows a log file through everything that rotation does to it.

On every read the files behind the name are looked at, oldest first: rotated siblings
(`access.log.1`, `access.log-20150517`, `access.log.2.gz`), a file that was renamed or deleted while
it was open, and the file of that name. What each is, its first line tells; where reading goes on,
the position kept for that. So nothing depends on names or inodes surviving a restart, and
`copytruncate` loses no line that reached the copy.

Known limit: lines that are deleted before they are read (rotation that keeps no copy while the
agent is down; truncation without a copy) cannot be read by anybody.
"""

import gzip
import os
import re
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from zstandard import ZstdError

from tallybook.adapters.files.lines import LineFile, first_line_print, still_there
from tallybook.adapters.files.zstd import ZstdFile
from tallybook.collect.following import Chunk, Followed, Position
from tallybook.collect.lines import Line
from tallybook.kernel.errors import Unavailable

_HELD_MAX = 2
_SUFFIXES = frozenset({".gz", ".zst"})
_PACKED = r"(?:\.gz|\.zst)?"
_DATED = r"[.-]\d[\d._T-]*"


class Candidate:
    """One file that may hold lines not read yet."""

    def __init__(
        self, file: BinaryIO, stat: os.stat_result, *, current: bool, packed: bool = False
    ) -> None:
        """Keep the open file and what was known of it when it was opened."""
        self.file = file
        self.current = current
        self.packed = packed
        self.modified_us = stat.st_mtime_ns // 1000
        self.key = (stat.st_dev, stat.st_ino)
        self.state = (stat.st_size, stat.st_mtime_ns)


class FileTail:
    """`LineSource` of one log file by its path.

    Args:
        path: the live file; it need not exist yet.
        from_oldest: begin with rotated files that are there already, not with the live one.
        headed: files begin with directives (W3C). Where there is none of this name, the live one
            is the newest whose name has digits before its extension, as IIS writes them:
            `u_ex251121.log` for `u_ex.log`.
    """

    def __init__(self, path: Path, *, from_oldest: bool = False, headed: bool = False) -> None:
        """Nothing is opened before the first read."""
        self._headed = headed
        self._from_oldest = from_oldest
        self._path = path.absolute()
        self._sibling = (_dated_pattern if headed else _sibling_pattern)(path.name)
        self._held: list[BinaryIO] = []
        self._unpacking: _Unpacking | None = None
        self._done: dict[tuple[int, int], tuple[int, int]] = {}

    @property
    def name(self) -> str:
        """The absolute path."""
        return str(self._path)

    def read(self, followed: Followed, bytes_max: int) -> Chunk:
        """Return the next complete lines, oldest file first; none when all is read.

        Raises:
            Unavailable: a file cannot be read, or there is none of this name (yet).
        """
        try:
            for candidate in self._candidates(followed):
                chunk = self._from(candidate, followed, bytes_max)
                if chunk is not None:
                    return chunk
        except OSError as error:
            raise Unavailable(f"cannot be read: {error.strerror or error}") from error
        if not self._live().exists():
            raise Unavailable("there is no such file yet; waiting for it")
        return Chunk(lines=(), fingerprint="", followed=followed)

    def remove_read(self, rest_seconds: float) -> int:
        """Delete rotated files that are read to their end; return how many.

        Call it when all that was read is kept.

        Args:
            rest_seconds: a file stays until so long after it was last written.

        Raises:
            Unavailable: the folder cannot be written.
        """
        before = time.time_ns() - int(rest_seconds * 1_000_000_000)
        try:
            spent = [path for path, stat in self._rotated() if self._is_spent(stat, before)]
            for path in spent:
                Path(path).unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"cannot be tidied: {error.strerror or error}") from error
        return len(spent)

    def _is_spent(self, stat: os.stat_result, before_ns: int) -> bool:
        state = (stat.st_size, stat.st_mtime_ns)
        return stat.st_mtime_ns < before_ns and self._done.get((stat.st_dev, stat.st_ino)) == state

    def close(self) -> None:
        """Close what is held open."""
        self._stop_unpacking()
        while self._held:
            self._held.pop().close()

    def _candidates(self, followed: Followed) -> Iterator[Candidate]:
        if followed.files or self._from_oldest:
            yield from self._siblings()
        current = self._open_current()
        for file in self._held:
            stat = os.fstat(file.fileno())
            yield Candidate(file, stat, current=file is current)

    def _open_current(self) -> BinaryIO | None:
        """Return the open file that has the name now; one that lost the name stays held."""
        live = self._live()
        try:
            stat = live.stat()
        except FileNotFoundError:
            return None
        for file in self._held:
            held = os.fstat(file.fileno())
            if (held.st_dev, held.st_ino) == (stat.st_dev, stat.st_ino):
                return file
        opened = live.open("rb")
        self._held.append(opened)
        while len(self._held) > _HELD_MAX:
            self._held.pop(0).close()
        return opened

    def _live(self) -> Path:
        """Return the file that is written now."""
        if not self._headed or self._path.exists():
            return self._path
        return Path(max((path for path, _ in self._rotated()), default=str(self._path)))

    def _siblings(self) -> Iterator[Candidate]:
        """Yield rotated files that changed since they were read to the end, oldest first."""
        found = sorted((stat.st_mtime_ns, path) for path, stat in self._rotated())
        for _, path in found:
            yield from self._sibling_at(Path(path))

    def _rotated(self) -> list[tuple[str, os.stat_result]]:
        with os.scandir(self._path.parent) as entries:
            return [
                (entry.path, entry.stat())
                for entry in entries
                if self._sibling.fullmatch(entry.name) and entry.is_file()
            ]

    def _sibling_at(self, path: Path) -> Iterator[Candidate]:
        try:
            stat = path.stat()
            if self._done.get((stat.st_dev, stat.st_ino)) == (stat.st_size, stat.st_mtime_ns):
                return
            file = _opened(path)
        except FileNotFoundError:  # rotated on since it was listed; it is found again
            return
        candidate = Candidate(file, stat, current=False, packed=path.suffix in _SUFFIXES)
        try:
            yield candidate
        finally:
            if self._unpacking is None or self._unpacking.file is not file:
                file.close()

    def _from(self, candidate: Candidate, followed: Followed, bytes_max: int) -> Chunk | None:
        if self._done.get(candidate.key) == candidate.state:
            return None
        try:
            chunk = self._unpacked(candidate, followed, bytes_max)
            if chunk is None:
                chunk = self._next_lines(candidate, followed, bytes_max)
        except (EOFError, gzip.BadGzipFile, zlib.error, ZstdError):
            self._stop_unpacking()
            return None  # being compressed just now; its original is still there
        if chunk is None or not chunk.lines:
            self._done[candidate.key] = candidate.state
            self._stop_unpacking()
            return None
        return chunk

    def _unpacked(self, candidate: Candidate, followed: Followed, bytes_max: int) -> Chunk | None:
        """Return what follows in the compressed file that is being read; None where it is not that.

        To go to a position in one means to unpack everything before it, so it is kept open
        between two pieces, as long as what was read is what was kept.
        """
        going = self._unpacking
        if going is None or going.key != candidate.key or going.state != candidate.state:
            return None
        kept = followed.find(going.position.fingerprint)
        if kept is None or kept.offset != going.position.offset:
            self._stop_unpacking()
            return None
        going.position = kept  # with what the file said of how to read it
        lines = _up_to(going.lines, bytes_max)
        if lines:
            going.position = going.position.after(lines[-1])
            followed = followed.moved(going.position, candidate.modified_us)
        return Chunk(lines=lines, fingerprint=going.position.fingerprint, followed=followed)

    def _stop_unpacking(self) -> None:
        if self._unpacking is not None:
            self._unpacking.file.close()
            self._unpacking = None

    def _next_lines(self, candidate: Candidate, followed: Followed, bytes_max: int) -> Chunk | None:
        """Return the next lines of one file, None where it is nothing to read."""
        begun = _begun(candidate, followed, headed=self._headed)
        if begun is None:
            return None
        position, notes = begun
        candidate.file.seek(position.offset)
        reader = iter(LineFile(candidate.file, position.offset))
        lines = _up_to(reader, bytes_max)
        if lines:
            position = position.after(lines[-1])
            followed = followed.moved(position, candidate.modified_us)
            if candidate.packed:
                self._stop_unpacking()
                self._unpacking = _Unpacking(candidate, reader, position)
        fingerprint = position.fingerprint
        return Chunk(lines=lines, fingerprint=fingerprint, followed=followed, notes=notes)


class _Unpacking:
    """A compressed file that is read piece by piece.

    Attributes:
        position: after the last line that was handed out.
        lines: what follows.
    """

    def __init__(self, candidate: Candidate, lines: Iterator[Line], position: Position) -> None:
        self.file = candidate.file
        self.key = candidate.key
        self.state = candidate.state
        self.lines = lines
        self.position = position


def _begun(
    candidate: Candidate, followed: Followed, *, headed: bool
) -> tuple[Position, tuple[str, ...]] | None:
    """Return where to read a file from, with notes; None where it is nothing to read."""
    found = first_line_print(candidate.file, headed=headed)
    if found is None:
        return None
    known = followed.find(found)
    notes: tuple[str, ...] = ()
    if known is None:
        # Equal counts as unread: two rotations may fall into one tick of the file system's clock.
        unread = candidate.current or candidate.modified_us >= followed.modified_us
        if not unread:
            return None
        known = Position(fingerprint=found)
    elif not _holds(candidate.file, known):
        if not candidate.current:
            return None
        notes = ("the file was written anew; reading it from the start",)
        known = Position(fingerprint=found)
    return known, notes


def _opened(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.open(path))
    if path.suffix == ".zst":
        return cast("BinaryIO", ZstdFile(path))
    return path.open("rb")


def _holds(file: BinaryIO, known: Position) -> bool:
    if not known.last_digest:
        return True
    return still_there(file, known.last_offset, known.last_length, known.last_digest)


def _up_to(lines: Iterator[Line], bytes_max: int) -> tuple[Line, ...]:
    """Return lines until they add up to `bytes_max`, at least one; what follows is not taken."""
    found: list[Line] = []
    size = 0
    while size < bytes_max and (line := next(lines, None)) is not None:
        found.append(line)
        size += line.length + 1
    return tuple(found)


def _dated_pattern(name: str) -> "re.Pattern[str]":
    """Return what the names of rotated files match, with dates right before the extension too."""
    stem, dot, extension = name.rpartition(".")
    after = re.escape(dot + extension) if stem else ""
    dated = re.escape(stem or name) + r"\d{4,12}(?:_x)?" + after + _PACKED
    return re.compile(f"{_sibling_pattern(name).pattern}|{dated}")


def _sibling_pattern(name: str) -> "re.Pattern[str]":
    stem, dot, extension = name.rpartition(".")
    whole = re.escape(name) + rf"(?:{_DATED}|\.old){_PACKED}"
    if not stem:
        return re.compile(whole)
    between = re.escape(stem) + _DATED + re.escape(dot + extension) + _PACKED
    return re.compile(f"{whole}|{between}")
