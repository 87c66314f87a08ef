"""Columns of a file, read where they are asked; nothing of them stays in memory.

They have the few methods of an array that finding duplicates needs. Files are read, not mapped: a
batch asks for places all over a column, and what the system does to map a page and to let it go
costs several times what copying it costs.
"""

import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from tallybook.kernel.errors import Corrupt
from tallybook.store.dedupe import Places

SPAN_BYTES = 2 * 1024 * 1024
"""What is read together at most, but for a block."""
GAP_BYTES = 16 * 1024
"""Bytes between two values that are asked, up to which all are read: a call more costs more."""
FENCED = 512
"""Numbers from one fence to the next: a page."""

_Kind = TypeVar("_Kind", bound=np.generic)


class OpenFile:
    """A file that is read in pieces; it is closed when nobody has it any more.

    Args:
        path: where; raises OSError.
    """

    __slots__ = ("__weakref__", "_descriptor", "_path")

    def __init__(self, path: Path) -> None:
        """Open."""
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def fill(self, into: memoryview, at: int) -> None:
        """Read as many bytes from there; raises OSError, and Corrupt where there are fewer."""
        while into:
            count = os.preadv(self._descriptor, [into], at)
            if count == 0:
                raise Corrupt(f"{self._path} has become shorter; remove it, it is built again")
            into, at = into[count:], at + count


class Column(Generic[_Kind]):
    """Values of one size, one after the other.

    Args:
        file: which holds them.
        begin: where the first byte is.
        count: how many there are.
        kind: of what type.

    Raises (when read): as `OpenFile.fill`.
    """

    __slots__ = ("_begin", "_count", "_file", "_kind")

    def __init__(self, file: OpenFile, begin: int, count: int, kind: np.dtype[_Kind]) -> None:
        """Read nothing yet."""
        self._file = file
        self._begin = begin
        self._count = count
        self._kind: np.dtype[_Kind] = kind

    def __len__(self) -> int:
        """Return how many there are."""
        return self._count

    def __getitem__(self, part: slice) -> npt.NDArray[_Kind]:
        """Return the values of a range without steps."""
        begin, end, step = part.indices(self._count)
        assert step == 1, "values that adjoin"
        return self._read(begin, np.empty(max(0, end - begin), dtype=self._kind))

    def take(self, at: Places) -> npt.NDArray[_Kind]:
        """Return the values at these places, which ascend."""
        found = np.empty(len(at), dtype=self._kind)
        for first, last, values in self.spans(at, 1):
            np.take(values, at[first:last] - at[first], out=found[first:last], mode="clip")
        return found

    def spans(self, begins: Places, count: int) -> Iterator[tuple[int, int, npt.NDArray[_Kind]]]:
        """Read ranges of so many values, a few or many of them at a time.

        Yields:
            (first, last, the values from where range `first` begins to where `last` - 1 ends);
            they are overwritten by the next.
        """
        if len(begins) == 0:
            return
        size = self._kind.itemsize
        apart = begins[1:] - begins[:-1] > count + GAP_BYTES // size
        windows = begins // (SPAN_BYTES // size)
        cuts = np.flatnonzero(apart | (windows[1:] > windows[:-1])) + 1
        firsts, lasts = np.concatenate(([0], cuts)), np.concatenate((cuts, [len(begins)]))
        froms = begins[firsts]
        counts = np.minimum(begins[lasts - 1] + count, self._count) - froms
        room = np.empty(int(counts.max()), dtype=self._kind)
        spans = (array.tolist() for array in (firsts, lasts, froms, counts))
        for first, last, begin, many in zip(*spans, strict=True):
            yield first, last, self._read(begin, room[:many])

    def _read(self, begin: int, into: npt.NDArray[_Kind]) -> npt.NDArray[_Kind]:
        self._file.fill(into.view(np.uint8).data, self._begin + self._kind.itemsize * begin)
        return into


class SortedColumn(Column[np.uint64]):
    """Unsigned numbers in their order, found by fences in memory.

    Args:
        file, begin, count: as of `Column`.
        fences: the first number of each `FENCED`.
    """

    __slots__ = ("_fences",)

    def __init__(
        self, file: OpenFile, begin: int, count: int, fences: npt.NDArray[np.uint64]
    ) -> None:
        """Read nothing yet."""
        super().__init__(file, begin, count, np.dtype("<u8"))
        self._fences = fences

    def searchsorted(
        self, values: npt.NDArray[np.uint64], side: Literal["left", "right"] = "left"
    ) -> Places:
        """Return where each value, which ascend, would be put: before its equals, or after them."""
        found = np.zeros(len(values), dtype=np.intp)
        if self._count == 0:
            return found
        blocks = np.maximum(self._fences.searchsorted(values, side) - 1, 0) * FENCED
        for first, last, part in self.spans(blocks, FENCED):
            found[first:last] = part.searchsorted(values[first:last], side) + blocks[first]
        return found


def fences_of(hi: npt.NDArray[np.uint64], before: int) -> npt.NDArray[np.uint64]:
    """Return the fences among numbers that follow so many others."""
    return hi[-before % FENCED :: FENCED].copy()


def fence_count(count: int) -> int:
    """Return how many fences so many numbers have."""
    return -(-count // FENCED)
