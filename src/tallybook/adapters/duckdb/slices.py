"""Roll-ups merged a slice at a time: what a merge holds at once does not grow with what it merges.

Roll-ups are ordered by week, within one by subject. A slice is some whole weeks, or some subjects
of one week unless subjects are to be merged. Where slices end is taken from the bounds that Parquet
keeps of its row groups; they cover everything whatever those say.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from tallybook.adapters.duckdb.source import readable
from tallybook.meter.sql import WEEK_US, Param, Sql

SLICE_ROWS = 300_000
"""Partials that a merge reads at once, but for the row groups at both ends and those of a subject
that has more in a week; a partial takes some 200 bytes of the engine while it is merged."""


class Border(NamedTuple):
    """Where a slice begins or ends.

    Attributes:
        week_us: begin of a week.
        subject: of that week; '' is before all.
    """

    week_us: int
    subject: str


def slices(paths: Sequence[str], rows_max: int = SLICE_ROWS) -> Iterator[Sql]:
    """Yield conditions on partials, in their order; each partial meets exactly one.

    Args:
        paths: files of roll-ups.
        rows_max: partials that about meet one.
    """
    for low, high in pairwise([None, *_cuts(paths, rows_max), None]):
        yield _between(low, high)


def whole_weeks(paths: Sequence[str], rows_max: int = SLICE_ROWS) -> Iterator[Sql]:
    """Yield conditions as `slices` does, but none that parts a week's subjects."""
    borders = [border for border in _cuts(paths, rows_max) if not border.subject]
    for low, high in pairwise([None, *borders, None]):
        yield _between(low, high)


def weeks(first_us: int, last_us: int, rows: int, rows_max: int = SLICE_ROWS) -> Iterator[Sql]:
    """Yield conditions on raw rows, in the order of their partials; each row meets exactly one.

    Args:
        first_us, last_us: times of the first and the last row.
        rows: how many there are.
        rows_max: rows that meet one, where they spread evenly over the time and over some weeks.
    """
    first = _week(first_us)
    count = (_week(last_us) - first) // WEEK_US + 1
    pieces = max(1, min(count, -(-rows // rows_max)))
    inner = [Border(first + count * at // pieces * WEEK_US, "") for at in range(1, pieces)]
    for low, high in pairwise([None, *inner, None]):
        yield _between(low, high, "time_us")


def _cuts(paths: Sequence[str], rows_max: int) -> list[Border]:
    return _borders(sorted(start for path in paths for start in _starts(path)), rows_max)


def _starts(path: str) -> Iterator[tuple[Border, int]]:
    """Yield about where each row group begins, and how many rows it has."""
    with readable(path):
        found = pq.read_metadata(path)
    groups = [found.row_group(at) for at in range(found.num_row_groups)]
    times, subjects = _columns(groups[0]) if groups else (0, 0)
    for group in groups:
        first, last = (_week(_bound(group, times, side)) for side in ("min", "max"))
        subject = _bound(group, subjects, "min") if first == last else ""
        yield Border(last, subject or ""), group.num_rows


def _columns(group: Any) -> tuple[int, int]:
    """Return where the bucket and the subject are in a row group.

    Not from the footer's `schema`: both hold each other, beyond the collector's sight of what they
    take, and under load such pairs were 12 MiB before it looked for rings.
    """
    names = [group.column(each).path_in_schema for each in range(group.num_columns)]
    return names.index("bucket_us"), names.index("subject")


def _bound(group: Any, column: int, side: str) -> Any:
    """Return the least or greatest value of a row group; None where the file does not say."""
    told = group.column(column).statistics
    return getattr(told, side) if told is not None and told.has_min_max else None


def _week(time_us: int | None) -> int:
    at = time_us or 0
    return at - at % WEEK_US


def _borders(starts: Sequence[tuple[Border, int]], rows_max: int) -> list[Border]:
    """Return where to cut: between weeks where that is enough, else within one."""
    weeks: dict[int, list[tuple[Border, int]]] = {}
    for border, rows in starts:
        weeks.setdefault(border.week_us, []).append((border, rows))
    found: set[Border] = set()
    held = 0
    for week_us, groups in weeks.items():
        rows = sum(rows for _, rows in groups)
        held += rows
        if held > rows_max:
            found.add(Border(week_us, ""))
            held = rows
        if rows > rows_max:
            found.update(_within(groups, rows_max), [Border(week_us + WEEK_US, "")])
            held = 0
    return sorted(found)


def _within(groups: Sequence[tuple[Border, int]], rows_max: int) -> list[Border]:
    """Return where to cut one week."""
    found: list[Border] = []
    held = 0
    for border, rows in groups:
        held += rows
        if held > rows_max and border.subject > (found[-1].subject if found else ""):
            found.append(border)
            held = rows
    return found


def _between(low: Border | None, high: Border | None, time: str = "bucket_us") -> Sql:
    """Return the condition for what lies from one border on, up to another; None is no border."""
    parts: list[str] = ["TRUE"]
    params: list[Param] = []
    if low is not None:
        parts.append(f"{time} >= ?")
        params.append(low.week_us)
        if low.subject:
            parts.append("(subject >= ? OR subject IS NULL)")
            params.append(low.subject)
    if high is not None:
        parts.append(f"{time} < ?")
        params.append(high.week_us + (WEEK_US if high.subject else 0))
        if high.subject:
            parts.append("subject < ?")
            params.append(high.subject)
    return Sql(" AND ".join(parts), params)
