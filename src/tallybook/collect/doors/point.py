"""What every wire format of a front door is decoded to: points of series, and what is no point."""

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from hashlib import blake2b
from typing import Literal

import msgspec

from tallybook.kernel.decimals import EXACT, MEASURE_MAX, STEP

Label = str | int | float | bool
"""A label's value as the wire has it."""

Kind = Literal["counter", "level", "delta", "record", "evidence"]
"""How a point is counted.

counter: cumulative; the event carries the growth. level: what is held at an instant. delta: the
growth itself. record: a line with fields of its own. evidence: tells when counters began, and is
no event.
"""

REASONS = (
    "baseline", "repeated", "unchanged", "fell", "jitter", "overlap", "dropped", "bucket",
    "no-value", "stale", "evidence", "series-limit",
)  # fmt: skip
"""Why a point made no event, and yet nothing is wrong with the request."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One sample of one series.

    Attributes:
        name: of the metric, as sent.
        labels: of the series, point and resource together.
        kind: how it is counted.
        time_us: of the sample, microseconds UTC.
        value: the number; the count of a histogram.
        start_us: since when a counter or delta counts, as its sender says; 0 is not said.
        sum: a histogram's or summary's sum.
        fields: what a record carries, spelled as JSON.
        unit: as sent, '' where unknown.
        stamped: the sender gave no time; `time_us` is the receipt's.
        key: distinguishes records of one series and instant; '' where nothing can.
    """

    name: str
    labels: Mapping[str, Label]
    kind: Kind
    time_us: int
    value: Decimal = Decimal(0)
    start_us: int = 0
    sum: Decimal | None = None
    fields: Mapping[str, msgspec.Raw] = {}
    unit: str = ""
    stamped: bool = False
    key: str = ""


class Bad(msgspec.Struct, frozen=True, kw_only=True):
    """One piece that can never be counted; it goes to quarantine.

    Attributes:
        code: stable kebab-case word, listed in docs/errors.md.
        message: a sentence for people.
        piece: what was sent, as text.
        place: where in the request, such as 'line 3'.
        key: tells equal pieces apart; '' where equal pieces are one.
    """

    code: str
    message: str
    piece: str
    place: str = ""
    key: str = ""


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """A request, read.

    Attributes:
        points: what may be counted.
        bad: what can never be.
        ignored: reason -> how many pieces make no event by the format's own rules.
        envelopes: events that came complete, as CloudEvents JSON.
        samples, histograms: how many were read, as remote write wants it told.
    """

    points: tuple[Point, ...] = ()
    bad: tuple[Bad, ...] = ()
    ignored: Mapping[str, int] = {}
    envelopes: tuple[bytes, ...] = ()
    samples: int = 0
    histograms: int = 0


def fingerprint(door: str, name: str, labels: Mapping[str, Label]) -> bytes:
    """Return 16 bytes that stand for a series, whatever the order of its labels."""
    parts = [door, name, sorted(labels.items())]
    return blake2b(msgspec.json.encode(parts), digest_size=16).digest()


def judged(value: Decimal) -> Decimal | None:
    """Return a value with 12 decimals, None where it is out of range.

    Rounded before two readings are subtracted, so that growths add up to the rounded readings'
    difference exactly.
    """
    if not value.is_finite() or value.copy_abs() >= MEASURE_MAX:
        return None
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent >= -12:
        return value
    return value.quantize(STEP, ROUND_HALF_EVEN, EXACT)


def of_float(number: float) -> Decimal:
    """Return the shortest decimal that spells a float; not finite stays so."""
    return Decimal(repr(number)) if number % 1 else Decimal(number)
