"""Prometheus remote write: what its series are, by metadata where it comes along, else by name.

| series | is |
|---|---|
| metadata says counter; or named `…_total`, `…_sum`, `…_count` without metadata | a counter |
| `…_bucket` of a histogram | left out: a histogram counts by count and sum |
| `…_created`, `process_start_time_seconds` | evidence of when counters began |
| a native histogram | a counter with a sum |
| everything else | a level |

Values are floats on the wire; they are read by their shortest spelling.

Source: Prometheus remote write 1.0 and 2.0-rc.4; OpenMetrics 1.0 (suffixes).
"""

import math
import struct
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from tallybook.collect.doors.point import Bad, Kind, Label, Point, of_float

NAME = "__name__"
STALE = struct.pack(">Q", 0x7FF0000000000002)
"""The NaN by which a series is said to have ended; it is no value."""
LABELS_MAX = 128
LABEL_CHARS_MAX = 4096
Family = Literal["", "counter", "gauge", "histogram", "gaugehistogram", "summary", "other"]
_COUNTED = ("_total", "_sum", "_count")
_EVIDENCE = "process_start_time_seconds"


class Series(msgspec.Struct, frozen=True):
    """A series of a request: its labels without the name, and what it is."""

    name: str
    labels: Mapping[str, Label]
    kind: Kind | Literal["bucket"]


def series(labels: Sequence[tuple[str, str]], family: Family) -> Series | Bad:
    """Return a series, or why it is none.

    Args:
        labels: names and values as sent, the name among them.
        family: what its metadata says, '' for nothing.
    """
    found = dict(labels)
    wrong = _wrong(labels, found)
    if wrong:
        piece = msgspec.json.encode([list(pair) for pair in labels[:LABELS_MAX]]).decode()
        return Bad(code="labels-malformed", message=wrong, piece=piece)
    name = found.pop(NAME)
    return Series(name, dict(found), _kind(name, found, family))


def _wrong(labels: Sequence[tuple[str, str]], found: Mapping[str, str]) -> str:
    if not found.get(NAME):
        return f"a series has no label {NAME}"
    if len(found) != len(labels):
        return "a series has a label twice"
    if len(labels) > LABELS_MAX:
        return f"a series has more than {LABELS_MAX} labels"
    for name, value in labels:
        if not name or len(name) + len(value) > LABEL_CHARS_MAX:
            return f"a label is empty or longer than {LABEL_CHARS_MAX} characters"
    return ""


def _kind(name: str, labels: Mapping[str, str], family: Family) -> Kind | Literal["bucket"]:
    if name == _EVIDENCE or (name.endswith("_created") and family in {"", "other", "gauge"}):
        return "evidence"
    if name.endswith("_created") and family in {"counter", "histogram", "summary"}:
        return "evidence"
    if name.endswith("_bucket") and "le" in labels and family in {"", "histogram"}:
        return "bucket"
    if family == "counter":
        return "counter"
    if family in {"histogram", "summary"}:
        return "counter" if name.endswith(("_sum", "_count")) else "level"
    return "counter" if family == "" and name.endswith(_COUNTED) else "level"


def sample(found: Series, value: float, time_ms: int, start_ms: int) -> Point | str:
    """Return the point of a sample, or the reason why it makes none."""
    if math.isnan(value):
        return "stale" if struct.pack(">d", value) == STALE else "no-value"
    if found.kind == "bucket":
        return "bucket"
    return Point(
        name=found.name,
        labels=found.labels,
        kind=found.kind,
        time_us=time_ms * 1000,
        start_us=max(0, start_ms) * 1000 if found.kind == "counter" else 0,
        value=Decimal("inf") if math.isinf(value) else of_float(value),
    )


def native(
    found: Series, count: float, total: float, time_ms: int, start_ms: int, *, gauge: bool
) -> Point | str:
    """Return the point of a native histogram, or the reason why it makes none."""
    if math.isnan(total):
        return "stale" if struct.pack(">d", total) == STALE else "no-value"
    if gauge:
        return "bucket"
    return Point(
        name=found.name,
        labels=found.labels,
        kind="counter",
        time_us=time_ms * 1000,
        start_us=max(0, start_ms) * 1000,
        value=Decimal(count) if isinstance(count, int) else of_float(count),
        sum=Decimal("inf") if math.isinf(total) else of_float(total),
    )
