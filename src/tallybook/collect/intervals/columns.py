"""CSV files of intervals under declared columns: a row an interval, or a row a day.

| shape | a row has |
|---|---|
| long | meter, time, and one or more value columns, each a register |
| wide | meter, date, and the values of a whole local day from one column on |

Local times are read in the declared zone. The hour that a change of clocks repeats is told apart
by order: the first row of that time is the earlier. The hour that it skips does not exist.
An empty cell is no value, and counts nothing.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from tallybook.collect.intervals.interval import Interval, Row, canonical, fit
from tallybook.kernel.decimals import EXACT, MEASURE_MAX, parse_decimal
from tallybook.kernel.errors import Invalid
from tallybook.kernel.problem import Problem
from tallybook.kernel.timestamps import SECOND_US, parse_rfc3339, to_us

MINUTES = (1, 5, 10, 15, 20, 30, 60, 1440)
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)\Z", re.ASCII)


class Columns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a file keeps what an interval needs.

    Attributes:
        meter: column of the subject; or `meter_name`, for a file of one meter.
        time: column of the interval's begin (its end where `time_is` says so).
        values: column -> unit, such as 'kWh'; in a wide file the first value column alone.
        minutes: length of an interval.
        shape: long or wide.
        time_is: whether the time is the begin or the end of the interval.
        time_format: as for strptime, such as '%d/%m/%Y %H:%M'; None is ISO 8601.
        zone: of times without an offset, such as 'Europe/London' or '+10:00'.
        scale: what every value is multiplied by.
        decimal: the decimal mark.
        delimiter: between cells.
        keep: columns that are put into the data.
    """

    time: str
    values: dict[str, str]
    meter: str | None = None
    meter_name: str | None = None
    minutes: int = 30
    shape: Literal["long", "wide"] = "long"
    time_is: Literal["begin", "end"] = "begin"
    time_format: str | None = None
    zone: str = "UTC"
    scale: str = "1"
    decimal: Literal[".", ","] = "."
    delimiter: str = ","
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what can be checked without a file."""
        if (self.meter is None) == (self.meter_name is None):
            raise Invalid("name the column `meter`, or the one `meter_name`", field="columns")
        if not self.values or (self.shape == "wide" and len(self.values) != 1):
            message = "name the value columns with their units; of a wide file the first"
            raise Invalid(message, field="columns")
        if self.minutes not in MINUTES or parse_decimal(self.scale) is None:
            raise Invalid(f"minutes is one of {MINUTES}, scale a number", field="columns")
        if len(self.delimiter) != 1 or self.delimiter == self.decimal:
            raise Invalid("the delimiter is one character, not the decimal mark", field="columns")
        zone_of(self.zone)


def zone_of(name: str) -> tzinfo:
    """Return a zone by name or offset; raises Invalid."""
    offset = _OFFSET.match(name)
    if offset is not None and int(offset[2]) < 24 and int(offset[3]) < 60:
        span = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return timezone(-span if offset[1] == "-" else span)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid(f"'{name}' is no time zone such as Europe/London", field="zone") from error


def rows(lines: Iterable[str], told: Columns) -> Iterator[Row]:
    """Yield what every row under the heading says.

    Raises:
        Invalid: the heading lacks a column.
    """
    reader = csv.reader(lines, delimiter=told.delimiter, strict=True)
    try:
        heading = [cell.strip().removeprefix("\ufeff") for cell in next(reader, [])]
    except csv.Error as error:
        raise Invalid(f"the heading is not CSV: {error}", field="heading") from error
    table = _Table(heading, told)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _bad("", reader.line_num, f"the row is not CSV: {error}")
            continue
        if any(cell.strip() for cell in cells):
            yield table.row([cell.strip() for cell in cells], reader.line_num)


class _Table:
    """A file while it is read."""

    def __init__(self, heading: Sequence[str], told: Columns) -> None:
        named = [told.time, *told.values, *told.keep, *([told.meter] if told.meter else [])]
        missing = [name for name in named if heading.count(name) != 1]
        if missing:
            known = ", ".join(heading)
            raise Invalid(f"there is no one column '{missing[0]}'; there are {known}",
                          field="heading")  # fmt: skip
        self._told = told
        self._width = len(heading)
        self._at = {name: heading.index(name) for name in named}
        self._zone = zone_of(told.zone)
        self._scale = Decimal(told.scale)
        self._repeated: set[tuple[str, str]] = set()

    def row(self, cells: list[str], number: int) -> Row:
        told = self._told
        if len(cells) != self._width:
            text = f"the row has {len(cells)} cells; the heading has {self._width}"
            return _bad(told.delimiter.join(cells), number, text)
        found = self._wide(cells) if told.shape == "wide" else self._long(cells)
        if isinstance(found, str):
            return _bad(told.delimiter.join(cells), number, found)
        return Row(intervals=tuple(found), place=f"line {number}")

    def _long(self, cells: list[str]) -> list[Interval] | str:
        meter = self._meter(cells)
        start_us = self._start_us(meter, cells[self._at[self._told.time]])
        if isinstance(start_us, str) or not fit(meter):
            return start_us if isinstance(start_us, str) else "the row names no meter"
        if self._told.time_is == "end":
            start_us -= self._told.minutes * 60 * SECOND_US
        found = []
        for name, unit in self._told.values.items():
            value = self._value(cells[self._at[name]])
            if isinstance(value, str):
                return f"{name}: {value}"
            if value is not None:
                register = name if len(self._told.values) > 1 else ""
                found.append(self._interval(cells, register, start_us, (value, unit)))
        return found

    def _wide(self, cells: list[str]) -> list[Interval] | str:
        meter = self._meter(cells)
        day = self._local(cells[self._at[self._told.time]])
        if isinstance(day, str) or not fit(meter):
            return day if isinstance(day, str) else "the row names no meter"
        begin = day.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=self._zone)
        begin_us = to_us(begin)
        end_us = to_us((begin.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=self._zone))
        width_us = self._told.minutes * 60 * SECOND_US
        ((first, unit),) = self._told.values.items()
        values = cells[self._at[first] :]
        count = (end_us - begin_us) // width_us
        if any(values[count:]) or len(values) < count:
            return f"the day {cells[self._at[self._told.time]]} has {count} intervals"
        found = []
        for place, cell in enumerate(values[:count]):
            value = self._value(cell)
            if isinstance(value, str):
                return f"value {place + 1}: {value}"
            if value is not None:
                found.append(self._interval(cells, "", begin_us + place * width_us, (value, unit)))
        return found

    def _interval(
        self, cells: list[str], register: str, start_us: int, measured: tuple[Decimal, str]
    ) -> Interval:
        unit, value = canonical(measured[1], measured[0])
        return Interval(
            meter=self._meter(cells),
            register=register,
            start_us=start_us,
            end_us=start_us + self._told.minutes * 60 * SECOND_US,
            value=value,
            unit=unit,
            more={name: cells[self._at[name]] for name in self._told.keep},
        )

    def _meter(self, cells: list[str]) -> str:
        if self._told.meter is None:
            return self._told.meter_name or ""
        return cells[self._at[self._told.meter]]

    def _value(self, cell: str) -> Decimal | str | None:
        if not cell:
            return None
        spelled = cell if self._told.decimal == "." else cell.replace(".", "").replace(",", ".")
        value = parse_decimal(spelled)
        if value is None:
            return f"'{cell[:40]}' is not a number"
        exact = EXACT.multiply(value, self._scale)
        return exact if exact.copy_abs() < MEASURE_MAX else "the number is not below 1e20"

    def _local(self, text: str) -> datetime | str:
        try:
            if self._told.time_format is not None:
                return datetime.strptime(text, self._told.time_format)  # noqa: DTZ007 - zone follows
            return datetime.fromisoformat(text)
        except ValueError:
            return f"'{text[:40]}' is no time in the declared form"

    def _start_us(self, meter: str, text: str) -> int | str:
        exact = parse_rfc3339(text)
        if exact is not None and self._told.time_format is None:
            return exact
        local = self._local(text)
        if isinstance(local, str):
            return local
        if local.tzinfo is not None:
            return to_us(local)
        first, second = (to_us(local.replace(tzinfo=self._zone, fold=fold)) for fold in (0, 1))
        if first == second:
            return first
        back = datetime.fromtimestamp(first // SECOND_US, UTC).astimezone(self._zone)
        if back.replace(tzinfo=None, fold=0) != local.replace(microsecond=0):
            return f"'{text[:40]}' is in the hour that the change of clocks skips"
        seen = (meter, text) in self._repeated
        self._repeated.add((meter, text))
        return second if seen else first


def _bad(text: str, number: int, message: str) -> Row:
    return Row(
        problem=Problem(code="line-field", message=message),
        text=text,
        place=f"line {number}",
        key=str(number),
    )
