r"""The page of a metrics endpoint as points: Prometheus text 0.0.4 and OpenMetrics 1.0.

Strict: one line that is not of the format refuses the page, because a page that was cut off or
that something else wrote must not become usage. Numbers keep the digits they were sent with.

| series | is |
|---|---|
| of a counter; `_count` and `_sum` of a histogram or summary | a counter |
| untyped, named `…_total`, `…_count`, `…_sum` | a counter |
| `_bucket`, quantiles, infos, state sets, not-a-number | left out |
| `_created` | since when the counter beside it counts |
| `process_start_time_seconds` | evidence of when the process began |
| everything else | a level |

Source: Prometheus exposition formats; OpenMetrics 1.0.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal

import msgspec

from tallybook.collect.doors.point import Kind, Point
from tallybook.kernel.decimals import parse_decimal
from tallybook.kernel.errors import Unavailable

SERIES_MAX = 100_000
LINE_CHARS_MAX = 64 * 1024
PROCESS_START = "process_start_time_seconds"
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_TEXT = r'"((?:[^"\\\n]|\\.)*+)"'
_LABEL = re.compile(rf"\s*(?:({_NAME.replace(':', '')})|{_TEXT})\s*(?:=\s*{_TEXT})?\s*(,|\}})")
_HEAD = re.compile(rf"({_NAME})?\s*(\{{)?")
_TAIL = re.compile(r"[ \t]*(\S+)(?:[ \t]+(\S+))?(?:[ \t]+#.*)?[ \t]*\Z", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z", re.ASCII)
_ENDLESS = re.compile(r"[+-]?inf(?:inity)?|nan", re.IGNORECASE)
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
_ESCAPED = re.compile(r"\\.")
_TYPE = re.compile(rf"#[ \t]+TYPE[ \t]+(?:({_NAME})|{_TEXT})[ \t]+(\w+)[ \t]*\Z")
_PARTS = ("_total", "_created", "_bucket", "_count", "_sum", "_info", "_gcount", "_gsum")
_COUNTED = ("_total", "_count", "_sum")
_NEVER = frozenset({"info", "stateset"})
_MICROSECONDS = 1_000_000


class Sample(msgspec.Struct, frozen=True):
    """One line of a page: name, labels, value as sent, time as sent or None."""

    name: str
    labels: dict[str, str]
    value: Decimal | None
    time: Decimal | None


def is_open_metrics(content_type: str) -> bool:
    """Whether a page's content type says OpenMetrics."""
    return content_type.partition(";")[0].strip().lower() == "application/openmetrics-text"


def points(page: str, now_us: int, labels: Mapping[str, str], *, open_metrics: bool) -> list[Point]:
    """Return the points of a page.

    Args:
        page: the text.
        now_us: when it was asked for; the time of samples that bring none.
        labels: put to every series: `job` and `instance`. A label of the same name that was
            sent becomes `exported_NAME`.
        open_metrics: whether it is OpenMetrics: times in seconds, and an end mark.

    Raises:
        Unavailable: it is no such page, was cut off, or has too many series.
    """
    lines = page.split("\n")
    if open_metrics and "# EOF" not in lines[-2:]:
        raise Unavailable("the page has no '# EOF' at its end; it was cut off")
    if not open_metrics and lines[-1]:
        raise Unavailable("the page's last line has no line end; it was cut off")
    types: dict[str, str] = {}
    samples = list(_samples(lines, types))
    created = _created(samples, types)
    seconds = 1 if open_metrics else 1000
    found: dict[tuple[str, tuple[tuple[str, str], ...]], Point] = {}
    for sample in samples:
        kind = _kind(sample.name, sample.labels, types)
        if kind is None or sample.value is None:
            continue
        series = (sample.name, tuple(sorted(sample.labels.items())))
        at = now_us if sample.time is None else int(sample.time * _MICROSECONDS / seconds)
        start = created.get((_base(sample.name), series[1]), 0) if kind == "counter" else 0
        found.setdefault(
            series,
            Point(
                name=sample.name,
                labels=_labelled(sample.labels, labels),
                kind=kind,
                time_us=at,
                value=sample.value,
                start_us=start if start <= at else 0,
            ),
        )
    return list(found.values())


