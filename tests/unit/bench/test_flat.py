"""Percentiles, spread, and whether a series is flat."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures.flat import Point, flatness, slope
from bench.figures.numbers import percentile, spread

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


def points(*values: float) -> list[Point]:
    return [Point(10.0 * at, value) for at, value in enumerate(values)]


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 15), (5, 15), (30, 20), (40, 20), (50, 35), (99, 50), (100, 50)]
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile([35, 20, 15, 50, 40], share) == expected


def test_a_percentile_of_nothing_is_nothing() -> None:
    assert percentile([], 99) == 0


@given(VALUES, st.floats(0.001, 100))
def test_a_percentile_is_a_value_that_enough_values_do_not_exceed(values, share) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share / 100 * len(values)


def test_a_spread_has_median_ends_and_rounds() -> None:
    assert spread([3.0, 1.0, 8.0]) == spread([8.0, 3.0, 1.0])
    found = spread([3.0, 1.0, 8.0, 5.0])
    assert (found.median, found.low, found.high, found.rounds) == (4.0, 1.0, 8.0, 4)


def test_a_figure_without_a_round_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        spread([])


def test_a_line_has_its_slope() -> None:
    assert slope(points(0, 1, 2, 3)) == pytest.approx(0.1)


def test_few_points_have_none() -> None:
    assert slope([]) == slope(points(7)) == 0
    assert slope([Point(1, 1), Point(1, 9)]) == 0


def test_one_peak_is_no_trend() -> None:
    level = [100.0] * 30
    level[17] = 9_000.0
    assert slope(points(*level)) == 0


def test_a_long_series_is_thinned_and_keeps_its_slope() -> None:
    assert slope(points(*(float(n) for n in range(5000)))) == pytest.approx(0.1)


@given(st.floats(-100, 100), st.floats(-1e3, 1e3), st.integers(2, 40))
def test_the_slope_of_a_line_is_found_wherever_it_lies(rise, level, count) -> None:
    line = [Point(float(at), level + rise * at) for at in range(count)]
    assert slope(line) == pytest.approx(rise, abs=1e-6)


def test_what_grows_more_than_allowed_is_not_flat() -> None:
    grows = flatness("memory, MiB", points(*(100.0 + n for n in range(101))), 16, 0.05)
    assert not grows.flat
    assert grows.grown == pytest.approx(80)  # the last four fifths of a rise of 100
    assert grows.an_hour == pytest.approx(360)
    assert grows.allowed == pytest.approx(16 + 0.05 * grows.level)
    assert grows.highest == 200


def test_filling_caches_at_the_beginning_is_left_out() -> None:
    filled = [10.0 * n for n in range(20)] + [200.0] * 81
    assert flatness("memory, MiB", points(*filled), 1).flat


def test_what_falls_is_flat() -> None:
    assert flatness("lag", points(*(100.0 - n for n in range(50))), 0).flat


def test_a_series_that_nobody_sampled_says_nothing() -> None:
    empty = flatness("lag", [], 1)
    assert empty.flat
    assert (empty.level, empty.grown, empty.highest) == (0, 0, 0)
