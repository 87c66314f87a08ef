"""Where a cumulative series stands: the table of the module, and laws against plain oracles."""

import itertools
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.collect.doors.standing import (
    HELD_US,
    Evidence,
    Sample,
    Standing,
    judge,
)

S = 1_000_000
BORN = 1_000 * S
NONE = Evidence()


def run(samples, evidence=None, born=BORN, known=None):
    """Fold samples; return all growths, the last standing and the reasons."""
    growths, reasons = [], []
    for at, sample in enumerate(samples):
        told = (evidence or {}).get(at, NONE)
        verdict = judge(known, sample, told, born)
        known = verdict.standing
        growths += verdict.growths
        reasons.append(verdict.reason)
    return growths, known, reasons


def sample(value, at, start=0, total=None):
    return Sample(
        value=Decimal(value),
        time_us=at * S,
        start_us=start * S,
        sum=None if total is None else Decimal(total),
    )


def amounts(growths):
    return [int(growth.amount) for growth in growths]


TABLE = [
    ("first, unknown start", [sample(7, 1010)], [], ["baseline"]),
    ("first, began after the log", [sample(7, 1010, 1005)], [7], [""]),
    ("first, began before the log", [sample(7, 1010, 900)], [], ["baseline"]),
    ("first, at nothing", [sample(0, 1010, 1005)], [], ["unchanged"]),
    ("first, start after the sample", [sample(7, 1010, 1011)], [], ["baseline"]),
    ("higher", [sample(7, 1010), sample(9, 1011)], [2], ["baseline", ""]),
    ("the same", [sample(7, 1010), sample(7, 1011)], [], ["baseline", "unchanged"]),
    ("repeated", [sample(7, 1010), sample(9, 1010)], [], ["baseline", "repeated"]),
    ("late", [sample(7, 1010), sample(5, 1009)], [], ["baseline", "repeated"]),
    (
        "a little lower",
        [sample(100, 1010), sample(99, 1011), sample(103, 1012)],
        [3],
        ["baseline", "jitter", ""],
    ),
    (
        "below half, no evidence",
        [sample(100, 1010), sample(3, 1011), sample(5, 1012)],
        [2],
        ["baseline", "fell", ""],
    ),
    (
        "began anew",
        [sample(100, 1010, 1001), sample(3, 1012, 1011), sample(5, 1013, 1011)],
        [100, 3, 2],
        ["", "", ""],
    ),
    (
        "began anew, higher than before",
        [sample(100, 1010, 1001), sample(300, 1012, 1011)],
        [100, 300],
        ["", ""],
    ),
    (
        "a start that moves about is one counter",
        [sample(100, 1010, 1001), sample(104, 1012, 1002), sample(105, 1013, 1001)],
        [100, 4, 1],
        ["", "overlap", ""],
    ),
    (
        "two senders share a series: never more than the highest",
        [sample(100, 1010, 1001), sample(50, 1012, 1005), sample(101, 1013, 1001)],
        [100, 1],
        ["", "overlap", ""],
    ),
    (
        "a start becomes known",
        [sample(100, 1010), sample(104, 1012, 1001)],
        [4],
        ["baseline", ""],
    ),
]


