"""Ratios against their bounds, and what is said when one has moved."""

import pytest

from bench.figures.guard import (
    Judgement,
    Limit,
    Watched,
    judge,
    limit_of,
    read_limits,
    written_limits,
)
from bench.runs.guard import FILE, GROUPS, WATCHED

ACCEPT = Watched(name="accept", over="accepting over decoding")
LIMIT = Limit(median=5.0, bound=8.0)


def one(values: list[float], limit: Limit | None = LIMIT) -> Judgement:
    limits = {"accept": limit} if limit is not None else {}
    (judged,) = judge([ACCEPT], {"accept": values}, limits)
    return judged


def test_the_best_round_counts() -> None:
    assert one([9.0, 12.0, 7.9]).held
    assert not one([9.0, 12.0, 8.1]).held


def test_the_bound_itself_holds() -> None:
    assert one([8.0]).held


def test_what_was_not_measured_or_has_no_bound_does_not_hold() -> None:
    assert not one([]).held
    assert not one([1.0], None).held
    assert "--set accept" in one([1.0], None).advice()
    assert "not measured" in one([]).line()


def test_the_advice_names_ratio_bound_profile_and_the_way_to_a_new_bound() -> None:
    text = one([10.0]).advice()
    for part in ("accepting over decoding", "10.00", "2.0 times", "8", "profile accept", "--set"):
        assert part in text
    assert one([10.0]).line().startswith("FAIL accept")
    assert one([4.0]).line().startswith("ok   accept")


def test_a_bound_is_so_many_medians() -> None:
    assert limit_of([4.0, 9.0, 5.0]) == Limit(median=5.0, bound=8.0)
    assert limit_of([1.23456], 2) == Limit(median=1.23, bound=2.47)


def test_limits_are_read_as_they_were_written() -> None:
    limits = {"accept": LIMIT, "start": Limit(median=0.5, bound=0.8)}
    assert read_limits(written_limits(limits)) == limits


def test_every_ratio_is_measured_by_one_group_and_has_a_bound() -> None:
    names = [name for names in GROUPS.values() for name in names]
    assert sorted(names) == sorted(watched.name for watched in WATCHED)
    assert set(read_limits(FILE.read_text())) == set(names)


@pytest.mark.parametrize("name", [watched.name for watched in WATCHED])
def test_a_bound_leaves_room_for_a_busy_machine(name: str) -> None:
    limit = read_limits(FILE.read_text())[name]
    assert limit.bound >= 1.5 * limit.median
