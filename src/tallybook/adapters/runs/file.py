"""A run's file: written in sorted pieces, read where it is asked.

Layout, little-endian: a page with the header (magic, first and last commit, keys, blocks of
the filter), then the high halves, the low halves, the row hashes, the blocks, and the fences of the
high halves, each as one array of 64-bit integers. A file is written whole, fsynced and then named
`<first>-<last>.run`, so a crash leaves either the run or nothing.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from tallybook.adapters.runs.column import (
    Column,
    OpenFile,
    SortedColumn,
    fence_count,
    fences_of,
)
from tallybook.kernel.errors import Corrupt
from tallybook.store.dedupe import (
    BLOCK_WORDS,
    I64,
    U64,
    Bloom,
    Places,
    Run,
    bloom_blocks,
    bloom_part,
    merge_slices,
)

_WORD = np.dtype("<u8")
_BLOCK = np.dtype(f"V{BLOCK_WORDS * _WORD.itemsize}")
_HEADER = struct.Struct("<8sQQQQ")
_HEADER_BYTES = 4096
"""So that a block of high halves is a page."""
_MAGIC = b"TBRUN\x00\x00\x03"
_BEFORE = frozenset({b"TBRUN\x00\x00\x01", b"TBRUN\x00\x00\x02"})
"""Files of those versions had another layout; such a run is made anew from the lake."""


class FileBloom(Bloom):
    """A filter whose blocks are a file's.

    Args:
        blocks: its column.
    """

    __slots__ = ("_column",)

    def __init__(self, blocks: Column[np.void]) -> None:
        """Read nothing yet."""
        super().__init__(np.empty(0, dtype=np.uint64))
        self._column = blocks

    def blocks(self) -> int:
        """Return how many blocks there are."""
        return len(self._column)

    def portions(self, slots: Places) -> Iterator[tuple[int, int, int, U64]]:
        """Read what is asked; each portion is overwritten by the next."""
        for first, last, blocks in self._column.spans(slots, 1):
            yield first, last, int(slots[first]), blocks.view(np.uint64)


class FileRun(Run):
    """A run whose columns are a file's.

    Args:
        path: of the file.
        first, last: its commits.
        count: how many keys.
        blocks: of its filter.

    Raises:
        OSError, Corrupt: the file can not be read.

    Cost: a fence of 8 bytes for each 512 keys, and what is read at a time, about 2 MiB.
    """

    __slots__ = ("path",)

    def __init__(self, path: Path, first: int, last: int, count: int, blocks: int) -> None:
        """Open the file and read its fences."""
        self.path = path
        file, column = OpenFile(path), _WORD.itemsize * count
        hi, lo, row_hash, bloom = (_HEADER_BYTES + number * column for number in range(4))
        at = bloom + _BLOCK.itemsize * blocks
        fences = Column(file, at, fence_count(count), _WORD)[:]
        super().__init__(
            first,
            last,
            SortedColumn(file, hi, count, fences),
            Column(file, lo, count, _WORD),
            Column(file, row_hash, count, np.dtype("<i8")),
            FileBloom(Column(file, bloom, blocks, _BLOCK)),
        )


def path_of(folder: Path, first: int, last: int) -> Path:
    """Return where the run of these commits is."""
    return folder / f"{first:020d}-{last:020d}.run"


def range_of(path: Path) -> tuple[int, int]:
    """Return the commits that a file's name says; raises Corrupt."""
    first, _, last = path.stem.partition("-")
    if not (first.isdecimal() and last.isdecimal()):
        raise _damaged(path)
    return int(first), int(last)


