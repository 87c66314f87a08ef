"""StatsD and DogStatsD lines, added up between two readings.

`name:value|c|@0.1|#tag:a,other` - a counter; sampled ones are divided by their rate, to twelve
decimals, and what they add up to is marked as an estimate. Gauges are levels, signed ones change
the level. Timers, histograms and distributions add up as count and sum. Sets are left out:
distinct counts do not add up.

A sender gets no answer in this protocol: what was sent while nobody listened is lost, and over UDP
a datagram may be lost or come twice. So every event names its transport, for meters to leave out.

Source: etsy/statsd metric types; DogStatsD 1.1 (packed values), 1.3 (timestamps).
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from tallybook.kernel.decimals import EXACT, MEASURE_MAX, divide, parse_decimal, plain
from tallybook.kernel.event import UNPARSED_TYPE, UsageEvent
from tallybook.kernel.timestamps import format_us

SERIES_MAX = 10_000
BAD_MAX = 100
LINE_CHARS_MAX = 8192
_LINE = re.compile(r"([^:|\s][^:|]*):([^|]+)\|([a-z]{1,2})((?:\|[^|]*)*)\Z", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z", re.ASCII)
Kind = Literal["counter", "gauge", "spread"]
_KINDS: dict[str, Kind] = {
    "c": "counter", "g": "gauge", "ms": "spread", "h": "spread", "d": "spread",
}  # fmt: skip
_ONE = Decimal(1)
RATE_MIN = Decimal("1e-12")


class Series(msgspec.Struct, frozen=True, order=True):
    """What is added up by itself: name, tags, kind, and the transport it came by."""

    name: str
    tags: tuple[tuple[str, str], ...]
    kind: Kind
    transport: str


class Sum(msgspec.Struct, frozen=True):
    """What came of one series: how many values, their sum, and whether it is an estimate."""

    count: Decimal
    value: Decimal
    estimated: bool


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """How lines become events.

    Attributes:
        source: the events' source.
        prefix: put before a metric's name, for the type.
        subject: the tag that names who used it; it leaves the data.
        default: the subject where that tag is not there; None is nobody.
    """

    source: str
    prefix: str = "statsd."
    subject: str | None = None
    default: str | None = None


class Tally:
    """What came since the last reading."""

    def __init__(self) -> None:
        """Nothing came yet."""
        self._sums: dict[Series, Sum] = {}
        self._gauges: dict[Series, Decimal] = {}
        self._bad: list[tuple[str, str]] = []
        self.dropped: dict[str, int] = {}

    def add(self, data: bytes, transport: str) -> None:
        """Take the lines of a datagram or of a connection."""
        for line in data.decode("utf-8", "backslashreplace").split("\n"):
            if line.strip():
                problem = self._line(line.strip(), transport)
                if problem is not None:
                    self._refuse(line, problem)

    def _refuse(self, line: str, problem: str) -> None:
        if len(self._bad) < BAD_MAX:
            self._bad.append((line[:LINE_CHARS_MAX], problem))
        else:
            self._drop("bad lines beyond what is kept")

    def _drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def _line(self, line: str, transport: str) -> str | None:
        """Add one line; return why it cannot be."""
        if line.startswith(("_e{", "_sc|")):
            self._drop("DogStatsD events and service checks")
            return None
        match = _LINE.match(line) if len(line) <= LINE_CHARS_MAX else None
        if match is None:
            return "the line is not NAME:VALUE|TYPE"
        name, values, letter, rest = match.groups()
        kind = _KINDS.get(letter)
        if kind is None:
            if letter != "s":
                return f"'{letter}' is no type of StatsD"
            self._drop("sets")
            return None
        rate, tags = _options(rest)
        if rate is None:
            return f"the sample rate is not from {RATE_MIN} to 1"
        series = Series(name, tags, kind, transport)
        for value in values.split(":"):
            problem = self._value(series, value, rate)
            if problem is not None:
                return problem
        return None

    def _value(self, series: Series, text: str, rate: Decimal) -> str | None:
        value = parse_decimal(text) if _NUMBER.match(text) else None
        if value is None or value.copy_abs() >= MEASURE_MAX:
            return f"'{text[:40]}' is not a number"
        if series not in self._sums and len(self._sums) >= SERIES_MAX:
            return f"more than {SERIES_MAX} series in one reading"
        if series.kind == "gauge":
            signed = text[:1] in {"+", "-"}
            now = EXACT.add(self._gauges.get(series, Decimal(0)), value) if signed else value
            self._gauges[series] = now
            self._sums[series] = Sum(_ONE, now, estimated=False)
            return None
        if series.kind == "counter" and value < 0:
            return "a counter is never negative"
        known = self._sums.get(series, Sum(Decimal(0), Decimal(0), estimated=False))
        self._sums[series] = Sum(
            EXACT.add(known.count, divide(_ONE, rate)),
            EXACT.add(known.value, value if rate == _ONE else divide(value, rate)),
            estimated=known.estimated or rate != _ONE,
        )
        return None

    def events(self, told: Told, epoch: str, number: int, now_us: int) -> list[UsageEvent]:
        """Return what came as events, and begin anew.

        Args:
            told: how.
            epoch: of this process; with `number`, which grows, it makes the ids.
            number: of this reading.
            now_us: the events' time.
        """
        sums, self._sums = self._sums, {}
        bad, self._bad = self._bad, []
        found = [
            _event(series, total, told, f"{epoch}-{number}-{place}", now_us)
            for place, (series, total) in enumerate(sums.items())
        ]
        return found + [
            _unparsed(line, problem, told, f"{epoch}-{number}-bad-{place}")
            for place, (line, problem) in enumerate(bad)
        ]


def _options(rest: str) -> tuple[Decimal | None, tuple[tuple[str, str], ...]]:
    rate: Decimal | None = _ONE
    tags: tuple[tuple[str, str], ...] = ()
    for part in rest.split("|"):
        if part.startswith("@"):
            rate = parse_decimal(part[1:])
            rate = rate if rate is not None and RATE_MIN <= rate <= 1 else None
        elif part.startswith("#"):
            pairs = (tag.partition(":") for tag in part[1:].split(",") if tag)
            tags = tuple(sorted({name: value for name, _, value in pairs}.items()))
    return rate, tags


def _event(series: Series, total: Sum, told: Told, name: str, now_us: int) -> UsageEvent:
    tags = dict(series.tags)
    subject = tags.pop(told.subject, None) if told.subject else None
    own = _own(series, total)
    labels = {(f"tag_{n}" if n in own else n): v for n, v in tags.items()}
    return UsageEvent(
        id=name,
        source=told.source,
        type=told.prefix + series.name,
        subject=subject or told.default,
        time=format_us(now_us),
        data=msgspec.Raw(msgspec.json.encode({**labels, **own})),
    )


def _own(series: Series, total: Sum) -> Mapping[str, object]:
    if series.kind == "spread":
        own: dict[str, object] = {"count": _raw(total.count), "sum": _raw(total.value)}
    else:
        own = {"value": _raw(total.value)}
    own["transport"] = series.transport
    if total.estimated:
        own["estimated"] = True
    return own


def _raw(value: Decimal) -> msgspec.Raw:
    return msgspec.Raw(plain(value).encode())


def _unparsed(line: str, problem: str, told: Told, name: str) -> UsageEvent:
    said = {"line": line, "format": "statsd", "code": "line-malformed", "message": problem,
            "origin": told.source}  # fmt: skip
    return UsageEvent(
        id=name, source=told.source, type=UNPARSED_TYPE,
        data=msgspec.Raw(msgspec.json.encode(said)),
    )  # fmt: skip
