"""Whether a series stays where it is: a slope that outliers do not move, and a verdict."""

import statistics
from collections.abc import Sequence

import msgspec

from bench.figures.numbers import percentile

POINTS_MAX = 400
"""Pairs grow with the square; past it every second, third ... point is left out."""


class Point(msgspec.Struct, frozen=True):
    """A measurement at a time, seconds since the beginning."""

    seconds: float
    value: float


class Flatness(msgspec.Struct, frozen=True, kw_only=True):
    """How a series went on.

    Attributes:
        name: of the series, with its unit.
        an_hour: slope, units an hour.
        level: its median.
        highest: its greatest value.
        grown: slope times the length of the series: what it gained over its time.
        allowed: what `grown` may be.
        flat: whether it is not more.
    """

    name: str
    an_hour: float
    level: float
    highest: float
    grown: float
    allowed: float
    flat: bool


def slope(points: Sequence[Point]) -> float:
    """Return units a second: the median of the slopes of all pairs (Theil and Sen).

    A third of the points may be anywhere without moving it, so one compaction in the middle of a
    soak is no trend. 0 for fewer than two points.
    """
    thinned = points[:: max(1, -(-len(points) // POINTS_MAX))]
    slopes = [
        (later.value - earlier.value) / (later.seconds - earlier.seconds)
        for at, earlier in enumerate(thinned)
        for later in thinned[at + 1 :]
        if later.seconds > earlier.seconds
    ]
    return statistics.median(slopes) if slopes else 0.0


def flatness(
    name: str, points: Sequence[Point], allowed: float, share: float = 0.0, settle: float = 0.2
) -> Flatness:
    """Judge a series after its first part, in which caches fill.

    Args:
        name: of the series, with its unit.
        points: in order of time.
        allowed: units that it may gain over its whole length, whatever its level.
        share: of the level that it may gain besides.
        settle: the part at the beginning that is left out.

    Returns:
        The verdict; falling is flat.
    """
    begun = points[0].seconds + settle * (points[-1].seconds - points[0].seconds) if points else 0
    kept = [point for point in points if point.seconds >= begun]
    level = percentile([point.value for point in kept], 50)
    rise = slope(kept)
    grown = rise * (kept[-1].seconds - kept[0].seconds) if kept else 0.0
    bound = allowed + share * level
    return Flatness(
        name=name,
        an_hour=rise * 3600,
        level=level,
        highest=max((point.value for point in kept), default=0.0),
        grown=grown,
        allowed=bound,
        flat=grown <= bound,
    )