def is_outdated(path: Path) -> bool:
    """Whether a file is of a version before this one."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) in _BEFORE


def opened(path: Path) -> FileRun:
    """Return a run; raises Corrupt where the file is not whole."""
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size or head[:8] != _MAGIC:
            raise _damaged(path)
        _, first, last, count, blocks = _HEADER.unpack(head)
        whole = os.fstat(file.fileno()).st_size == _size(count, blocks)
        if not whole or (first, last) != range_of(path):
            raise _damaged(path)
    return FileRun(path, first, last, count, blocks)


def _size(count: int, blocks: int) -> int:
    words = 3 * count + fence_count(count)
    return _HEADER_BYTES + _WORD.itemsize * words + _BLOCK.itemsize * blocks


class Draft:
    """A run's file in the making.

    Args:
        folder: where.
        first, last: its commits.
        count: how many keys the pieces will hold together.
    """

    def __init__(self, folder: Path, first: int, last: int, count: int) -> None:
        """Make a file of the final size; raises OSError."""
        self._path = path_of(folder, first, last)
        self._draft = self._path.with_suffix(".tmp")
        self._count, self._blocks, self._done = count, bloom_blocks(count), 0
        self._last: tuple[int, U64] = (-1, np.empty(0, dtype=np.uint64))
        self._fences: list[U64] = [np.empty(0, dtype=np.uint64)]
        self._file = self._draft.open("wb")
        self._file.truncate(_size(count, self._blocks))
        self._write(_HEADER.pack(_MAGIC, first, last, count, self._blocks), 0)

    def add(self, hi: U64, lo: U64, row_hash: I64) -> None:
        """Write the next keys, which follow all before in order, to stable storage."""
        size, before = _WORD.itemsize, self._done
        for column, array in enumerate((hi, lo, row_hash)):
            self._put(array, size * (column * self._count + before))
        self._fences.append(fences_of(hi, before))
        self._done += len(hi)
        slots, words = bloom_part(hi, lo, self._blocks)
        if len(slots):
            begin = int(slots[0])
            filled = np.zeros((int(slots[-1]) - begin + 1, words.shape[1]), dtype=np.uint64)
            filled[slots - begin] = words
            if self._last[0] == begin:  # the piece before ended within this block
                filled[0] |= self._last[1]
            self._last = (int(slots[-1]), filled[-1])
            self._put(filled, size * 3 * self._count + _BLOCK.itemsize * begin)
        os.fdatasync(self._file.fileno())  # piece by piece: one sync of all would take seconds

    def finish(self) -> FileRun:
        """Name the file, and return it as a run."""
        assert self._done == self._count, "a run holds what was announced"
        words = _WORD.itemsize * 3 * self._count
        self._put(np.concatenate(self._fences), words + _BLOCK.itemsize * self._blocks)
        os.fsync(self._file.fileno())
        self._file.close()
        self._draft.replace(self._path)
        return opened(self._path)

    def discard(self) -> None:
        """Give up."""
        self._file.close()
        self._draft.unlink(missing_ok=True)

    def _put(self, array: npt.NDArray[Any], at: int) -> None:
        self._write(np.ascontiguousarray(array).data.cast("B"), _HEADER_BYTES + at)

    def _write(self, content: bytes | memoryview, at: int) -> None:
        left = memoryview(content)
        while left:
            written = os.pwrite(self._file.fileno(), left, at)
            left, at = left[written:], at + written


_Run = TypeVar("_Run", bound=Run)


class Merge(Generic[_Run]):
    """Runs on their way into one file, a bounded piece at a time.

    Args:
        folder: of the files.
        runs: which adjoin in commits and share no identity.
    """

    def __init__(self, folder: Path, runs: Sequence[_Run]) -> None:
        """Begin; raises OSError."""
        self.runs = list(runs)
        self._at = [0] * len(runs)
        self.draft = Draft(folder, runs[0].first_seq, runs[-1].last_seq, sum(map(len, runs)))

    def advance(self, keys_max: int) -> int:
        """Merge about so many keys; return how many, 0 where all are."""
        ends = self._ends(keys_max)
        parts = [
            (run.hi[at:end], run.lo[at:end], run.row_hash[at:end])
            for run, at, end in zip(self.runs, self._at, ends, strict=True)
        ]
        count = sum(ends) - sum(self._at)
        if count:
            self.draft.add(*merge_slices(parts))
        self._at = ends
        return count

    def _ends(self, keys_max: int) -> list[int]:
        """Return up to where each run is merged next: all keys up to one border."""
        left = [len(run) - at for run, at in zip(self.runs, self._at, strict=True)]
        if sum(left) <= keys_max:
            return [len(run) for run in self.runs]
        longest = left.index(max(left))
        step = max(1, left[longest] * keys_max // sum(left))
        at = self._at[longest] + step - 1
        border = self.runs[longest].hi[at : at + 1]
        return [int(run.hi.searchsorted(border, "right")[0]) for run in self.runs]


def _damaged(path: Path) -> Corrupt:
    return Corrupt(f"{path} is no whole run of the duplicate index; remove it, it is built again")
