"""The duplicate index on disk: sorted runs in files, the newest in memory (DECISIONS 9, 10).

What is missing on disk is read again from the lake. Runs are merged in pieces, a few with every
commit, so that no commit waits for a large merge, and no merge needs more memory than a piece.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tallybook.adapters.runs.file import FileRun, Merge, is_outdated, opened, range_of
from tallybook.kernel.errors import Unavailable
from tallybook.store.dedupe import I64, Run, Verdict, judge, make_run, merge_runs
from tallybook.transport.identity import Keys

FLUSH_KEYS = 1_000_000
"""Identities kept in memory before they become a file; also the most that is read again."""
FANOUT = 4
"""Runs of one size class before they are merged into one of the next."""
MEMORY_RUNS_MAX = 8
MERGE_KEYS_PER_KEY = 6
"""Keys merged for each key put: more than the size classes a key passes, so merging keeps up."""
PIECE_KEYS = 250_000
"""Keys merged at a time, and the least that a commit merges while there is something to merge."""

_Run = TypeVar("_Run", bound=Run)


class RunIndex:
    """`DuplicateIndex` as a log-structured merge of sorted runs.

    Args:
        folder: made when absent.

    Cost: memory is about 2 MiB while a file is asked, 16 bytes for each thousand identities on
    disk, a piece while runs merge, and 24 bytes for each of at most `FLUSH_KEYS` in memory and of a
    commit. While there is something to merge, a commit writes about `MERGE_KEYS_PER_KEY` times its
    own identities, or `PIECE_KEYS` where that is more; the one with which memory holds `FLUSH_KEYS`
    writes all of these besides.
    """

    def __init__(self, folder: Path) -> None:
        """Open the runs that follow each other without a gap; drop leftovers of a crash."""
        self._folder = folder
        self._memory: list[Run] = []
        self._merges: list[Merge[FileRun]] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._files = self._open()
        except OSError as error:
            raise Unavailable(f"{folder}: {error}") from error

    def covered(self) -> int:
        """Return the commit up to which every identity is known."""
        newest: Sequence[Run] = self._memory or self._files
        return newest[-1].last_seq if newest else 0

    def __len__(self) -> int:
        """Return how many identities are known."""
        return sum(map(len, self._files)) + sum(map(len, self._memory))

    def judge(self, keys: Keys, row_hash: I64) -> Verdict:
        """Return which rows are new and which conflict; raises Unavailable."""
        with self._using():
            return judge([*self._files, *self._memory], keys, row_hash)

    def put(self, seq: int, keys: Keys, row_hash: I64) -> None:
        """Remember the identities of the next commit."""
        assert seq == self.covered() + 1, "commits are indexed in order"
        self._memory.append(make_run(seq, seq, keys, row_hash))
        if sum(map(len, self._memory)) >= FLUSH_KEYS:
            self._write_memory()
        elif len(self._memory) > MEMORY_RUNS_MAX:
            tail = _newest_of_a_size(self._memory)
            self._memory = [*self._memory[: -len(tail)], merge_runs(tail)]
        self._merge(max(PIECE_KEYS, MERGE_KEYS_PER_KEY * len(keys)))

    def flush(self) -> None:
        """Write what is in memory to a file."""
        if self._memory:
            self._write_memory()
            self._merge(PIECE_KEYS)

    def _write_memory(self) -> None:
        with self._using():
            merge = Merge(self._folder, self._memory)
            try:
                while merge.advance(PIECE_KEYS):
                    pass
                self._files.append(merge.draft.finish())
            except OSError:
                merge.draft.discard()
                raise
        self._memory = []
        self._plan()

    def _plan(self) -> None:
        """Begin to merge files of a size that adjoin, where they are enough and no merge has them.

        Larger ones too, which smaller ones have followed since: while files come, some always have.
        """
        for free in self._free():
            left = free
            while left:
                alike = _newest_of_a_size(left)
                if len(alike) >= FANOUT:
                    with self._using():
                        self._merges.append(Merge(self._folder, alike))
                left = left[: -len(alike)]
        self._merges.sort(key=lambda merge: merge.runs[0].first_seq)

    def _free(self) -> list[list[FileRun]]:
        """Return the files that no merge has, in stretches without another between."""
        taken = {run.first_seq for merge in self._merges for run in merge.runs}
        stretches: list[list[FileRun]] = [[]]
        for run in self._files:
            if run.first_seq in taken:
                stretches.append([])
            else:
                stretches[-1].append(run)
        return stretches

    def _merge(self, keys: int) -> None:
        """Merge about so many keys; the newest merge first, for it is the smallest."""
        while self._merges and keys > 0:
            merge = self._merges[-1]
            with self._using():
                try:
                    done = merge.advance(min(keys, PIECE_KEYS))
                    keys -= done
                    if not done:
                        self._replace(merge.runs, merge.draft.finish())
                        self._merges.pop()
                        self._plan()
                except OSError:
                    self._merges.remove(merge)  # begun again after a later flush
                    merge.draft.discard()
                    raise

    def _replace(self, old: Sequence[FileRun], merged: FileRun) -> None:
        at = self._files.index(old[0])
        self._files[at : at + len(old)] = [merged]
        for run in old:
            run.path.unlink(missing_ok=True)

    @contextmanager
    def _using(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(f"{self._folder}: {error}") from error

    def _open(self) -> list[FileRun]:
        for draft in self._folder.glob("*.tmp"):
            draft.unlink()
        runs: list[FileRun] = []
        for path in _widest_first(self._folder):
            first, last = range_of(path)
            if is_outdated(path) or (runs and last <= runs[-1].last_seq):
                path.unlink()  # built again from the lake; or merged, and not yet removed
            elif first == (runs[-1].last_seq if runs else 0) + 1:
                runs.append(opened(path))
        return runs


def _newest_of_a_size(runs: Sequence[_Run]) -> list[_Run]:
    """Return the newest runs that are of one size class, or smaller; at least one of any."""
    tail: list[_Run] = []
    for run in reversed(runs):
        if tail and len(run) > FANOUT * max(map(len, tail)) // 2:
            break
        tail.insert(0, run)
    return tail


def _widest_first(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.glob("*.run"), key=lambda p: (range_of(p)[0], -range_of(p)[1])))
