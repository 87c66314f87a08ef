"""Files that arrive in a folder: found by a pattern, read once they have come to rest."""

import gzip
import time
import zlib
from collections.abc import Iterator
from glob import iglob
from pathlib import Path
from stat import S_ISREG

import msgspec

from tallybook.kernel.errors import Unavailable

FILES_MAX = 20_000


class Arrived(msgspec.Struct, frozen=True, order=True):
    """A file as it was found.

    Attributes:
        modified_ns: when it was last written; with the size, what tells that it changed.
        path: where it is.
        size: bytes on disk.
    """

    modified_ns: int
    path: str
    size: int


class Folder:
    """The files that match a pattern.

    Args:
        pattern: a path with `*`, `?` and `**`.
        rest_seconds: a file is left alone until so long after it was last written.
    """

    def __init__(self, pattern: Path, rest_seconds: float) -> None:
        """Look at nothing yet."""
        self._pattern = str(pattern.absolute())
        self._rest_ns = int(rest_seconds * 1_000_000_000)

    def files(self) -> list[Arrived]:
        """Return the files at rest, the oldest first."""
        before = time.time_ns() - self._rest_ns
        return sorted(found for found in self._all() if found.modified_ns <= before)

    def _all(self) -> Iterator[Arrived]:
        found = iglob(self._pattern, recursive=True)  # noqa: PTH207 - the pattern is absolute
        for number, path in enumerate(map(Path, found)):
            if number >= FILES_MAX:
                raise Unavailable(f"more than {FILES_MAX} files match {self._pattern}")
            try:
                stat = path.stat()
            except FileNotFoundError:  # moved away since it was listed
                continue
            if S_ISREG(stat.st_mode):
                yield Arrived(stat.st_mtime_ns, str(path), stat.st_size)


def content_of(path: str, bytes_max: int) -> bytes:
    """Return a file's bytes, decompressed where its name ends in `.gz`.

    Raises:
        Unavailable: it cannot be read, or is larger than it may be.
    """
    try:
        with gzip.open(path) if path.endswith(".gz") else Path(path).open("rb") as file:
            content = file.read(bytes_max + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Unavailable(f"{path} cannot be read: {error}") from error
    if len(content) > bytes_max:
        raise Unavailable(f"{path} has more than {bytes_max >> 20} MiB; split it")
    return bytes(content)
