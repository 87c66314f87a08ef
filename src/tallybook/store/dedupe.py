"""Finding duplicates: sorted immutable runs of identities with Bloom filters (DECISIONS 8–10).

A run holds the identities of a range of commits, sorted by their high half. A look-up asks the
Bloom filter first, so that a new identity (the usual case) touches one word of memory a run and
never the run's own pages. A batch is sorted once, and filters keep the order of the identities:
so a batch walks through each filter from its beginning to its end, and the processor fetches ahead
what random places would make it wait for. The cost of a batch does not grow with history but with
the number of runs, which merging keeps logarithmic.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tallybook.transport.identity import Keys

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]

_Kind_co = TypeVar("_Kind_co", bound=np.generic, covariant=True)


class Values(Protocol[_Kind_co]):
    """What is asked of a column of a run: an array, or what a file has of one."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> npt.NDArray[_Kind_co]: ...
    def take(self, at: Places, /) -> npt.NDArray[_Kind_co]:
        """Return the values at these places, which ascend."""


class SortedValues(Values[np.uint64], Protocol):
    """A column whose values ascend."""

    def searchsorted(self, values: U64, side: Literal["left", "right"] = ..., /) -> Places:
        """Return where each value, which ascend, would be put: before its equals or after them."""


BITS_PER_KEY = 24
BLOCK = np.dtype("V64")
"""Eight words of a filter, a line of the processor's cache."""
_WORDS = 8
_BLOCK_BITS = 512
_WORD_BITS = np.uint8(63)
_ONE = np.uint64(1)
_HALF = np.uint64(32)
_ASKED = 16_384
"""Keys whose blocks are had at a time: what they take stays in the processor's cache."""
_NONE = np.empty(0, dtype=np.intp)


class Bloom:
    """A blocked Bloom filter: a key has a bit in each word of its block; blocks follow `hi`.

    Of a hundred thousand keys that are not in, ten pass, and each costs a page of the run: where
    history is larger than memory, a read of the disk.

    Attributes:
        blocks: `BITS_PER_KEY` bits a key, at least one block and fewer than 2^32.
    """

    __slots__ = ("blocks",)

    def __init__(self, blocks: Values[np.void]) -> None:
        """Wrap existing blocks."""
        assert 0 < len(blocks) < 1 << 32, "a Bloom filter has blocks"
        self.blocks = blocks

    @classmethod
    def of(cls, hi: U64, lo: U64) -> "Bloom":
        """Return the filter of these keys, which are sorted by `hi`."""
        words = np.zeros((bloom_blocks(len(hi)), _WORDS), dtype=np.uint64)
        slots, filled = bloom_part(hi, lo, len(words))
        words[slots] = filled
        return cls(words.view(BLOCK)[:, 0])

    def may_have(self, hi: U64, bits: U64) -> Places:
        """Return which of the keys may be in, ascending; the others are certainly not.

        Args:
            hi: high halves, ascending.
            bits: `bloom_bits` of the low halves.
        """
        parts = [
            self._passing(hi[at : at + _ASKED], bits[at : at + _ASKED]) + at
            for at in range(0, len(hi), _ASKED)
        ]
        return np.concatenate([_NONE, *parts])

    def _passing(self, hi: U64, bits: U64) -> Places:
        blocks = self.blocks.take(_slot(hi, len(self.blocks)))
        words = blocks.view(np.uint64).reshape(-1, _WORDS)
        maybe = np.flatnonzero((words[:, 0] & bits[:, 0]) == bits[:, 0])  # a quarter of them
        asked = bits[maybe]
        passed: Mask = ((words[maybe] & asked) == asked).all(axis=1)
        return maybe[passed]


