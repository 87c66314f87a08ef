"""The intermediate form of a meter: what an event contributes, and how contributions merge.

A partial is a row of these columns. One event is a partial; the merge of partials is a partial;
so stream, batch, roll-up and query are the same sum in another order (DECISIONS 14). Merging is
associative and commutative, and every engine gets the same two lists.

| column | an event gives | merges by |
|---|---|---|
| n | 1 | sum |
| nv | 1 if its value is usable | sum |
| digest | its row hash | sum |
| s | value | sum |
| mn, mx | value | min, max |
| latest | (time, source, id, value) if usable | greatest |

UNIQUE_COUNT groups by the value's text (column `u`) besides, so its sets merge as rows.
TIME_WEIGHTED is integrated from raw rows: a level that arrives late changes how long its
neighbour was held, so contributions of different commits do not merge (ADR 0005).
"""

from decimal import Decimal

import msgspec

from tallybook.catalog.meter import Meter
from tallybook.kernel.decimals import EXACT, divide
from tallybook.kernel.timestamps import HOUR_US

FRACTION = 10**12
"""A level is split at the point into two integers, so that level x duration never overflows."""

_VALUES = {"SUM": ("s",), "AVG": ("s",), "MIN": ("mn",), "MAX": ("mx",), "LATEST": ("latest",)}


def value_columns(meter: Meter) -> tuple[str, ...]:
    """Return the partial columns that carry the value, besides n, nv and digest."""
    return _VALUES.get(meter.aggregation, ())


def rolls_up(meter: Meter) -> bool:
    """Whether contributions of different commits merge."""
    return meter.aggregation != "TIME_WEIGHTED"


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """A merged partial of one window and group, as an engine answers it.

    Attributes:
        n: events. nv: events with a usable value.
        s, mn, mx, latest: as the table above; None where the meter has no such column.
        uniques: distinct texts, for UNIQUE_COUNT.
        whole, fraction: for TIME_WEIGHTED the sums of integer and fractional part (in units of
            10^-12) times microseconds; None where no level was held.
    """

    n: int
    nv: int
    s: Decimal | None = None
    mn: Decimal | None = None
    mx: Decimal | None = None
    latest: Decimal | None = None
    uniques: int | None = None
    whole: int | None = None
    fraction: int | None = None


def finish(meter: Meter, merged: Merged) -> Decimal | None:
    """Return the meter's value, exact; AVG and TIME_WEIGHTED half-even to 12 decimals.

    None where no event in scope had a usable value.
    """
    match meter.aggregation:
        case "COUNT":
            return Decimal(merged.n)
        case "TIME_WEIGHTED":
            return _integral(merged)
        case "UNIQUE_COUNT":
            return Decimal(merged.uniques) if merged.uniques else None
        case _ if merged.nv == 0:
            return None
        case "AVG":
            assert merged.s is not None, "an average has a sum"
            return divide(merged.s, Decimal(merged.nv))
        case "SUM":
            return merged.s
        case "MIN":
            return merged.mn
        case "MAX":
            return merged.mx
        case _:
            return merged.latest


def _integral(merged: Merged) -> Decimal | None:
    if merged.whole is None or merged.fraction is None:
        return None
    fraction = EXACT.divide(Decimal(merged.fraction), Decimal(FRACTION))
    return divide(EXACT.add(Decimal(merged.whole), fraction), Decimal(HOUR_US))
