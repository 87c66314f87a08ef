"""Finding duplicates: sorted immutable runs of identities with Bloom filters (DECISIONS 8–10).

A run holds the identities of a range of commits, sorted by their high half. A look-up asks the
Bloom filter first, so that a new identity (the usual case) touches one word of memory a run and
never the run's own pages. A batch is sorted once, and filters keep the order of the identities:
so a batch walks through each filter from its beginning to its end, and the processor fetches ahead
what random places would make it wait for. The cost of a batch does not grow with history but with
the number of runs, which merging keeps logarithmic.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tallybook.transport.identity import Keys

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

BITS_PER_KEY = 16
_WORD_BITS = np.uint64(63)
_ONE = np.uint64(1)
_PROBES = (np.uint64(0), np.uint64(6), np.uint64(12), np.uint64(18))
_HALF = np.uint64(32)


class Bloom:
    """A blocked Bloom filter: all bits of a key lie in one 64-bit word, words follow `hi`.

    Attributes:
        words: `BITS_PER_KEY` bits a key, at least one word and fewer than 2^32.
    """

    __slots__ = ("words",)

    def __init__(self, words: U64) -> None:
        """Wrap existing words."""
        assert 0 < len(words) < 1 << 32, "a Bloom filter has words"
        self.words = words

    @classmethod
    def of(cls, hi: U64, lo: U64) -> "Bloom":
        """Return the filter of these keys, which are sorted by `hi`."""
        words = np.zeros(bloom_words(len(hi)), dtype=np.uint64)
        slots, filled = bloom_part(hi, lo, len(words))
        words[slots] = filled
        return cls(words)

    def may_have(self, hi: U64, bits: U64) -> Mask:
        """Return for each key whether it may be in; False is certain.

        Args:
            hi: high halves.
            bits: `bloom_bits` of the low halves.
        """
        found: Mask = (self.words[_slot(hi, len(self.words))] & bits) == bits
        return found


def bloom_words(count: int) -> int:
    """Return how many words the filter of so many keys has."""
    return max(1, count * BITS_PER_KEY // 64)


def bloom_part(hi: U64, lo: U64, words: int) -> tuple[npt.NDArray[np.intp], U64]:
    """Return which words of a filter these keys fill, ascending, and with what.

    Args:
        hi, lo: keys, sorted by `hi`.
        words: how many the filter has.
    """
    slots = _slot(hi, words)
    if len(slots) == 0:
        return slots, np.empty(0, dtype=np.uint64)
    starts = np.flatnonzero(np.concatenate(([True], slots[1:] != slots[:-1])))
    return slots[starts], np.bitwise_or.reduceat(bloom_bits(lo), starts)


def _slot(hi: U64, words: int) -> npt.NDArray[np.intp]:
    """Spread the range of `hi` evenly over the words, in order."""
    return (((hi >> _HALF) * np.uint64(words)) >> _HALF).astype(np.intp)


def bloom_bits(lo: U64) -> U64:
    """Return the bits that stand for keys within their words."""
    bits = np.zeros(len(lo), dtype=np.uint64)
    place = np.empty_like(bits)  # written over again and again: new memory would cost more
    for shift in _PROBES:
        np.right_shift(lo, shift, out=place)
        place &= _WORD_BITS
        np.left_shift(_ONE, place, out=place)
        bits |= place
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
        hi: U64,
        lo: U64,
        row_hash: I64,
        bloom: Bloom | None = None,
    ) -> None:
        """Wrap arrays that are sorted already."""
        self.first_seq = first_seq
        self.last_seq = last_seq
        self.hi = hi
        self.lo = lo
        self.row_hash = row_hash
        self.bloom = bloom if bloom is not None else Bloom.of(hi, lo)

    def __len__(self) -> int:
        """Return how many identities it holds."""
        return len(self.hi)

    def release(self) -> None:
        """Let go of what can be had again: nothing, where the arrays are memory of their own."""

    def find(self, hi: U64, lo: U64, bits: U64) -> tuple[npt.NDArray[np.intp], I64]:
        """Return which of the keys are here, and the row hashes they were first seen with.

        Args:
            hi, lo: the keys; quickest where they are sorted by `hi`.
            bits: `bloom_bits(lo)`, the same for every run.
        """
        maybe = np.flatnonzero(self.bloom.may_have(hi, bits))
        hits: list[npt.NDArray[np.intp]] = [np.empty(0, dtype=np.intp)]
        hashes: list[I64] = [np.empty(0, dtype=np.int64)]
        at = np.searchsorted(self.hi, hi[maybe])
        while len(maybe):  # more than once only where two identities share their high half
            inside = at < len(self)
            maybe, at = maybe[inside], at[inside]
            same = self.hi[at] == hi[maybe]
            maybe, at = maybe[same], at[same]
            hit = self.lo[at] == lo[maybe]
            hits.append(maybe[hit])
            hashes.append(self.row_hash[at[hit]])
            maybe, at = maybe[~hit], at[~hit] + 1
        return np.concatenate(hits), np.concatenate(hashes)


def make_run(first_seq: int, last_seq: int, keys: Keys, row_hash: I64) -> Run:
    """Return the run of these identities, which are all different; quickest where sorted."""
    hi, lo = keys[:, 0], keys[:, 1]
    if len(hi) and not (hi[1:] >= hi[:-1]).all():
        order = np.argsort(hi)
        hi, lo, row_hash = hi[order], lo[order], row_hash[order]
    contiguous = np.ascontiguousarray
    return Run(first_seq, last_seq, contiguous(hi), contiguous(lo), contiguous(row_hash))


def merge_runs(runs: Sequence[Run]) -> Run:
    """Return one run with the identities of all; the runs share none and adjoin in commits."""
    first = min(run.first_seq for run in runs)
    hi, lo, row_hash = merge_slices([(run.hi, run.lo, run.row_hash) for run in runs])
    return Run(first, max(run.last_seq for run in runs), hi, lo, row_hash)


def merge_slices(slices: Sequence[tuple[U64, U64, I64]]) -> tuple[U64, U64, I64]:
    """Return the keys and row hashes of all slices, sorted by the high half."""
    hi, lo, row_hash = (np.concatenate(parts) for parts in zip(*slices, strict=True))
    order = np.argsort(hi)
    return hi[order], lo[order], row_hash[order]


def sort_batch(keys: Keys) -> npt.NDArray[np.intp]:
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
