"""Ranges of sequence numbers are sets."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tallybook.collect.sending.ranges import Ranges, added, bounded, count, gaps, holds

NUMBERS = st.lists(st.integers(1, 60))


def ranges_of(numbers: list[int]) -> Ranges:
    found: Ranges = ()
    for number in numbers:
        found = added(found, number)
    return found


def numbers_of(ranges: Ranges) -> set[int]:
    return {n for first, last in ranges for n in range(first, last + 1)}


@given(NUMBERS)
def test_they_hold_what_was_added_in_whatever_order(numbers: list[int]) -> None:
    found = ranges_of(numbers)
    assert numbers_of(found) == set(numbers)
    assert count(found) == len(set(numbers))
    assert found == ranges_of(sorted(numbers))
    assert all(holds(found, n) == (n in set(numbers)) for n in range(62))


@given(NUMBERS)
def test_they_are_as_few_as_can_be(numbers: list[int]) -> None:
    found = ranges_of(numbers)
    assert all(first <= last for first, last in found)
    assert all(last + 1 < following for (_, last), (following, _) in pairwise(found))


@given(NUMBERS, st.integers(1, 60), st.integers(1, 60))
def test_gaps_are_what_is_not_there(numbers: list[int], start: int, end: int) -> None:
    assert numbers_of(gaps(ranges_of(numbers), start, end)) == set(range(start, end)) - set(numbers)


@given(NUMBERS, st.integers(1, 5))
def test_too_many_ranges_are_joined_at_the_bottom_and_counted(numbers: list[int], n: int) -> None:
    found = ranges_of(numbers)
    kept, forgotten = bounded(found, n)
    assert len(kept) <= n
    assert numbers_of(kept) >= set(numbers)
    assert count(kept) == count(found) + forgotten
    if found:
        assert kept[-1] == found[-1] or n == 1
