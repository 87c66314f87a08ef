"""NEM12: Australian interval meter data, one record a line.

| record | says |
|---|---|
| 100 | heading; 900 ends the file, and a file without it was cut off |
| 200 | meter (NMI), register (suffix), unit and interval length of what follows |
| 300 | a day's values, and their quality |
| 400 | the quality of a part of that day, where the 300 says V |
| 500 | about the reading; not counted |

Times are market time, UTC+10 all year. Qualities: A actual, S substituted, F final substituted, E
estimated, N none. Values of a quality that is not asked for do not count: an estimate is
delivered again once it is read, and then counts. The direction follows from the suffix: E what
the customer took, B what it gave (so are Q and K reactive).

Source: AEMO, Meter Data File Format Specification NEM12 & NEM13, 2.6.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from tallybook.collect.intervals.interval import Interval, Row, canonical, fit
from tallybook.kernel.decimals import EXACT, parse_decimal
from tallybook.kernel.errors import Invalid
from tallybook.kernel.problem import Problem
from tallybook.kernel.timestamps import DAY_US, HOUR_US, SECOND_US, to_us

MARKET_OFFSET_US = 10 * HOUR_US
QUALITIES = ("A", "S", "F")
LENGTHS = (1, 5, 10, 15, 30, 60)
_KNOWN_QUALITIES = frozenset("ASFENV")
_VALUE = re.compile(r"\d{1,15}(?:\.\d{1,20})?\Z", re.ASCII)
_DIRECTIONS = {"E": "receive", "B": "transmit", "Q": "receive", "K": "transmit"}


class _Channel(msgspec.Struct, frozen=True):
    nmi: str
    suffix: str
    serial: str
    unit: str
    minutes: int


class _Day(msgspec.Struct, frozen=True):
    channel: _Channel
    text: str
    number: int
    start_us: int
    values: tuple[Decimal, ...]
    quality: str


def is_whole(lines: Iterable[str]) -> bool:
    """Whether a file has its end record."""
    last = ""
    for line in lines:
        last = line.strip() or last
    return last.split(",", maxsplit=1)[0] == "900"


def rows(lines: Iterable[str], qualities: Iterable[str] = QUALITIES) -> Iterator[Row]:
    """Yield what every day record says, in order.

    Args:
        lines: the file's.
        qualities: that count.

    Raises:
        Invalid: it is no NEM12 file.
    """
    yield from _File(frozenset(qualities)).rows(lines)


class _File:
    """One file while it is read: the register and the day that the next record is about."""

    def __init__(self, qualities: frozenset[str]) -> None:
        self._qualities = qualities
        self._channel: _Channel | None = None
        self._day: _Day | None = None
        self._flags: list[str] = []
        self._broken: Problem | None = None

    def rows(self, lines: Iterable[str]) -> Iterator[Row]:
        begun = False
        for number, line in enumerate(lines, 1):
            cells = [cell.strip() for cell in line.strip().split(",")]
            if not begun:
                if cells[0] != "100" or len(cells) < 2 or cells[1].upper() != "NEM12":
                    raise Invalid("the file does not begin with 100,NEM12", field="file")
                begun = True
            elif cells[0] == "400":
                self._part(cells)
            elif cells[0] in {"200", "300", "900"}:
                yield from self._finished()
                if cells[0] == "200":
                    yield from self._opened(cells, line, number)
                elif cells[0] == "300":
                    yield from self._begun(cells, line, number)
            elif cells[0] not in {"500", ""}:
                yield _bad(line, number, f"'{cells[0][:20]}' is no record of NEM12")
        yield from self._finished()

    def _opened(self, cells: list[str], line: str, number: int) -> Iterator[Row]:
        found = _channel(cells)
        self._channel = found if isinstance(found, _Channel) else None
        if isinstance(found, str):
            yield _bad(line, number, found)

    def _begun(self, cells: list[str], line: str, number: int) -> Iterator[Row]:
        if self._channel is None:
            yield _bad(line, number, "there is no usable 200 record before it")
            return
        found = _day(self._channel, cells, line, number)
        if isinstance(found, str):
            yield _bad(line, number, found)
            return
        self._day = found
        self._broken = None
        self._flags = [found.quality] * len(found.values)

    def _part(self, cells: list[str]) -> None:
        """Put the quality of a part of the day into its place."""
        if self._day is None:
            return
        span = (
            [int(cell) for cell in cells[1:3]]
            if len(cells) > 3 and all(cell.isdecimal() for cell in cells[1:3])
            else [0, 0]
        )
        flag = cells[3][:1].upper() if len(cells) > 3 else ""
        if not 1 <= span[0] <= span[1] <= len(self._flags) or flag not in _KNOWN_QUALITIES:
            message = "its 400 record is not START,END,QUALITY within the day"
            self._broken = Problem(code="line-field", message=message)
            return
        self._flags[span[0] - 1 : span[1]] = [flag] * (span[1] - span[0] + 1)

    def _finished(self) -> Iterator[Row]:
        day, self._day = self._day, None
        if day is None:
            return
        if self._broken is None and "V" in self._flags:
            message = "quality V, but the 400 records do not cover the whole day"
            self._broken = Problem(code="line-field", message=message)
        if self._broken is not None:
            yield _bad(day.text, day.number, self._broken.message)
            return
        left = Counter(f"quality {flag}" for flag in self._flags if flag not in self._qualities)
        found = tuple(
            _interval(day, place, value, flag)
            for place, (value, flag) in enumerate(zip(day.values, self._flags, strict=True))
            if flag in self._qualities
        )
        yield Row(intervals=found, left_out=left, place=f"line {day.number}")


def _channel(cells: list[str]) -> _Channel | str:
    if len(cells) < 9:
        return f"a 200 record has 9 fields at least, this one {len(cells)}"
    nmi, suffix, serial, unit, length = cells[1], cells[4], cells[6], cells[7], cells[8]
    if not fit(nmi) or not fit(suffix) or not unit:
        return "a 200 record needs NMI, suffix and unit"
    if not length.isdecimal() or int(length) not in LENGTHS:
        return f"the interval length '{length[:20]}' is none of {LENGTHS}"
    return _Channel(nmi, suffix, serial, unit, int(length))


def _day(channel: _Channel, cells: list[str], line: str, number: int) -> _Day | str:
    count = 1440 // channel.minutes
    if len(cells) < count + 3:
        return f"a day of {channel.minutes} minutes has {count} values and a quality"
    try:
        date = datetime.strptime(cells[1], "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return f"'{cells[1][:20]}' is no date such as 20261101"
    quality = cells[count + 2][:1].upper()
    if quality not in _KNOWN_QUALITIES:
        return f"'{cells[count + 2][:20]}' is no quality such as A or S14"
    values = [parse_decimal(cell) if _VALUE.match(cell) else None for cell in cells[2 : count + 2]]
    if None in values and quality != "N":
        return f"value {values.index(None) + 1} is not a number"
    exact = tuple(value or Decimal(0) for value in values)
    start_us = to_us(date) - MARKET_OFFSET_US
    return _Day(channel, line.strip(), number, start_us, exact, quality)


def _interval(day: _Day, place: int, value: Decimal, flag: str) -> Interval:
    channel = day.channel
    width_us = channel.minutes * 60 * SECOND_US
    unit, exact = canonical(channel.unit, value)
    more = {"quality": flag}
    direction = _DIRECTIONS.get(channel.suffix[:1].upper())
    if direction is not None:
        more["direction"] = direction
    if channel.serial:
        more["serial"] = channel.serial
    start_us = day.start_us + place * width_us
    assert start_us + width_us <= day.start_us + DAY_US, "intervals stay within their day"
    return Interval(
        meter=channel.nmi,
        register=channel.suffix,
        start_us=start_us,
        end_us=start_us + width_us,
        value=EXACT.plus(exact),
        unit=unit,
        more=more,
    )


def _bad(line: str, number: int, message: str) -> Row:
    return Row(
        problem=Problem(code="line-field", message=message),
        text=line.strip(),
        place=f"line {number}",
        key=str(number),
    )
