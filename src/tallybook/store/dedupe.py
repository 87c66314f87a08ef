"""Finding duplicates: sorted immutable runs of identities with Bloom filters (DECISIONS 8–10).

A run holds the identities of a range of commits, sorted by their high half. A look-up asks the
Bloom filter first, so that a new identity (the usual case) asks a word or two of a run's filter and
hardly ever the run's own pages. A batch is sorted once, and filters keep the order of identities:
so a batch walks through each filter from its beginning to its end, and what is read for one key
serves its neighbours. The cost of a batch grows with the number of runs, which merging keeps
logarithmic, and with the bytes of the filters, as far as there are more than a batch touches.
"""

from collections.abc import Iterable, Iterator, Sequence
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
BLOCK_WORDS = 4
_PROBES = 2
"""Bits of a key in each word of its block."""
_STEP = 7
"""From the six bits of a low half that name one of them to the six that name the next."""
_WORD_BITS = np.uint64(63)
_ONE = np.uint64(1)
_HALF = np.uint64(32)
_NONE = np.empty(0, dtype=np.intp)


class Bloom:
    """A blocked Bloom filter: all bits of a key lie in one block of four words; blocks follow `hi`.

    Of ten thousand keys that are not in, two pass, and each costs a page of the run: where history
    is larger than memory, a read of the disk. Nine of ten others are told by the first word.

    Args:
        words: `BITS_PER_KEY` bits a key, in fewer than 2^32 blocks.
    """

    __slots__ = ("words",)

    def __init__(self, words: U64) -> None:
        """Wrap existing words."""
        assert len(words) % BLOCK_WORDS == 0, "a block has four words"
        self.words = words

    @classmethod
    def of(cls, hi: U64, lo: U64) -> "Bloom":
        """Return the filter of these keys, which are sorted by `hi`."""
        words = np.zeros((bloom_blocks(len(hi)), BLOCK_WORDS), dtype=np.uint64)
        slots, filled = bloom_part(hi, lo, len(words))
        words[slots] = filled
        return cls(words.reshape(-1))

    def blocks(self) -> int:
        """Return how many blocks there are."""
        return len(self.words) // BLOCK_WORDS

    def portions(self, slots: Places) -> Iterator[tuple[int, int, int, U64]]:
        """Yield the words that keys ask for, of a few or of many keys at a time.

        Args:
            slots: the keys' blocks, ascending.

        Yields:
            (first key, last + 1, the block with which the words begin, words).
        """
        yield 0, len(slots), 0, self.words

    def may_have(self, hi: U64, bits: U64) -> Places:
        """Return which of the keys may be in, ascending; the others are certainly not.

        Args:
            hi: high halves, ascending.
            bits: `bloom_bits` of the low halves.
        """
        slots = _slot(hi, self.blocks())
        passed = [_NONE]
        for first, last, begin, words in self.portions(slots):
            at = (slots[first:last] - begin) * BLOCK_WORDS
            wanted = bits[0, first:last]
            maybe = np.flatnonzero((words.take(at) & wanted) == wanted)
            for word in range(1, BLOCK_WORDS):
                wanted = bits[word, first:last].take(maybe)
                maybe = maybe[(words.take(at.take(maybe) + word) & wanted) == wanted]
            passed.append(maybe + first)
        return np.concatenate(passed)


def bloom_blocks(count: int) -> int:
    """Return how many blocks the filter of so many keys has."""
    return max(1, count * BITS_PER_KEY // (64 * BLOCK_WORDS))


def bloom_part(hi: U64, lo: U64, blocks: int) -> tuple[Places, U64]:
    """Return which blocks of a filter these keys fill, ascending, and with what, shape (n, 4).

    Args:
        hi, lo: keys, sorted by `hi`.
        blocks: how many the filter has.
    """
    slots = _slot(hi, blocks)
    if len(slots) == 0:
        return slots, np.empty((0, BLOCK_WORDS), dtype=np.uint64)
    starts = np.flatnonzero(np.concatenate(([True], slots[1:] != slots[:-1])))
    filled = np.empty((len(starts), BLOCK_WORDS), dtype=np.uint64)
    for word, bits in enumerate(bloom_bits(lo)):
        filled[:, word] = np.bitwise_or.reduceat(bits, starts)
    return slots[starts], filled


def _slot(hi: U64, blocks: int) -> Places:
    """Spread the range of `hi` evenly over the blocks, in order."""
    return (((hi >> _HALF) * np.uint64(blocks)) >> _HALF).astype(np.intp)


def bloom_bits(lo: U64) -> U64:
    """Return the bits that stand for keys within the words of their block, shape (4, n)."""
    bits = np.zeros((BLOCK_WORDS, len(lo)), dtype=np.uint64)
    place = np.empty_like(lo)  # written over again and again: new memory would cost more
    for probe in range(BLOCK_WORDS * _PROBES):
        np.right_shift(lo, np.uint64(probe * _STEP), out=place)
        place &= _WORD_BITS
        np.left_shift(_ONE, place, out=place)
        bits[probe // _PROBES] |= place
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
        hits: list[Places] = [_NONE]
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
    order = np.argsort(hi, kind="stable")  # quicker for what is sorted in parts
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
