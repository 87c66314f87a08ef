"""The duplicate index on disk: sorted runs in files, the newest in memory (DECISIONS 9, 10).

A run file is written whole, fsynced and then named `<first>-<last>.run`, so a crash leaves either
the run or nothing; what is missing is read again from the lake. A file holds the sorted high
halves, low halves, row hashes and Bloom words, one after the other, and is mapped into memory.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tallybook.kernel.errors import Corrupt, Unavailable
from tallybook.store.dedupe import I64, Bloom, Run, Verdict, judge, make_run, merge_runs
from tallybook.transport.identity import Keys

FLUSH_KEYS = 1_000_000
"""Identities kept in memory before they become a file; also the most that is read again."""
FANOUT = 4
"""Runs of one size class before they are merged into one of the next."""
MEMORY_RUNS_MAX = 8

_HEADER = struct.Struct("<8sQQQQ")
_MAGIC = b"TBRUN\x00\x00\x01"


class RunIndex:
    """`DuplicateIndex` as a log-structured merge of sorted runs.

    Args:
        folder: made when absent.

    Cost: memory is 2 bytes an identity for the filters, which are mapped too, and 24 bytes for
    each of at most `FLUSH_KEYS` in memory.
    """

    def __init__(self, folder: Path) -> None:
        """Open the runs that follow each other without a gap; drop leftovers of a crash."""
        self._folder = folder
        self._memory: list[Run] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._files = self._open()
        except OSError as error:
            raise Unavailable(f"{folder}: {error}") from error

    def covered(self) -> int:
        """Return the commit up to which every identity is known."""
        newest = self._memory or self._files
        return newest[-1].last_seq if newest else 0

    def __len__(self) -> int:
        """Return how many identities are known."""
        return sum(map(len, self._files)) + sum(map(len, self._memory))

    def judge(self, keys: Keys, row_hash: I64) -> Verdict:
        """Return which rows are new and which conflict."""
        return judge([*self._files, *self._memory], keys, row_hash)

    def put(self, seq: int, keys: Keys, row_hash: I64) -> None:
        """Remember the identities of the next commit."""
        assert seq == self.covered() + 1, "commits are indexed in order"
        self._memory.append(make_run(seq, seq, keys, row_hash))
        if sum(map(len, self._memory)) >= FLUSH_KEYS:
            self.flush()
        elif len(self._memory) > MEMORY_RUNS_MAX:
            tail = _newest_of_a_size(self._memory)
            self._memory = [*self._memory[: -len(tail)], merge_runs(tail)]

    def flush(self) -> None:
        """Write what is in memory to a file and merge files of a size."""
        if not self._memory:
            return
        run = self._write(merge_runs(self._memory))
        self._memory = []
        self._files.append(run)
        while len(tail := _newest_of_a_size(self._files)) >= FANOUT:
            merged = self._write(merge_runs(tail))
            self._files = [*self._files[: -len(tail)], merged]
            for old in tail:
                self._path(old).unlink(missing_ok=True)

    def _path(self, run: Run) -> Path:
        return self._folder / f"{run.first_seq:020d}-{run.last_seq:020d}.run"

    def _write(self, run: Run) -> Run:
        path = self._path(run)
        draft = path.with_suffix(".tmp")
        head = _HEADER.pack(_MAGIC, run.first_seq, run.last_seq, len(run), len(run.bloom.words))
        try:
            with draft.open("wb") as file:
                file.write(head)
                for array in (run.hi, run.lo, run.row_hash, run.bloom.words):
                    file.write(np.ascontiguousarray(array).data.cast("B"))
                _fsync(file)
            draft.replace(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise Unavailable(f"{path}: {error}") from error
        return _map(path)

    def _open(self) -> list[Run]:
        for draft in self._folder.glob("*.tmp"):
            draft.unlink()
        runs: list[Run] = []
        for path in _widest_first(self._folder):
            first, last = _range(path)
            if first == (runs[-1].last_seq if runs else 0) + 1:
                runs.append(_map(path))
            elif runs and last <= runs[-1].last_seq:
                path.unlink()  # merged before the crash, not yet removed
        return runs


def _newest_of_a_size(runs: Sequence[Run]) -> list[Run]:
    """Return the newest runs that are of one size class, or smaller; at least one."""
    tail: list[Run] = []
    for run in reversed(runs):
        if tail and len(run) > FANOUT * max(map(len, tail)) // 2:
            break
        tail.insert(0, run)
    return tail


def _widest_first(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.glob("*.run"), key=lambda p: (_range(p)[0], -_range(p)[1])))


def _range(path: Path) -> tuple[int, int]:
    first, _, last = path.stem.partition("-")
    if not (first.isdecimal() and last.isdecimal()):
        raise _damaged(path)
    return int(first), int(last)


def _map(path: Path) -> Run:
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size or head[:8] != _MAGIC:
        raise _damaged(path)
    _, first, last, count, words = _HEADER.unpack(head)
    whole = path.stat().st_size == _HEADER.size + 24 * count + 8 * words
    if not whole or (first, last) != _range(path):
        raise _damaged(path)
    flat = np.memmap(
        path, dtype=np.uint64, mode="r", offset=_HEADER.size, shape=(3 * count + words,)
    )
    hi, lo, hashes = flat[:count], flat[count : 2 * count], flat[2 * count : 3 * count]
    return Run(first, last, hi, lo, hashes.view(np.int64), Bloom(flat[3 * count :]))


def _damaged(path: Path) -> Corrupt:
    return Corrupt(f"{path} is no whole run of the duplicate index; remove it, it is built again")


def _fsync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
