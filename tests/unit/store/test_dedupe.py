"""Duplicates: the runs answer what a dictionary would, also where halves collide."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tallybook.store.dedupe import (
    Bloom,
    Run,
    bloom_bits,
    first_in_batch,
    judge,
    make_run,
    merge_runs,
)

HALVES = st.sampled_from([0, 1, 2, 1 << 63, (1 << 64) - 1]) | st.integers(0, (1 << 64) - 1)
FEW = st.integers(0, 2)
KEYS = (
    st.tuples(FEW, FEW)
    | st.tuples(FEW, HALVES)
    | st.tuples(HALVES, FEW)
    | st.tuples(HALVES, HALVES)
)
ROWS = st.tuples(KEYS, st.integers(0, 2))
BATCHES = st.lists(st.lists(ROWS, max_size=12), max_size=6)


def arrays(rows):
    keys = np.array([key for key, _ in rows], dtype=np.uint64).reshape(-1, 2)
    return keys, np.array([content for _, content in rows], dtype=np.int64)


def model(known, rows):
    """Judge by a dictionary; returns (new, conflict) and remembers the firsts."""
    new, conflict = [], []
    for key, content in rows:
        new.append(key not in known)
        first = known.setdefault(key, content)
        conflict.append(first != content)
    return new, conflict


@given(BATCHES, st.data())
def test_judging_equals_a_dictionary(batches, data):
    known, runs = {}, []
    for seq, rows in enumerate(batches, start=1):
        keys, content = arrays(rows)
        verdict = judge(runs, keys, content)
        assert (verdict.new.tolist(), verdict.conflict.tolist()) == model(known, rows)
        at = np.flatnonzero(verdict.new)
        runs.append(make_run(seq, seq, keys[at], content[at]))
        if len(runs) > 1 and data.draw(st.booleans()):
            tail = data.draw(st.integers(2, len(runs)))
            runs[-tail:] = [merge_runs(runs[-tail:])]
    assert sum(map(len, runs)) == len(known)
    assert [run.first_seq for run in runs[1:]] == [run.last_seq + 1 for run in runs[:-1]]


@given(st.lists(ROWS, max_size=30))
def test_the_first_of_a_batch_is_the_first_in_its_order(rows):
    first, conflict = first_in_batch(*arrays(rows))
    assert (first.tolist(), conflict.tolist()) == model({}, rows)


def test_what_equals_the_lake_s_first_is_no_conflict_beside_one_that_differs():
    run = make_run(1, 1, *arrays([((7, 7), 1)]))
    verdict = judge([run], *arrays([((7, 7), 2), ((7, 7), 1)]))
    assert verdict.new.tolist() == [False, False]
    assert verdict.conflict.tolist() == [True, False]


@given(st.lists(KEYS, max_size=40), st.lists(KEYS, max_size=10))
def test_a_bloom_filter_denies_nothing_it_has(inside, outside):
    keys, _ = arrays([(key, 0) for key in sorted(inside)])
    bloom = Bloom.of(keys[:, 0], keys[:, 1])
    assert bloom.may_have(keys[:, 0], bloom_bits(keys[:, 1])).tolist() == list(range(len(inside)))
    other, _ = arrays([(key, 0) for key in sorted(outside)])
    assert len(bloom.may_have(other[:, 0], bloom_bits(other[:, 1]))) <= len(outside)


def test_a_bloom_filter_seldom_says_maybe():
    rng = np.random.default_rng(7)
    inside, outside = rng.integers(0, (1 << 64) - 1, (2, 20_000, 2), dtype=np.uint64)
    inside = inside[np.argsort(inside[:, 0])]
    bloom = Bloom.of(inside[:, 0], inside[:, 1])
    outside = outside[np.argsort(outside[:, 0])]
    assert len(bloom.may_have(outside[:, 0], bloom_bits(outside[:, 1]))) < 20, "three are usual"
    again = Bloom(bloom.words)
    assert len(again.may_have(inside[:, 0], bloom_bits(inside[:, 1]))) == len(inside)


def test_a_run_finds_one_among_many_with_the_same_high_half():
    rows = [((5, lo), lo) for lo in range(300)] + [((4, 0), 900), ((6, 0), 901)]
    run = make_run(1, 1, *arrays(rows[::-1]))
    keys, _ = arrays([((5, 299), 0), ((5, 300), 0), ((6, 0), 0), ((7, 0), 0)])
    found, contents = run.find(keys[:, 0], keys[:, 1], bloom_bits(keys[:, 1]))
    assert dict(zip(found.tolist(), contents.tolist(), strict=True)) == {0: 299, 2: 901}


def test_empty_runs_and_batches():
    empty = make_run(1, 3, *arrays([]))
    assert len(empty) == 0
    key, _ = arrays([((1, 1), 0)])
    assert empty.find(key[:, 0], key[:, 1], bloom_bits(key[:, 1]))[0].tolist() == []
    assert judge([empty], *arrays([])).new.tolist() == []
    merged = merge_runs([empty, make_run(4, 4, *arrays([((1, 1), 5)]))])
    assert (merged.first_seq, merged.last_seq, len(merged)) == (1, 4, 1)
    assert isinstance(merged, Run)
