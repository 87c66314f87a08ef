"""What the pump and the reader need of the lake and the duplicate index, in their own words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import msgspec
import pyarrow as pa

from tallybook.meter.usage import Counters
from tallybook.store.dedupe import I64, Verdict
from tallybook.transport.identity import Keys


class LogPosition(msgspec.Struct, frozen=True, order=True):
    """One partition of one epoch of the log."""

    epoch: str
    partition: int


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """One atomic step of the lake: rows, offsets and counters together (DECISIONS 9).

    Attributes:
        seq: number of this commit, one more than the last.
        offsets: last log offset contained, for every partition the commit read.
        counters: totals since ever of every tenant that the commit touches.
    """

    seq: int
    offsets: Mapping[LogPosition, int]
    counters: Mapping[str, Counters]


class LakeFile(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable data file and the ranges of what it holds.

    Attributes:
        path: absolute.
        rows: how many.
        bytes: size.
        seq_min, seq_max: commits it holds rows of; no other file holds rows of them, but for
            files of the same commit.
        time_min, time_max: event times, microseconds UTC.
    """

    path: str
    rows: int
    bytes: int
    seq_min: int
    seq_max: int
    time_min: int
    time_max: int


class EventTable(Protocol):
    """The lake's event table; one process appends, one process rewrites."""

    def head(self) -> int:
        """Return the newest commit's number, 0 before the first."""
        ...

    def offset(self, position: LogPosition) -> int:
        """Return the last log offset that the lake contains, 0 for none."""
        ...

    def counters(self, tenant: str) -> Counters:
        """Return a tenant's totals."""
        ...

    def append(self, rows: pa.Table, commit: Commit) -> None:
        """Make one commit: atomic and durable on return.

        Raises:
            Conflict: `commit.seq` is not the head plus one (another pump is at work).
            Unavailable: the disk refuses; nothing happened.
        """
        ...

    def files(self) -> Sequence[LakeFile]:
        """Return the live files, by commit."""
        ...


class DuplicateIndex(Protocol):
    """The identities of all that the lake holds: a cache that can be rebuilt from it."""

    def covered(self) -> int:
        """Return the commit up to which every identity is known."""
        ...

    def judge(self, keys: Keys, row_hash: I64) -> Verdict:
        """Return which rows are new and which conflict; changes nothing."""
        ...

    def put(self, seq: int, keys: Keys, row_hash: I64) -> None:
        """Remember the identities of commit `seq`, which is `covered() + 1`."""
        ...


class KeyReader(Protocol):
    """Reads identities back from the lake, for an index that is behind."""

    def keys_after(self, seq: int) -> Iterator[tuple[int, Keys, I64]]:
        """Yield (commit, identities, row hashes) of every commit after `seq`, in order."""
        ...
