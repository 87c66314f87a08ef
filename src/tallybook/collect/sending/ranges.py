"""Sets of sequence numbers as few ranges: what came, what is missing, what came twice."""

from bisect import bisect_right

Ranges = tuple[tuple[int, int], ...]
"""Disjoint ranges with both ends in them, ascending, never touching each other."""

RANGES_MAX = 256
"""Beyond that the lowest gaps are forgotten, which the caller is told."""


def holds(ranges: Ranges, number: int) -> bool:
    """Whether the number is in the set."""
    at = bisect_right(ranges, (number, number)) - 1
    if at >= 0 and ranges[at][1] >= number:
        return True
    following = at + 1
    return following < len(ranges) and ranges[following][0] == number


def added(ranges: Ranges, number: int) -> Ranges:
    """Return the set with one more number."""
    if holds(ranges, number):
        return ranges
    at = bisect_right(ranges, (number, number))
    first = last = number
    low, high = at, at
    if at > 0 and ranges[at - 1][1] == number - 1:
        low, first = at - 1, ranges[at - 1][0]
    if at < len(ranges) and ranges[at][0] == number + 1:
        high, last = at + 1, ranges[at][1]
    return (*ranges[:low], (first, last), *ranges[high:])


def gaps(ranges: Ranges, start: int, end: int) -> Ranges:
    """Return what the set lacks of start <= number < end."""
    found = []
    at = start
    for first, last in ranges:
        if first >= end:
            break
        if first > at:
            found.append((at, first - 1))
        at = max(at, last + 1)
    if at < end:
        found.append((at, end - 1))
    return tuple(found)


def count(ranges: Ranges) -> int:
    """Return how many numbers there are."""
    return sum(last - first + 1 for first, last in ranges)


def bounded(ranges: Ranges, ranges_max: int = RANGES_MAX) -> tuple[Ranges, int]:
    """Return at most so many ranges and how many numbers of gaps were filled in for that."""
    forgotten = 0
    while len(ranges) > ranges_max:
        (first, last), (following, end), *rest = ranges
        forgotten += following - last - 1
        ranges = ((first, end), *rest)
    return ranges, forgotten
