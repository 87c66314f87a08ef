"""Medians, percentiles and spread of a few measurements."""

import math
import statistics
from collections.abc import Sequence

import msgspec


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` percent of all values do not exceed; 0 of none.

    The nearest-rank definition: always one of the values, 100 is the greatest.
    """
    if not values:
        return 0.0
    ordered = sorted(values)
    rank = math.ceil(share / 100 * len(ordered))
    return ordered[max(rank, 1) - 1]


class Spread(msgspec.Struct, frozen=True):
    """A figure of several rounds: its median, least and greatest."""

    median: float
    low: float
    high: float
    rounds: int


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of at least one value."""
    assert values, "a figure without a round"
    return Spread(statistics.median(values), min(values), max(values), len(values))
