"""OTLP metrics: what a request holds, in the words of the protocol, and the points in it.

The values are decoded from JSON here and from protobuf by `adapters.protobuf`; both say the same.
JSON names are camelCase only, 64-bit integers are numbers or strings, enums are integers, unknown
fields are ignored.

Source: opentelemetry-proto 1.x `metrics.proto`; OTLP 1.11, JSON encoding.
"""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import msgspec

from tallybook.collect.doors.point import Bad, Decoded, Kind, Label, Point
from tallybook.kernel.decimals import parse_decimal
from tallybook.kernel.errors import Invalid

Int = int | str
DELTA, CUMULATIVE = 1, 2
NO_RECORDED_VALUE = 1
DEPTH_MAX = 16
POINTS_MAX = 200_000
SCOPE = "otel.scope.name"
_ZERO = Decimal(0)
_DIGITS_MAX = 19
"""Of a whole number in 64 bits."""


class _Wire(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A message of the protocol: every field may be absent."""


class AnyValue(msgspec.Struct, frozen=True, rename="camel"):
    """A value of an attribute; one field is set."""

    string_value: str | None = None
    bool_value: bool | None = None
    int_value: Int | None = None
    double_value: float | str | None = None
    array_value: msgspec.Raw = msgspec.Raw(b"")
    kvlist_value: msgspec.Raw = msgspec.Raw(b"")
    bytes_value: str | None = None


class KeyValue(_Wire, frozen=True):
    """One attribute."""

    key: str = ""
    value: AnyValue | None = None


class NumberPoint(_Wire, frozen=True):
    """A point of a sum or a gauge; `as_double` keeps the sender's digits."""

    attributes: list[KeyValue] = []
    start_time_unix_nano: Int = 0
    time_unix_nano: Int = 0
    as_double: msgspec.Raw = msgspec.Raw(b"")
    as_int: Int | None = None
    flags: int = 0


class SpreadPoint(_Wire, frozen=True):
    """A point of a histogram or a summary; buckets and quantiles are left out."""

    attributes: list[KeyValue] = []
    start_time_unix_nano: Int = 0
    time_unix_nano: Int = 0
    count: Int = 0
    sum: msgspec.Raw = msgspec.Raw(b"")
    flags: int = 0


class Gauge(_Wire, frozen=True):
    """Levels."""

    data_points: list[NumberPoint] = []


class Sum(_Wire, frozen=True):
    """Sums: counters where monotonic."""

    data_points: list[NumberPoint] = []
    aggregation_temporality: int = 0
    is_monotonic: bool = False


class Spread(_Wire, frozen=True):
    """Histograms of either kind."""

    data_points: list[SpreadPoint] = []
    aggregation_temporality: int = 0


class Summary(_Wire, frozen=True):
    """Summaries: always cumulative."""

    data_points: list[SpreadPoint] = []


class Metric(_Wire, frozen=True):
    """One metric; one of the five kinds is set."""

    name: str = ""
    unit: str = ""
    gauge: Gauge | None = None
    sum: Sum | None = None
    histogram: Spread | None = None
    exponential_histogram: Spread | None = None
    summary: Summary | None = None


class Scope(_Wire, frozen=True):
    """What made the metrics."""

    name: str = ""


class ScopeMetrics(_Wire, frozen=True):
    """Metrics of one scope."""

    scope: Scope | None = None
    metrics: list[Metric] = []


class Resource(_Wire, frozen=True):
    """What the metrics are about."""

    attributes: list[KeyValue] = []


class ResourceMetrics(_Wire, frozen=True):
    """Metrics of one resource."""

    resource: Resource | None = None
    scope_metrics: list[ScopeMetrics] = []


class Export(_Wire, frozen=True):
    """A request."""

    resource_metrics: list[ResourceMetrics] = []


_JSON = msgspec.json.Decoder(Export)


def read_json(body: bytes) -> Export:
    """Return a request in OTLP/JSON; raises Invalid where it is none."""
    try:
        return _JSON.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        message = f"the body is not an OTLP metrics request in JSON: {error}"
        raise Invalid(message, code="malformed", field="body") from error


def points(export: Export) -> Decoded:
    """Return the points of a request."""
    found: list[Point] = []
    bad: list[Bad] = []
    ignored: Counter[str] = Counter()
    for metric, labels in _metrics(export):
        for point in _points(metric, labels):
            if isinstance(point, Point):
                found.append(point)
            elif isinstance(point, Bad):
                bad.append(point)
            else:
                ignored[point] += 1
            if len(found) > POINTS_MAX:
                message = f"the request has more than {POINTS_MAX} points; send smaller batches"
                raise Invalid(message, code="too-large", field="body")
    return Decoded(points=tuple(found), bad=tuple(bad), ignored=ignored)


def _metrics(export: Export) -> Iterator[tuple[Metric, dict[str, Label]]]:
    for block in export.resource_metrics:
        shared = _labels(block.resource.attributes if block.resource else [])
        for group in block.scope_metrics:
            scope = group.scope.name if group.scope else ""
            labels = {**shared, SCOPE: scope} if scope else shared
            for metric in group.metrics:
                yield metric, labels


def _points(metric: Metric, labels: dict[str, Label]) -> Iterator[Point | Bad | str]:
    if metric.gauge is not None:
        for number in metric.gauge.data_points:
            yield _number(metric, labels, number, "level")
    if metric.sum is not None:
        kind = _kind(metric.sum.aggregation_temporality, level=not metric.sum.is_monotonic)
        for number in metric.sum.data_points:
            yield _number(metric, labels, number, kind)
    for spread in (metric.histogram, metric.exponential_histogram):
        if spread is not None:
            kind = _kind(spread.aggregation_temporality, level=False)
            for point in spread.data_points:
                yield _spread(metric, labels, point, kind)
    if metric.summary is not None:
        for point in metric.summary.data_points:
            yield _spread(metric, labels, point, "counter")


def _kind(temporality: int, *, level: bool) -> Kind | None:
    if temporality == DELTA:
        return "delta"
    if temporality == CUMULATIVE:
        return "level" if level else "counter"
    return None


def _number(
    metric: Metric, shared: dict[str, Label], point: NumberPoint, kind: Kind | None
) -> Point | Bad | str:
    if point.flags & NO_RECORDED_VALUE:
        return "no-value"
    value = _integer(point.as_int) if point.as_int is not None else _real(point.as_double)
    return _made(metric, shared, point, kind, value, None)


def _spread(
    metric: Metric, shared: dict[str, Label], point: SpreadPoint, kind: Kind | None
) -> Point | Bad | str:
    if point.flags & NO_RECORDED_VALUE:
        return "no-value"
    total = _real(point.sum) if bytes(point.sum) not in {b"", b"null"} else _ZERO
    return _made(metric, shared, point, kind, _integer(point.count), total)


def _made(
    metric: Metric,
    shared: dict[str, Label],
    point: NumberPoint | SpreadPoint,
    kind: Kind | None,
    value: Decimal | None,
    total: Decimal | None,
) -> Point | Bad:
    start, time = _integer(point.start_time_unix_nano), _integer(point.time_unix_nano)
    if kind is None:
        return _bad(
            metric, point, code="temporality-missing", message="delta or cumulative is not said"
        )
    if value is None or (isinstance(point, SpreadPoint) and total is None):
        return _bad(
            metric, point, code="value-malformed", message="a point has no number as its value"
        )
    if start is None or time is None or time <= 0:
        return _bad(metric, point, code="time-missing", message="a point has no time")
    return Point(
        name=metric.name,
        labels={**shared, **_labels(point.attributes)} if point.attributes else shared,
        kind=kind,
        time_us=int(time) // 1000,
        start_us=int(start) // 1000,
        value=value,
        sum=total,
        unit=metric.unit,
    )


def _bad(metric: Metric, point: NumberPoint | SpreadPoint, *, code: str, message: str) -> Bad:
    piece = msgspec.json.encode({"name": metric.name, "point": _shown(point)}).decode()
    return Bad(code=code, message=f"{metric.name}: {message}", piece=piece)


def _shown(point: NumberPoint | SpreadPoint) -> dict[str, object]:
    """Return a point's fields; raw values as texts, as nothing is known of them."""
    fields = ((name, getattr(point, name)) for name in point.__struct_fields__)
    return {
        name: bytes(value).decode() if isinstance(value, msgspec.Raw) else value
        for name, value in fields
        if name != "attributes"
    } | {"attributes": _labels(point.attributes)}


def _integer(value: Int | None) -> Decimal | None:
    if isinstance(value, int):
        return Decimal(value)
    found = parse_decimal(value) if value is not None else None
    return found if found is not None and found == found.to_integral_value() else None


def _real(raw: msgspec.Raw) -> Decimal | None:
    """Return the exact number; NaN and the infinities, which JSON spells as strings, are none."""
    return parse_decimal(bytes(raw).decode())


def _labels(attributes: list[KeyValue]) -> dict[str, Label]:
    return {a.key: found for a in attributes if (found := _label(a.value)) is not None}


def _label(value: AnyValue | None) -> Label | None:
    if value is None:
        return None
    for plain in (value.string_value, value.bool_value, value.bytes_value):
        if plain is not None:
            return plain
    if value.int_value is not None:
        return _whole(value.int_value)
    if value.double_value is not None:
        return value.double_value
    nested = bytes(value.array_value) or bytes(value.kvlist_value)
    return nested.decode() if nested else None


def _whole(value: Int) -> int | None:
    if isinstance(value, int):
        return value
    digits = value.removeprefix("-")
    fits = len(digits) <= _DIGITS_MAX and digits.isdecimal()
    return int(value) if fits else None