@pytest.mark.parametrize(
    ("samples", "expected", "reasons"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_each_row_of_the_table(samples, expected, reasons):
    growths, _, found = run(samples)
    assert (amounts(growths), found) == (expected, reasons)


def test_a_new_counter_is_believed_whole_for_a_day():
    day = 86_400
    assert amounts(run([sample(7, 2000 + day, 2000)], born=0)[0]) == [7]
    assert amounts(run([sample(7, 2001 + day, 2000)], born=0)[0]) == []


def test_a_histogram_grows_by_count_and_sum():
    growths, _, _ = run([sample(2, 1010, 1001, "3.5"), sample(3, 1011, 1001, "3.25")])
    assert [(int(g.amount), str(g.sum)) for g in growths] == [(2, "3.5"), (1, "-0.25")]
    growths, _, _ = run([sample(2, 1010, 0, "3.5"), sample(2, 1011, 0, "4")])
    assert [(int(g.amount), str(g.sum)) for g in growths] == [(0, "0.5")]


def test_evidence_explains_a_fall_at_once():
    growths, _, reasons = run(
        [sample(100, 1010), sample(3, 1020)], {1: Evidence(target_us=1015 * S)}
    )
    assert (amounts(growths), reasons) == ([3], ["baseline", ""])
    assert growths[0].since_us == 1015 * S


def test_evidence_explains_a_small_fall_whenever_it_comes():
    samples = [sample(100, 1010), sample(60, 1020), sample(70, 1030), sample(71, 1040)]
    growths, _, _ = run(samples, {2: Evidence(target_us=1015 * S)})
    assert amounts(growths) == [70, 1]


def test_evidence_that_comes_late_adds_what_was_held_once():
    samples = [sample(100, 1010), sample(3, 1020), sample(5, 1030), sample(6, 1040)]
    for late in (2, 3):
        told = {at: Evidence(target_us=1015 * S) for at in range(late, 4)}
        growths, _, _ = run(samples, told)
        assert sum(amounts(growths)) == 6
        held = next(g for g in growths if g.time_us == 1020 * S)
        assert (int(held.amount), held.since_us) == (3, 1015 * S)


def test_old_evidence_explains_nothing():
    samples = [sample(100, 1010), sample(3, 1020), sample(5, 1030)]
    told = dict.fromkeys(range(3), Evidence(target_us=1005 * S))
    assert amounts(run(samples, told)[0]) == [2]


def test_what_is_held_is_given_up():
    after = 1020 + HELD_US // S
    samples = [sample(100, 1010), sample(3, 1020), sample(5, after + 1), sample(6, after + 2)]
    growths, known, _ = run(samples, {3: Evidence(target_us=1015 * S)})
    assert amounts(growths) == [2, 1]
    assert known.held is None


def test_the_start_of_the_series_itself_explains_a_first_sample_but_its_process_does_not():
    samples = [sample(7, 1010), sample(9, 1020)]
    assert amounts(run(samples, {1: Evidence(series_us=1005 * S)})[0]) == [7, 2]
    assert amounts(run(samples, {1: Evidence(target_us=1005 * S)})[0]) == [2]
    assert amounts(run(samples, {1: Evidence(series_us=900 * S)})[0]) == [2]


lives = st.lists(
    st.lists(st.integers(min_value=0, max_value=50), min_size=1, max_size=6), min_size=1, max_size=4
)
"""Lives of one counter; each is what it grew by before each of its samples."""


def told(lives_, *, starts):
    """Return the samples of all lives in order, with their starts where they are told."""
    samples, at = [], 1001
    for growth in lives_:
        start, value = at, 0
        for step in growth:
            at += 1
            value += step
            samples.append(sample(value, at, start if starts else 0))
    return samples


@given(lives, st.data())
def test_repeats_at_any_moment_change_nothing(lives_, data):
    samples = told(lives_, starts=True)
    sent = []
    for at, one in enumerate(samples):
        sent.append(one)
        sent += data.draw(st.lists(st.sampled_from(samples[: at + 1]), max_size=3))
    growths, _, _ = run(sent)
    assert sum(amounts(growths)) == sum(map(sum, lives_))
    identities = [growth.time_us for growth in growths]
    assert len(identities) == len(set(identities))


@given(lives.filter(lambda found: len(found) == 1), st.randoms(use_true_random=False))
def test_samples_of_one_life_in_any_order_add_up_to_the_newest(lives_, shuffle):
    samples = told(lives_, starts=True)
    shuffle.shuffle(samples)
    assert sum(amounts(run(samples)[0])) == sum(lives_[0])


@given(lives.filter(lambda found: len(found) == 1), st.randoms(use_true_random=False))
def test_without_a_start_the_first_that_arrives_is_the_baseline(lives_, shuffle):
    samples = told(lives_, starts=False)
    shuffle.shuffle(samples)
    newest = max(samples, key=lambda one: one.time_us)
    expected = int(newest.value - samples[0].value) if newest is not samples[0] else 0
    assert sum(amounts(run(samples)[0])) == expected


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20))
def test_without_evidence_nothing_is_guessed_upward(values):
    samples = [sample(value, 1001 + at) for at, value in enumerate(values)]
    growths, known, _ = run(samples)
    rises = sum(max(0, b - a) for a, b in itertools.pairwise(values))
    assert all(growth.amount >= 0 for growth in growths)
    assert sum(amounts(growths)) <= rises
    assert isinstance(known, Standing)


@given(lives)
def test_lives_add_up_with_evidence_that_is_one_sample_late(lives_):
    """A fall is explained by a start that is known only when the next sample comes."""
    samples, starts, at = [], [], 1001
    for growth in lives_:
        at += 1
        start, value = at, 0
        for step in growth:
            at += 1
            value += step + 1
            samples.append(sample(value, at))
            starts.append(start * S)
    at += 1
    samples.append(sample(samples[-1].value, at))
    evidence = {n: Evidence(series_us=starts[n - 1]) for n in range(1, len(samples))}
    growths, _, reasons = run(samples, evidence)
    falls = [n for n in range(1, len(samples)) if samples[n].value < samples[n - 1].value]
    hidden = sum(
        int(samples[n - 1].value)
        for n in range(1, len(samples) - 1)
        if starts[n] != starts[n - 1] and n not in falls
    )
    small = any(samples[n].value * 2 >= samples[n - 1].value for n in falls)
    if not small:
        assert sum(amounts(growths)) == sum(sum(life) + len(life) for life in lives_) - hidden
    assert "overlap" not in reasons
