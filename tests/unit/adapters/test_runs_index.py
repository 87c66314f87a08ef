"""The duplicate index on disk: what it knows survives flushes, merges and every kind of crash."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tallybook.adapters.runs import column as column_module
from tallybook.adapters.runs import index as index_module
from tallybook.adapters.runs.file import Draft, opened
from tallybook.adapters.runs.index import (
    FANOUT,
    MEMORY_RUNS_MAX,
    MERGE_KEYS_PER_KEY,
    RunIndex,
)
from tallybook.kernel.errors import Corrupt, Unavailable
from tallybook.store.dedupe import bloom_bits, make_run

KEYS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 30))
    | st.tuples(*[st.integers(0, (1 << 64) - 1)] * 2),
    max_size=8,
)


def arrays(rows):
    keys = np.array([key for key, _ in rows], dtype=np.uint64).reshape(-1, 2)
    return keys, np.array([content for _, content in rows], dtype=np.int64)


def put(index, known, seq, keys):
    """Put what is new of these keys; contents follow from the commit."""
    fresh = [(key, seq) for key in dict.fromkeys(keys) if key not in known]
    known |= dict(fresh)
    index.put(seq, *arrays(fresh))


def check(index, known, keys):
    verdict = index.judge(*arrays([(key, -1) for key in keys]))
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    expected = [key not in known and first[key] == i for i, key in enumerate(keys)]
    assert verdict.new.tolist() == expected
    assert verdict.conflict.tolist() == [key in known for key in keys]


class Lake(RuleBasedStateMachine):
    """A dictionary beside the index; a crash forgets what was not flushed, as the index does."""

    @initialize()
    def start(self):
        self.folder = self.tmp / str(len(list(self.tmp.iterdir())))
        self.commits = []  # what every commit brought: the lake
        self.index = RunIndex(self.folder)

    def known(self, upto):
        return {k: s for s, keys in enumerate(self.commits[:upto], start=1) for k in keys}

    @rule(keys=KEYS)
    def commit(self, keys):
        have = self.known(len(self.commits))
        fresh = [key for key in dict.fromkeys(keys) if key not in have]
        self.commits.append(fresh)
        seq = len(self.commits)
        self.index.put(seq, *arrays([(key, seq) for key in fresh]))

    @rule()
    def flush(self):
        self.index.flush()

    @rule(leftover=st.sampled_from(["", "tmp", "unmerged"]))
    def crash(self, leftover):
        before = {path.name: path.read_bytes() for path in self.folder.glob("*.run")}
        if leftover == "tmp":
            (self.folder / f"{1:020d}-{9:020d}.tmp").write_bytes(b"half")
        if leftover == "unmerged":  # the merge was named, what it merged was not yet removed
            self.index.flush()
            for name, content in before.items():
                if not (self.folder / name).exists():
                    (self.folder / name).write_bytes(content)
        self.index = RunIndex(self.folder)
        assert not list(self.folder.glob("*.tmp"))
        for seq in range(self.index.covered() + 1, len(self.commits) + 1):
            self.index.put(seq, *arrays([(key, seq) for key in self.commits[seq - 1]]))

    @rule(keys=KEYS, known=st.randoms())
    def judge(self, keys, known):
        have = self.known(len(self.commits))
        again = known.sample(sorted(have), min(3, len(have)))
        check(self.index, have, [*keys, *again])

    @invariant()
    def covers_the_lake(self):
        assert self.index.covered() == len(self.commits)
        assert len(self.index) == len(self.known(len(self.commits)))


@pytest.mark.parametrize("piece", [250_000, 3])
def test_the_index_equals_a_dictionary_through_flushes_and_crashes(tmp_path, monkeypatch, piece):
    """With small pieces, judging, crashes and new runs come between the pieces of a merge."""
    if piece < 100:
        monkeypatch.setattr(index_module, "PIECE_KEYS", piece)
        monkeypatch.setattr(index_module, "MERGE_KEYS_PER_KEY", 1)
        monkeypatch.setattr(index_module, "FLUSH_KEYS", 4)
        monkeypatch.setattr(column_module, "SPAN_BYTES", 64)
        monkeypatch.setattr(column_module, "GAP_BYTES", 16)
        monkeypatch.setattr(column_module, "FENCED", 2)
    Lake.tmp = tmp_path
    machine = Lake.TestCase
    machine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
    machine().runTest()


@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=40))
@settings(max_examples=20)
def test_files_stay_few_and_adjoin(tmp_path_factory, sizes):
    folder = tmp_path_factory.mktemp("index")
    index, at = RunIndex(folder), 0
    for seq, size in enumerate(sizes, start=1):
        index.put(seq, *arrays([((at + i, at + i), seq) for i in range(size)]))
        at += size
        index.flush()
    ranges = sorted(tuple(map(int, path.stem.split("-"))) for path in folder.glob("*.run"))
    assert [first for first, _ in ranges] == [1, *(last + 1 for _, last in ranges[:-1])]
    assert ranges[-1][1] == len(sizes)
    assert len(RunIndex(folder)) == at
    assert len(ranges) <= 3 * FANOUT


def test_memory_holds_few_runs(tmp_path):
    index, known = RunIndex(tmp_path), {}
    for seq in range(1, 4 * MEMORY_RUNS_MAX):
        put(index, known, seq, [(seq, seq)])
    assert len(index._memory) <= MEMORY_RUNS_MAX + 1
    check(index, known, [(seq, seq) for seq in range(6 * MEMORY_RUNS_MAX)])


def test_a_file_answers_as_the_same_run_in_memory_does(tmp_path, monkeypatch):
    """Across blocks, fences and spans, for keys that are there, beside them, and not at all."""
    monkeypatch.setattr(column_module, "SPAN_BYTES", 32 * 1024)
    rng = np.random.default_rng(3)
    keys = random_keys(rng, 20_000)
    keys[:600, 0] = 1 << 63  # more of one high half than lie between two fences
    keys[600:603, 0] = [0, (1 << 64) - 1, (1 << 64) - 1]
    run = make_run(1, 1, keys, np.arange(20_000, dtype=np.int64))
    draft = Draft(tmp_path, 1, 1, len(run))
    for at in range(0, len(run), 777):
        part = slice(at, at + 777)
        draft.add(run.hi[part], run.lo[part], run.row_hash[part])
    file = draft.finish()
    assert (file.hi[:] == run.hi).all()
    assert words_of(file).tolist() == words_of(run).tolist()

    asked = np.concatenate((keys[::7], keys[:600], keys[::11] + 1, random_keys(rng, 500)))
    asked = asked[np.lexsort((asked[:, 1], asked[:, 0]))]
    hi, lo = np.ascontiguousarray(asked[:, 0]), np.ascontiguousarray(asked[:, 1])
    for side in ("left", "right"):
        expected = run.hi.searchsorted(hi, side)
        assert file.hi.searchsorted(hi, side).tolist() == expected.tolist()
    found, hashes = file.find(hi, lo, bloom_bits(lo))
    expected_found, expected_hashes = run.find(hi, lo, bloom_bits(lo))
    assert found.tolist() == expected_found.tolist()
    assert hashes.tolist() == expected_hashes.tolist()
    assert len(set(found.tolist())) >= 3_000


def words_of(run):
    """Copies of all words, a portion after the other."""
    slots = np.arange(run.bloom.blocks())
    words = [words.copy() for *_, words in run.bloom.portions(slots)]
    return np.concatenate(words)


def test_a_new_batch_reads_little_but_filters(tmp_path, monkeypatch):
    path, _ = flushed(tmp_path, commits=1_000)
    count, read = 50_000, []
    fill = column_module.OpenFile.fill

    def filling(file, into, at):
        read.append((len(into), at))
        fill(file, into, at)

    run = opened(path)
    monkeypatch.setattr(column_module.OpenFile, "fill", filling)
    keys = random_keys(np.random.default_rng(4), 5_000)
    keys = keys[np.argsort(keys[:, 0])]
    run.find(keys[:, 0].copy(), keys[:, 1].copy(), bloom_bits(keys[:, 1]))

    filters = 4096 + 24 * count
    assert sum(size for size, at in read if at < filters) < 10 * 4096, "keys are seldom looked at"
    assert max(size for size, _ in read) <= column_module.SPAN_BYTES
    assert sum(size for size, at in read if at >= filters) < 1.1 * 3 * count


def test_a_run_that_became_shorter_says_so(tmp_path):
    path, known = flushed(tmp_path)
    index = RunIndex(tmp_path)
    with path.open("r+b") as file:
        file.truncate(5_000)
    with pytest.raises(Corrupt, match=r"\.run has become shorter.*remove it"):
        check(index, known, list(known))


def test_what_the_system_reads_in_parts_is_put_together(tmp_path, monkeypatch):
    _, known = flushed(tmp_path)
    index, read = RunIndex(tmp_path), os.preadv

    def halving(descriptor, buffers, at):
        (buffer,) = buffers
        return read(descriptor, [buffer[: (len(buffer) + 1) // 2]], at)

    monkeypatch.setattr(os, "preadv", halving)
    check(index, known, [*known, (9, 9)])
    check(RunIndex(tmp_path), known, [*known, (9, 9)])


def test_a_file_is_closed_with_its_run(tmp_path):
    path, known = flushed(tmp_path)
    index = RunIndex(tmp_path)
    check(index, known, list(known))
    assert str(path) in open_files()
    index._files.clear()
    assert str(path) not in open_files()


def open_files():
    links = Path("/proc/self/fd").iterdir()
    return {str(link.readlink()) for link in links if link.is_symlink()}


def test_identities_become_a_file_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "PIECE_KEYS", 100)
    written = []
    add = Draft.add

    def adding(draft, hi, lo, row_hash):
        written.append(len(hi))
        add(draft, hi, lo, row_hash)

    monkeypatch.setattr(Draft, "add", adding)
    index, known = RunIndex(tmp_path), {}
    rng = np.random.default_rng(5)
    for seq in range(1, 5):
        put(index, known, seq, [tuple(map(int, key)) for key in random_keys(rng, 300)])
    index.flush()

    assert sum(written) == 1200
    assert max(written) <= 2 * 100, "about as many as asked: up to a border of the longest"
    check(RunIndex(tmp_path), known, [*known, (1, 2)])


@pytest.mark.parametrize("size", [1, 200])
def test_a_commit_writes_no_more_than_it_says(tmp_path, monkeypatch, size):
    monkeypatch.setattr(index_module, "PIECE_KEYS", 100)
    monkeypatch.setattr(index_module, "FLUSH_KEYS", 400)
    written = []
    add = Draft.add

    def adding(draft, hi, lo, row_hash):
        written.append(len(hi))
        add(draft, hi, lo, row_hash)

    monkeypatch.setattr(Draft, "add", adding)
    index, known = RunIndex(tmp_path), {}
    rng, most = np.random.default_rng(5), 0
    for seq in range(1, 8 * 400 // size):
        before, held = sum(written), sum(map(len, index._memory))
        put(index, known, seq, [tuple(map(int, key)) for key in random_keys(rng, size)])
        flushed = held + size if held + size >= 400 else 0
        merged = sum(written) - before - flushed
        most = max(most, merged)
        assert merged <= max(100, MERGE_KEYS_PER_KEY * size) + 100, "and up to a border"
    assert most >= 100, "a merge was seen"
    check(index, known, list(known)[:50])


def random_keys(rng, count):
    return rng.integers(0, 1 << 64, (count, 2), dtype=np.uint64)


def test_files_stay_few_while_commits_never_pause(tmp_path, monkeypatch):
    """Small files follow all the time; those of a larger size are merged nevertheless."""
    monkeypatch.setattr(index_module, "PIECE_KEYS", 250)
    monkeypatch.setattr(index_module, "FLUSH_KEYS", 1_000)
    rng = np.random.default_rng(1)
    index = RunIndex(tmp_path)
    for seq in range(1, 2_501):
        index.put(seq, random_keys(rng, 100), np.zeros(100, dtype=np.int64))
        sizes = [path.stat().st_size for path in tmp_path.glob("*.run")]
        assert len(sizes) <= 4 * FANOUT, (seq, sorted(sizes))
    assert len(index) == 250_000


def flushed(folder, commits=3):
    index, known = RunIndex(folder), {}
    for seq in range(1, commits + 1):
        put(index, known, seq, [(seq, i) for i in range(50)])
    index.flush()
    (path,) = folder.glob("*.run")
    return path, known


@pytest.mark.parametrize("version", [b"\x01", b"\x02"])
def test_a_run_of_a_version_before_is_built_again_from_the_lake(tmp_path, version):
    path, known = flushed(tmp_path)
    path.write_bytes(b"TBRUN\0\0" + version + path.read_bytes()[8:])
    index = RunIndex(tmp_path)
    assert index.covered() == 0
    assert not path.exists()
    put(index, {}, 1, list(known))
    check(index, known, [*list(known)[:5], (77, 77)])


def test_a_merge_that_the_disk_refuses_loses_nothing_and_is_begun_again(tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "PIECE_KEYS", 10)
    index, known = RunIndex(tmp_path), {}
    for seq in range(1, FANOUT):
        put(index, known, seq, [(seq, i) for i in range(50)])
        index.flush()
    put(index, known, FANOUT, [(FANOUT, i) for i in range(50)])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    index.flush()
    assert len(index._merges) == 1
    monkeypatch.setattr("tallybook.adapters.runs.file.Draft.add", full)
    with pytest.raises(Unavailable, match="No space"):
        put(index, known, FANOUT + 1, [(99, 99)])
    check(index, known, list(known))
    assert not list(tmp_path.glob("*.tmp"))
    monkeypatch.undo()
    put(index, known, FANOUT + 2, [(98, i) for i in range(50)])
    index.flush()
    check(RunIndex(tmp_path), known, list(known))
    assert len(list(tmp_path.glob("*.run"))) < FANOUT


def test_a_gap_is_read_again_from_the_lake(tmp_path):
    path, _ = flushed(tmp_path)
    path.rename(tmp_path / f"{2:020d}-{4:020d}.run")
    assert RunIndex(tmp_path).covered() == 0


DAMAGES = {
    "empty": lambda whole: b"",
    "half a header": lambda whole: whole[:39],
    "cut short": lambda whole: whole[:-1],
    "too long": lambda whole: whole + b"\0",
    "later version": lambda whole: b"TBRUN\0\0\x04" + whole[8:],
    "of other commits": lambda whole: whole[:8] + b"\7" + whole[9:],
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_a_damaged_run_names_itself_and_what_to_do(tmp_path, damage):
    path, _ = flushed(tmp_path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(Corrupt, match=r"\.run.*remove it, it is built again"):
        RunIndex(tmp_path)


def test_a_stranger_among_the_runs_is_named(tmp_path):
    path, _ = flushed(tmp_path)
    path.rename(path.with_name("notes.run"))
    with pytest.raises(Corrupt, match=r"notes\.run.*remove it"):
        RunIndex(tmp_path)


def test_an_unusable_folder_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        RunIndex(tmp_path / "file")


def test_a_flush_that_fails_loses_nothing(tmp_path):
    index, known = RunIndex(tmp_path / "index"), {}
    put(index, known, 1, [(1, 1), (2, 2)])
    shutil.rmtree(tmp_path / "index")
    with pytest.raises(Unavailable):
        index.flush()
    check(index, known, [(1, 1), (3, 3)])
    assert index.covered() == 1
    (tmp_path / "index").mkdir()
    index.flush()
    check(RunIndex(tmp_path / "index"), known, [(1, 1), (2, 2), (3, 3)])


def test_commits_are_put_in_order(tmp_path):
    index = RunIndex(tmp_path)
    with pytest.raises(AssertionError):
        index.put(2, *arrays([]))
