"""Levels: what is there at an instant because of everything that came before.

A COUNT, SUM, UNIQUE_COUNT or LATEST meter may be read as a level that every event moves: each
event of a COUNT adds one, each value of a SUM is added, each new text of a UNIQUE_COUNT adds one
until an event releases it, each value of a LATEST takes the place of the one before. A level
never starts anew; `reached` follows it from window to window, and `meter.level_sql` says to an
engine what the answer of one window needs besides its value.

Source: docs/algorithms/recurring.md
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal

import msgspec

from tallybook.kernel.decimals import EXACT

ZERO = Decimal(0)


class LevelTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a query asks of levels.

    Attributes:
        since_us: a border of the query's windows; moments are asked from there on.
        releases: dimension and texts: an event with one of them takes its value out of a
            UNIQUE_COUNT's level; None is a missing value.
        moments: whether it matters how long within a window a level was there.
    """

    since_us: int
    releases: tuple[tuple[str, tuple[str | None, ...]], ...] = ()
    moments: bool = False


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """What the events of one window and group do to a level, besides the row's value.

    Attributes:
        opened: of a UNIQUE_COUNT: values there at some time of the window, but not at its start.
        net: of a UNIQUE_COUNT: values there at its end, less those at its start.
        moment: unit-microseconds that the events add to the level at the start: for each change
            of the level, how much times how long until the end of the window. Of a LATEST: the
            levels themselves, each times how long it was held.
        first_us: of a LATEST: when the first of them begins; None where there is none.
    """

    opened: int = 0
    net: int = 0
    moment: Decimal = ZERO
    first_us: int | None = None


class Change(msgspec.Struct, frozen=True):
    """One window of an answer: its borders, and what happened in it.

    Attributes:
        value: the meter's value of the window; None without a usable one.
        level: as asked; None where nothing happened.
    """

    start_us: int
    end_us: int
    value: Decimal | None
    level: Level | None


class Reached(msgspec.Struct, frozen=True):
    """The level of one window.

    Attributes:
        before: at its start.
        peak: of a UNIQUE_COUNT how many were there at some time; of any other the level at the
            end, so that of several changes in one window the last counts.
        after: at its end.
        held: unit-microseconds over the whole window; known where moments were asked.
    """

    before: Decimal
    peak: Decimal
    after: Decimal
    held: Decimal


def reached(aggregation: str, changes: Sequence[Change]) -> Iterator[Reached]:
    """Yield the level of each window; the first starts from nothing.

    Args:
        aggregation: one that has a level.
        changes: every window in order, each beginning where the one before ends.
    """
    before = ZERO
    for change in changes:
        level = change.level or Level()
        peak = after = _after(aggregation, before, change, level)
        if aggregation == "UNIQUE_COUNT":
            peak = EXACT.add(before, Decimal(level.opened))
        yield Reached(before, peak, after, _held(before, change, level))
        before = after


def _after(aggregation: str, before: Decimal, change: Change, level: Level) -> Decimal:
    if aggregation == "UNIQUE_COUNT":
        return EXACT.add(before, Decimal(level.net))
    if change.value is None:
        return before
    return change.value if aggregation == "LATEST" else EXACT.add(before, change.value)


def _held(before: Decimal, change: Change, level: Level) -> Decimal:
    until = change.end_us if level.first_us is None else level.first_us
    carried = EXACT.multiply(before, Decimal(until - change.start_us))
    return EXACT.add(carried, level.moment)
