"""What a recurring charge counts: a level that is carried over, for how long it was there.

Source: docs/algorithms/recurring.md
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import pairwise

import msgspec

from tallybook.catalog.plan import Proration
from tallybook.kernel.decimals import EXACT, divide
from tallybook.kernel.period import Period, days_between, zone
from tallybook.kernel.timestamps import from_us
from tallybook.meter.level import Change, LevelTerms, Reached, reached
from tallybook.meter.usage import Usage
from tallybook.meter.window import WindowSize, bounds
from tallybook.rate.matrix import Values
from tallybook.rate.step import ZERO, added

EVER_US = -62_135_596_800_000_000
"""The beginning of the year 1: no event is before it."""


class Recurring(msgspec.Struct, frozen=True, kw_only=True):
    """The terms of a recurring charge in one period.

    Attributes:
        proration: by days: each day at its own level; by second: the average level; none: the
            level at the end.
        start_us, until_us: what counts.
        full_start_us, full_end_us: the whole period.
        zone: whose days count.
        releases: dimension and texts of events that take a value away.
    """

    proration: Proration
    start_us: int
    until_us: int
    full_start_us: int
    full_end_us: int
    zone: str
    releases: tuple[tuple[str, tuple[str | None, ...]], ...] = ()

    def borders(self) -> tuple[int, ...]:
        """Return the windows to ask for: everything before, then days or the whole stretch."""
        size: WindowSize | None = "DAY" if self.proration == "day" else None
        return (EVER_US, *bounds(self.start_us, self.until_us, size, self.zone))

    def terms(self) -> LevelTerms:
        """Return what to ask of the level."""
        exact = self.proration == "second"
        return LevelTerms(since_us=self.start_us, releases=self.releases, moments=exact)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A level for a number of days.

    Attributes:
        since: the first of the days, such as 2026-05-17.
        days: how many.
        quantity: the level.
        cells: the same for each combination of a matrix price's dimensions.
    """

    since: str
    days: int
    quantity: Decimal
    cells: tuple[tuple[Values, Decimal], ...] = ()


class Levels(msgspec.Struct, frozen=True, kw_only=True):
    """What is priced.

    Attributes:
        quantity: prorated, at most 12 decimals.
        cells: the same for each combination of a matrix price's dimensions.
        held: where each day counts at its own level, the days of the period in order.
        full_days: of the whole period.
    """

    quantity: Decimal
    cells: tuple[tuple[Values, Decimal], ...] = ()
    held: tuple[Held, ...] = ()
    full_days: int = 1


def levels(
    recurring: Recurring, aggregation: str, rows: Mapping[Values, Sequence[Usage]]
) -> Levels:
    """Return what a recurring charge counts.

    Args:
        recurring: terms of the charge and period.
        aggregation: of the meter, one that has a level.
        rows: the answer's rows of each combination of the price's dimensions; {(): rows} for a
            price without.
    """
    spans = [Period(start, end) for start, end in pairwise(recurring.borders())]
    followed = {values: _followed(aggregation, spans, found) for values, found in rows.items()}
    if recurring.proration == "day":
        return _by_day(recurring, spans[1:], followed)
    cells = tuple((values, _alone(recurring, path[-1])) for values, path in followed.items())
    return Levels(quantity=added(quantity for _, quantity in cells), cells=cells)


def _followed(aggregation: str, spans: Sequence[Period], rows: Sequence[Usage]) -> list[Reached]:
    """Return the level of every window, the one before the period first."""
    by_start = {row.start_us: row for row in rows}
    changes = []
    for span in spans:
        row = by_start.get(span.start_us)
        value, level = (row.value, row.level) if row is not None else (None, None)
        changes.append(Change(span.start_us, span.end_us, value, level))
    return list(reached(aggregation, changes))


def _alone(recurring: Recurring, level: Reached) -> Decimal:
    """Return the level at the end, or the average of the whole period."""
    if recurring.proration == "none":
        return level.after
    return divide(level.held, Decimal(recurring.full_end_us - recurring.full_start_us))


def _by_day(
    recurring: Recurring, spans: Sequence[Period], followed: Mapping[Values, Sequence[Reached]]
) -> Levels:
    tz = zone(recurring.zone)
    full = days_between(recurring.full_start_us, recurring.full_end_us, tz)
    held: list[Held] = []
    for at, span in enumerate(spans, 1):
        days = days_between(span.start_us, span.end_us, tz)
        cells = tuple((values, path[at].peak) for values, path in followed.items())
        if held and (days == 0 or held[-1].cells == cells):
            held[-1] = msgspec.structs.replace(held[-1], days=held[-1].days + days)
            continue
        since = from_us(span.start_us).astimezone(tz).date().isoformat()
        quantity = added(quantity for _, quantity in cells)
        held.append(Held(since=since, days=days, quantity=quantity, cells=cells))
    prorated = tuple((values, _average(held, at, full)) for at, values in enumerate(followed))
    quantity = added(EXACT.multiply(one.quantity, Decimal(one.days)) for one in held)
    return Levels(
        quantity=divide(quantity, Decimal(full)), cells=prorated, held=tuple(held), full_days=full
    )


def _average(held: Sequence[Held], at: int, full: int) -> Decimal:
    """Return what the levels of one cell come to over a whole period."""
    total = ZERO
    for one in held:
        total = EXACT.add(total, EXACT.multiply(one.cells[at][1], Decimal(one.days)))
    return divide(total, Decimal(full))