def _samples(lines: list[str], types: dict[str, str]) -> Iterator[Sample]:
    seen = 0
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            typed = _TYPE.match(line)
            if typed is not None:
                types[typed[1] or _unescaped(typed[2])] = typed[3]
            continue
        if not line.strip():
            continue
        seen += 1
        sample = _sample(line) if len(line) <= LINE_CHARS_MAX else None
        if sample is None:
            raise Unavailable(f"line {number} of the page is no metric: {line[:80]!r}")
        if seen > SERIES_MAX:
            raise Unavailable(f"the page has more than {SERIES_MAX} series")
        yield sample


def _sample(line: str) -> Sample | None:
    head = _HEAD.match(line.lstrip())
    if head is None:
        return None
    line = line.lstrip()
    labels: dict[str, str] = {}
    name, at = head[1], head.end()
    if head[2]:
        named = _labels(line, at, labels)
        if named is None:
            return None
        quoted, at = named
        name = name or quoted
    tail = _TAIL.match(line, at)
    if not name or tail is None:
        return None
    value = _number(tail[1])
    time = parse_decimal(tail[2]) if tail[2] and tail[2] != "#" else None
    if value is None or (tail[2] and tail[2] != "#" and time is None):
        return None
    return Sample(name, labels, value if value.is_finite() else None, time)


def _labels(line: str, at: int, labels: dict[str, str]) -> tuple[str, int] | None:
    """Fill in the labels; return a name that stands among them ('' for none) and the end."""
    name = ""
    while True:
        if line.startswith("}", at):
            return name, at + 1
        match = _LABEL.match(line, at)
        if match is None:
            return None
        key = match[1] or _unescaped(match[2])
        if match[3] is not None and key not in labels:
            labels[key] = _unescaped(match[3])
        elif match[3] is None and match[2] is not None and not name:
            name = key
        else:
            return None
        at = match.end()
        if match[4] == "}":
            return name, at


def _number(text: str) -> Decimal | None:
    """Return a value; not-a-number and infinity are returned as such."""
    if _NUMBER.match(text):
        return parse_decimal(text)
    return Decimal("nan") if _ENDLESS.fullmatch(text) else None


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[0], found[0]), text)


def _labelled(sent: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    return {(f"exported_{k}" if k in own else k): v for k, v in sent.items() if v} | dict(own)


def _base(name: str) -> str:
    return next((name.removesuffix(part) for part in _PARTS if name.endswith(part)), name)


def _family(name: str, types: Mapping[str, str]) -> str:
    """Return the type of the family that a series belongs to, '' where none is told."""
    return types.get(name) or types.get(_base(name)) or types.get(f"{_base(name)}_total") or ""


def _created(
    samples: list[Sample], types: Mapping[str, str]
) -> dict[tuple[str, tuple[tuple[str, str], ...]], int]:
    return {
        (_base(sample.name), tuple(sorted(sample.labels.items()))): int(
            sample.value * _MICROSECONDS
        )
        for sample in samples
        if sample.value and _is_created(sample.name, types)
    }


def _is_created(name: str, types: Mapping[str, str]) -> bool:
    if not name.endswith("_created"):
        return False
    base = name.removesuffix("_created")
    counted = {types.get(base), types.get(f"{base}_total")}
    # Prometheus text has no such samples: what its libraries write beside a counter is a gauge.
    return bool(counted & {"counter", "histogram", "summary"})


def _kind(name: str, labels: Mapping[str, str], types: Mapping[str, str]) -> Kind | None:
    if name == PROCESS_START:
        return "evidence"
    if _is_created(name, types):
        return None
    family = _family(name, types)
    if family in _NEVER or (name.endswith("_bucket") and "le" in labels):
        return None
    if family in {"histogram", "summary"}:
        return "counter" if name.endswith(("_count", "_sum")) else None
    if family == "counter":
        return "counter"
    if family in {"", "untyped", "unknown"} and name.endswith(_COUNTED):
        return "counter"
    return "level"