def bloom_blocks(count: int) -> int:
    """Return how many blocks the filter of so many keys has."""
    return max(1, count * BITS_PER_KEY // _BLOCK_BITS)


def bloom_part(hi: U64, lo: U64, blocks: int) -> tuple[Places, U64]:
    """Return which blocks of a filter these keys fill, ascending, and with what, shape (n, 8).

    Args:
        hi, lo: keys, sorted by `hi`.
        blocks: how many the filter has.
    """
    slots = _slot(hi, blocks)
    if len(slots) == 0:
        return slots, np.empty((0, _WORDS), dtype=np.uint64)
    starts = np.flatnonzero(np.concatenate(([True], slots[1:] != slots[:-1])))
    return slots[starts], np.bitwise_or.reduceat(bloom_bits(lo), starts, axis=0)


def _slot(hi: U64, blocks: int) -> Places:
    """Spread the range of `hi` evenly over the blocks, in order."""
    return (((hi >> _HALF) * np.uint64(blocks)) >> _HALF).astype(np.intp)


def bloom_bits(lo: U64) -> U64:
    """Return the bits that stand for keys within the words of their block, shape (n, 8)."""
    places = np.ascontiguousarray(lo, dtype="<u8").view(np.uint8).reshape(-1, _WORDS) & _WORD_BITS
    bits: U64 = np.left_shift(_ONE, places)
    return bits


class Run:
    """Identities of the commits `first_seq..last_seq`, sorted by `hi`.

    Attributes:
        hi, lo: identity halves, shape (n,), unsigned.
        row_hash: content of the first event with that identity, shape (n,).
        bloom: filter over all of them.
    """

    __slots__ = ("bloom", "first_seq", "hi", "last_seq", "lo", "row_hash")

    def __init__(
        self,
        first_seq: int,
        last_seq: int,
        hi: SortedValues,
        lo: Values[np.uint64],
        row_hash: Values[np.int64],
        bloom: Bloom,
    ) -> None:
        """Wrap columns that are sorted already."""
        self.first_seq = first_seq
        self.last_seq = last_seq
        self.hi = hi
        self.lo = lo
        self.row_hash = row_hash
        self.bloom = bloom

    def __len__(self) -> int:
        """Return how many identities it holds."""
        return len(self.hi)

    def find(self, hi: U64, lo: U64, bits: U64) -> tuple[Places, I64]:
        """Return which of the keys are here, and the row hashes they were first seen with.

        Args:
            hi, lo: the keys, sorted by `hi`.
            bits: `bloom_bits(lo)`, the same for every run.
        """
        maybe = self.bloom.may_have(hi, bits)
        hits: list[Places] = [np.empty(0, dtype=np.intp)]
        hashes: list[I64] = [np.empty(0, dtype=np.int64)]
        at = self.hi.searchsorted(hi[maybe])
        while len(maybe):  # more than once only where two identities share their high half
            inside = at < len(self)
            maybe, at = maybe[inside], at[inside]
            same = self.hi.take(at) == hi[maybe]
            maybe, at = maybe[same], at[same]
            hit = self.lo.take(at) == lo[maybe]
            hits.append(maybe[hit])
            hashes.append(self.row_hash.take(at[hit]))
            maybe, at = maybe[~hit], at[~hit] + 1
        return np.concatenate(hits), np.concatenate(hashes)


def make_run(first_seq: int, last_seq: int, keys: Keys, row_hash: I64) -> Run:
    """Return the run of these identities, which are all different; quickest where sorted."""
    hi, lo = keys[:, 0], keys[:, 1]
    if len(hi) and not (hi[1:] >= hi[:-1]).all():
        order = np.argsort(hi)
        hi, lo, row_hash = hi[order], lo[order], row_hash[order]
    contiguous = np.ascontiguousarray
    hi, lo, row_hash = contiguous(hi), contiguous(lo), contiguous(row_hash)
    return Run(first_seq, last_seq, hi, lo, row_hash, Bloom.of(hi, lo))


def merge_runs(runs: Sequence[Run]) -> Run:
    """Return one run with the identities of all; the runs share none and adjoin in commits."""
    first = min(run.first_seq for run in runs)
    slices = [(run.hi[:], run.lo[:], run.row_hash[:]) for run in runs]
    hi, lo, row_hash = merge_slices(slices)
    return Run(first, max(run.last_seq for run in runs), hi, lo, row_hash, Bloom.of(hi, lo))


def merge_slices(slices: Sequence[tuple[U64, U64, I64]]) -> tuple[U64, U64, I64]:
    """Return the keys and row hashes of all slices, sorted by the high half."""
    hi, lo, row_hash = (np.concatenate(parts) for parts in zip(*slices, strict=True))
    order = np.argsort(hi)
    return hi[order], lo[order], row_hash[order]


def sort_batch(keys: Keys) -> Places:
    """Return an order of the rows in which equal identities adjoin, the earlier row first."""
    hi = np.ascontiguousarray(keys[:, 0])
    order = np.argsort(hi)  # not stable, and several times quicker
    if not _same_as_next(hi[order]).any():
        return order
    order = np.argsort(hi, kind="stable")
    torn = _same_as_next(hi[order]) & ~_same_as_next(keys[order, 1])
    return np.lexsort((keys[:, 1], hi)) if torn.any() else order


def _same_as_next(values: U64) -> Mask:
    same: Mask = values[1:] == values[:-1]
    return same


def first_in_batch(keys: Keys, row_hash: I64) -> tuple[Mask, Mask]:
    """Return which rows are the first of their identity within the batch, and which conflict.

    A conflict is a later row whose content differs from the first's.
    """
    order = sort_batch(keys)
    first, conflict = np.zeros(len(keys), dtype=np.bool_), np.zeros(len(keys), dtype=np.bool_)
    first[order], conflict[order] = _first_of_sorted(keys[order], row_hash[order])
    return first, conflict


def _first_of_sorted(ordered: Keys, hashes: I64) -> tuple[Mask, Mask]:
    starts = np.ones(len(ordered), dtype=np.bool_)
    starts[1:] = (ordered[1:, 0] != ordered[:-1, 0]) | (ordered[1:, 1] != ordered[:-1, 1])
    if starts.all():
        return starts, np.zeros(len(ordered), dtype=np.bool_)
    leader = np.maximum.accumulate(np.where(starts, np.arange(len(ordered)), 0))
    return starts, hashes != hashes[leader]


class Verdict:
    """What a batch holds.

    Attributes:
        new: rows to store: first of their identity, in the batch and in the lake.
        conflict: duplicates whose content differs from the first.
        keys, row_hash: of the new rows, sorted by identity: a run is made of them without work.
    """

    __slots__ = ("conflict", "keys", "new", "row_hash")

    def __init__(self, new: Mask, conflict: Mask, keys: Keys, row_hash: I64) -> None:
        """Keep all; masks have an entry a row, keys and hashes one a new row."""
        self.new = new
        self.conflict = conflict
        self.keys = keys
        self.row_hash = row_hash


def judge(runs: Iterable[Run], keys: Keys, row_hash: I64) -> Verdict:
    """Return which rows of a batch are new and which conflict, given what the lake has."""
    order = sort_batch(keys)
    ordered, hashes = keys[order], row_hash[order]
    first, differs = _first_of_sorted(ordered, hashes)
    hi, lo = np.ascontiguousarray(ordered[:, 0]), np.ascontiguousarray(ordered[:, 1])
    bits = bloom_bits(lo)
    for run in runs:
        found, stored = run.find(hi, lo, bits)
        first[found] = False
        differs[found] = hashes[found] != stored  # the lake's is the first
    new, conflict = np.empty(len(keys), dtype=np.bool_), np.empty(len(keys), dtype=np.bool_)
    new[order], conflict[order] = first, differs
    if not first.all():
        ordered, hashes = ordered[first], hashes[first]
    return Verdict(new, conflict, ordered, hashes)
