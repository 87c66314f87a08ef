"""Growth of counters: the differences add up, and nothing is guessed upward."""

from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tallybook.collect.counter import Baseline, Step, advance

VALUES = st.decimals(min_value=0, max_value=10**12, places=2)
BOOTS = st.lists(st.lists(VALUES, min_size=1, max_size=8).map(sorted), min_size=1, max_size=5)


def run(readings: list[tuple[str, Decimal]]) -> list[Step]:
    steps: list[Step] = []
    for at, (incarnation, value) in enumerate(readings):
        known = steps[-1].baseline if steps else None
        steps.append(advance(known, Baseline(incarnation, value, at)))
    return steps


@given(st.lists(VALUES, min_size=1, max_size=20).map(sorted))
def test_without_resets_the_growth_is_last_minus_first(values: list[Decimal]) -> None:
    steps = run([("boot", value) for value in values])
    assert sum(step.growth for step in steps) == values[-1] - values[0]


@given(BOOTS)
def test_with_resets_the_growth_is_that_of_every_boot(boots: list[list[Decimal]]) -> None:
    steps = run([(str(boot), value) for boot, values in enumerate(boots) for value in values])
    expected = boots[0][-1] - boots[0][0] + sum(values[-1] for values in boots[1:])
    assert sum(step.growth for step in steps) == expected


@given(st.lists(VALUES, min_size=1, max_size=20))
def test_without_evidence_nothing_is_guessed_upward(values: list[Decimal]) -> None:
    steps = run([("boot", value) for value in values])
    assert all(step.growth >= 0 for step in steps)
    ups = sum(max(b - a, Decimal(0)) for a, b in pairwise(values))
    assert sum(step.growth for step in steps) <= ups


@given(st.lists(st.integers(min_value=-3, max_value=3), min_size=1, max_size=30))
def test_jitter_adds_nothing(wobbles: list[int]) -> None:
    values = [Decimal(1000 + wobble) for wobble in wobbles]
    steps = run([("boot", value) for value in values])
    assert sum(step.growth for step in steps) == max(values) - values[0]


@given(BOOTS, st.data())
def test_reading_more_often_changes_no_sum(boots: list[list[Decimal]], data: st.DataObject) -> None:
    all_readings = [(str(boot), v) for boot, values in enumerate(boots) for v in values]
    lasts = {len(boots[0]) - 1}
    for values in boots[1:]:
        lasts.add(max(lasts) + len(values))
    kept = [
        reading
        for at, reading in enumerate(all_readings)
        if at == 0 or at in lasts or data.draw(st.booleans())
    ]
    total = sum(step.growth for step in run(all_readings))
    assert sum(step.growth for step in run(kept)) == total


def test_a_deep_fall_without_evidence_is_told_and_counts_on_from_there() -> None:
    steps = run([("boot", Decimal(v)) for v in (1000, 10, 30)])
    assert [step.judgement for step in steps] == ["first", "fell", "forward"]
    assert [step.growth for step in steps] == [0, 0, 20]
