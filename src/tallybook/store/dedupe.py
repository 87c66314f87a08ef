"""Finding duplicates: sorted immutable runs of identities with Bloom filters (DECISIONS 8–10).

A run holds the identities of a range of commits, sorted by their high half. A look-up asks the
Bloom filter first, so that a new identity (the usual case) touches one word of memory a run and
never the run's own pages; the cost of a batch does not grow with history but with the number of
runs, which merging keeps logarithmic.
"""

from collections.abc import Sequence

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
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Bloom:
    """A blocked Bloom filter: all bits of a key lie in one 64-bit word.

    Attributes:
        words: shape (2^k,), at least `BITS_PER_KEY` bits a key.
    """

    __slots__ = ("words",)

    def __init__(self, words: U64) -> None:
        """Wrap existing words; their number must be a power of two."""
        assert len(words) & (len(words) - 1) == 0, "a Bloom filter has 2^k words"
        self.words = words

    @classmethod
    def of(cls, hi: U64, lo: U64) -> "Bloom":
        """Return the filter of these keys."""
        wanted = max(1, len(hi) * BITS_PER_KEY // 64)
        words = np.zeros(1 << (wanted - 1).bit_length(), dtype=np.uint64)
        np.bitwise_or.at(words, _slot(lo, len(words)), _bits(hi))
        return cls(words)

    def may_have(self, hi: U64, lo: U64) -> Mask:
        """Return for each key whether it may be in; False is certain."""
        bits = _bits(hi)
        found: Mask = (self.words[_slot(lo, len(self.words))] & bits) == bits
        return found


def _slot(lo: U64, words: int) -> npt.NDArray[np.intp]:
    mixed = lo * _MIX
    return (mixed & np.uint64(words - 1)).astype(np.intp)


def _bits(hi: U64) -> U64:
    bits = np.zeros(len(hi), dtype=np.uint64)
    for shift in _PROBES:
        bits |= _ONE << ((hi >> shift) & _WORD_BITS)
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

    def find(self, keys: Keys) -> tuple[Mask, I64]:
        """Return for each key whether it is here, and the row hash it was first seen with."""
        found = np.zeros(len(keys), dtype=np.bool_)
        hashes = np.zeros(len(keys), dtype=np.int64)
        maybe = np.flatnonzero(self.bloom.may_have(keys[:, 0], keys[:, 1]))
        if len(maybe) == 0 or len(self) == 0:
            return found, hashes
        hi, lo = keys[maybe, 0], keys[maybe, 1]
        at = np.searchsorted(self.hi, hi)
        open_ = np.ones(len(maybe), dtype=np.bool_)
        while open_.any():  # more than once only where two identities share their high half
            inside = open_ & (at < len(self))
            slot = np.where(inside, at, 0)
            same_hi = inside & (self.hi[slot] == hi)
            hit = same_hi & (self.lo[slot] == lo)
            found[maybe[hit]] = True
            hashes[maybe[hit]] = self.row_hash[slot[hit]]
            open_ = same_hi & ~hit
            at = at + 1
        return found, hashes


def make_run(first_seq: int, last_seq: int, keys: Keys, row_hash: I64) -> Run:
    """Return the run of these identities, which are all different; any order."""
    order = np.argsort(keys[:, 0], kind="stable")
    hi = np.ascontiguousarray(keys[order, 0])
    lo = np.ascontiguousarray(keys[order, 1])
    return Run(first_seq, last_seq, hi, lo, np.ascontiguousarray(row_hash[order]))


def merge_runs(runs: Sequence[Run]) -> Run:
    """Return one run with the identities of all; the runs share none and adjoin in commits."""
    keys = np.column_stack(
        [np.concatenate([run.hi for run in runs]), np.concatenate([run.lo for run in runs])]
    )
    hashes = np.concatenate([run.row_hash for run in runs])
    first = min(run.first_seq for run in runs)
    return make_run(first, max(run.last_seq for run in runs), keys, hashes)


def first_in_batch(keys: Keys, row_hash: I64) -> tuple[Mask, Mask]:
    """Return which rows are the first of their identity within the batch, and which conflict.

    A conflict is a later row whose content differs from the first's.
    """
    order = np.lexsort((np.arange(len(keys)), keys[:, 1], keys[:, 0]))
    ordered = keys[order]
    starts = np.ones(len(keys), dtype=np.bool_)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    leader = order[np.maximum.accumulate(np.where(starts, np.arange(len(keys)), 0))]
    first = np.zeros(len(keys), dtype=np.bool_)
    first[order] = starts
    conflict = np.zeros(len(keys), dtype=np.bool_)
    conflict[order] = row_hash[order] != row_hash[leader]
    return first, conflict


class Verdict:
    """What a batch holds.

    Attributes:
        new: rows to store: first of their identity, in the batch and in the lake.
        conflict: duplicates whose content differs from the first.
    """

    __slots__ = ("conflict", "new")

    def __init__(self, new: Mask, conflict: Mask) -> None:
        """Keep both masks, shape (n,)."""
        self.new = new
        self.conflict = conflict


def judge(runs: Sequence[Run], keys: Keys, row_hash: I64) -> Verdict:
    """Return which rows of a batch are new and which conflict, given what the lake has."""
    new, conflict = first_in_batch(keys, row_hash)
    for run in runs:
        found, hashes = run.find(keys)
        conflict = np.where(found, hashes != row_hash, conflict)  # the lake's is the first
        new &= ~found
    return Verdict(new, conflict)
