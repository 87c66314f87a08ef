"""A run's file: written in sorted pieces, mapped into memory to be read.

Layout, little-endian: header (magic, first and last commit, keys, words of the filter), then the
high halves, the low halves, the row hashes, and the words, each as one array of 64-bit integers.
A file is written whole, fsynced and then named `<first>-<last>.run`, so a crash leaves either the
run or nothing.
"""

import mmap
import os
import struct
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from tallybook.kernel.errors import Corrupt
from tallybook.store.dedupe import I64, U64, Bloom, Run, bloom_part, bloom_words, merge_slices

ASKED_BYTES = 64 * 1024 * 1024
"""Bytes of a file that a batch of sorted keys touches before their pages are let go: what it takes
of memory at most, however large the file. The system maps pages around each one that is touched, so
a batch of a hundred thousand would take hold of most of a run of a hundred million."""
_HEADER = struct.Struct("<8sQQQQ")
_MAGIC = b"TBRUN\x00\x00\x02"
_BEFORE = b"TBRUN\x00\x00\x01"
"""Filters of that version were in another order; such a run is made anew from the lake."""


class Mapped(Run):
    """A run whose arrays are a file's pages.

    Attributes:
        path: of the file.
    """

    __slots__ = ("_pages", "path")

    def __init__(
        self, path: Path, first: int, last: int, arrays: list[U64], pages: mmap.mmap
    ) -> None:
        """Wrap high halves, low halves, row hashes and words."""
        hi, lo, hashes, words = arrays
        super().__init__(first, last, hi, lo, hashes.view(np.int64), Bloom(words))
        self.path = path
        self._pages = pages

    def find(self, hi: U64, lo: U64, bits: U64) -> tuple[npt.NDArray[np.intp], I64]:
        """Return which of the keys are here; keys that are sorted touch a part after the other."""
        parts = min(len(hi), -(-len(self._pages) // ASKED_BYTES)) or 1
        borders = [len(hi) * part // parts for part in range(parts + 1)]
        found: list[npt.NDArray[np.intp]] = []
        hashes: list[I64] = []
        for at, end in pairwise(borders):
            here, stored = super().find(hi[at:end], lo[at:end], bits[at:end])
            found.append(here + at)
            hashes.append(stored)
            self.release()
        return np.concatenate(found), np.concatenate(hashes)

    def release(self) -> None:
        """Let go of the pages that were touched; they stay in the machine's cache while it can."""
        self._pages.madvise(mmap.MADV_DONTNEED)


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
    """Whether a file is of the version before this one."""
    with path.open("rb") as file:
        return file.read(len(_BEFORE)) == _BEFORE


def mapped(path: Path) -> Mapped:
    """Return a run; raises Corrupt where the file is not whole."""
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size or head[:8] != _MAGIC:
            raise _damaged(path)
        _, first, last, count, words = _HEADER.unpack(head)
        whole = os.fstat(file.fileno()).st_size == _HEADER.size + 8 * (3 * count + words)
        if not whole or (first, last) != range_of(path):
            raise _damaged(path)
        pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    flat = np.frombuffer(pages, dtype="<u8", offset=_HEADER.size)
    return Mapped(path, first, last, np.split(flat, [count, 2 * count, 3 * count]), pages)


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
        self._count, self._words, self._done = count, bloom_words(count), 0
        self._last = (-1, np.uint64(0))
        self._file = self._draft.open("wb")
        self._file.truncate(_HEADER.size + 8 * (3 * count + self._words))
        self._write(_HEADER.pack(_MAGIC, first, last, count, self._words), 0)

    def add(self, hi: U64, lo: U64, row_hash: I64) -> None:
        """Write the next keys, which follow all before in order, to stable storage."""
        for column, array in enumerate((hi, lo, row_hash)):
            self._put(array, column * self._count + self._done)
        self._done += len(hi)
        slots, words = bloom_part(hi, lo, self._words)
        if len(slots):
            begin = int(slots[0])
            filled = np.zeros(int(slots[-1]) - begin + 1, dtype=np.uint64)
            filled[slots - begin] = words
            if self._last[0] == begin:  # the piece before ended within this word
                filled[0] |= self._last[1]
            self._last = (int(slots[-1]), filled[-1])
            self._put(filled, 3 * self._count + begin)
        os.fdatasync(self._file.fileno())  # piece by piece: one sync of all would take seconds

    def finish(self) -> Mapped:
        """Name the file, and return it as a run."""
        assert self._done == self._count, "a run holds what was announced"
        os.fsync(self._file.fileno())
        self._file.close()
        self._draft.replace(self._path)
        return mapped(self._path)

    def discard(self) -> None:
        """Give up."""
        self._file.close()
        self._draft.unlink(missing_ok=True)

    def _put(self, array: npt.NDArray[Any], at: int) -> None:
        self._write(np.ascontiguousarray(array).data.cast("B"), _HEADER.size + 8 * at)

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
        for run in self.runs:
            run.release()
        return count

    def _ends(self, keys_max: int) -> list[int]:
        """Return up to where each run is merged next: all keys up to one border."""
        left = [len(run) - at for run, at in zip(self.runs, self._at, strict=True)]
        if sum(left) <= keys_max:
            return [len(run) for run in self.runs]
        longest = left.index(max(left))
        step = max(1, left[longest] * keys_max // sum(left))
        border = self.runs[longest].hi[self._at[longest] + step - 1]
        return [int(np.searchsorted(run.hi, border, side="right")) for run in self.runs]


def _damaged(path: Path) -> Corrupt:
    return Corrupt(f"{path} is no whole run of the duplicate index; remove it, it is built again")
