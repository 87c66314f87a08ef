"""OTLP metrics in protobuf: read, and the answers written.

Source: opentelemetry-proto 1.11, `metrics.proto`, `common.proto`, `metrics_service.proto`;
`google/rpc/status.proto`.
"""

import base64
from functools import cache
from typing import Any

import msgspec
from google.protobuf.message import DecodeError

from tallybook.adapters.protobuf.schema import Fields, classes
from tallybook.collect.doors import otlp
from tallybook.kernel.errors import Invalid

_NUMBER: Fields = {
    "attributes": (7, "*KeyValue"),
    "start_time_unix_nano": (2, "fixed64"),
    "time_unix_nano": (3, "fixed64"),
    "as_double": (4, "value|double"),
    "as_int": (6, "value|sfixed64"),
    "flags": (8, "uint32"),
}
_MESSAGES: dict[str, Fields] = {
    "KeyValue": {"key": (1, "string"), "value": (2, "AnyValue")},
    "AnyValue": {
        "string_value": (1, "value|string"),
        "bool_value": (2, "value|bool"),
        "int_value": (3, "value|int64"),
        "double_value": (4, "value|double"),
        "array_value": (5, "value|ArrayValue"),
        "kvlist_value": (6, "value|KeyValueList"),
        "bytes_value": (7, "value|bytes"),
    },
    "ArrayValue": {"values": (1, "*AnyValue")},
    "KeyValueList": {"values": (1, "*KeyValue")},
    "NumberDataPoint": _NUMBER,
    "HistogramDataPoint": {
        "attributes": (9, "*KeyValue"),
        "start_time_unix_nano": (2, "fixed64"),
        "time_unix_nano": (3, "fixed64"),
        "count": (4, "fixed64"),
        "sum": (5, "?double"),
        "flags": (10, "uint32"),
    },
    "ExponentialHistogramDataPoint": {
        "attributes": (1, "*KeyValue"),
        "start_time_unix_nano": (2, "fixed64"),
        "time_unix_nano": (3, "fixed64"),
        "count": (4, "fixed64"),
        "sum": (5, "?double"),
        "flags": (10, "uint32"),
    },
    "SummaryDataPoint": {
        "attributes": (7, "*KeyValue"),
        "start_time_unix_nano": (2, "fixed64"),
        "time_unix_nano": (3, "fixed64"),
        "count": (4, "fixed64"),
        "sum": (5, "?double"),
        "flags": (8, "uint32"),
    },
    "Gauge": {"data_points": (1, "*NumberDataPoint")},
    "Sum": {
        "data_points": (1, "*NumberDataPoint"),
        "aggregation_temporality": (2, "int32"),
        "is_monotonic": (3, "bool"),
    },
    "Histogram": {
        "data_points": (1, "*HistogramDataPoint"),
        "aggregation_temporality": (2, "int32"),
    },
    "ExponentialHistogram": {
        "data_points": (1, "*ExponentialHistogramDataPoint"),
        "aggregation_temporality": (2, "int32"),
    },
    "Summary": {"data_points": (1, "*SummaryDataPoint")},
    "Metric": {
        "name": (1, "string"),
        "unit": (3, "string"),
        "gauge": (5, "data|Gauge"),
        "sum": (7, "data|Sum"),
        "histogram": (9, "data|Histogram"),
        "exponential_histogram": (10, "data|ExponentialHistogram"),
        "summary": (11, "data|Summary"),
    },
    "InstrumentationScope": {"name": (1, "string")},
    "ScopeMetrics": {"scope": (1, "InstrumentationScope"), "metrics": (2, "*Metric")},
    "Resource": {"attributes": (1, "*KeyValue")},
    "ResourceMetrics": {"resource": (1, "Resource"), "scope_metrics": (2, "*ScopeMetrics")},
    "ExportMetricsServiceRequest": {"resource_metrics": (1, "*ResourceMetrics")},
    "ExportMetricsPartialSuccess": {
        "rejected_data_points": (1, "int64"),
        "error_message": (2, "string"),
    },
    "ExportMetricsServiceResponse": {"partial_success": (1, "ExportMetricsPartialSuccess")},
    "Status": {"code": (1, "int32"), "message": (2, "string")},
}


@cache
def _classes() -> dict[str, Any]:
    return classes("tallybook.otlp", _MESSAGES)


def read(body: bytes) -> otlp.Export:
    """Return a request; raises Invalid where it is none."""
    try:
        request = _classes()["ExportMetricsServiceRequest"].FromString(body)
    except DecodeError as error:
        message = f"the body is not an OTLP metrics request in protobuf: {error}"
        raise Invalid(message, code="malformed", field="body") from error
    return otlp.Export([_block(block) for block in request.resource_metrics])


def answer(rejected: int, message: str) -> bytes:
    """Return the body of a success, partial where something was rejected."""
    response = _classes()["ExportMetricsServiceResponse"]()
    if rejected or message:
        response.partial_success.rejected_data_points = rejected
        response.partial_success.error_message = message
    return bytes(response.SerializeToString())


def status(code: int, message: str) -> bytes:
    """Return the body of a failure: google.rpc.Status."""
    return bytes(_classes()["Status"](code=code, message=message).SerializeToString())


def _block(block: Any) -> otlp.ResourceMetrics:
    return otlp.ResourceMetrics(
        resource=otlp.Resource(_attributes(block.resource.attributes)),
        scope_metrics=[
            otlp.ScopeMetrics(
                scope=otlp.Scope(group.scope.name), metrics=list(map(_metric, group.metrics))
            )
            for group in block.scope_metrics
        ],
    )


def _metric(metric: Any) -> otlp.Metric:
    made: dict[str, Any] = {"name": metric.name, "unit": metric.unit}
    match metric.WhichOneof("data"):
        case "gauge":
            made["gauge"] = otlp.Gauge(list(map(_number, metric.gauge.data_points)))
        case "sum":
            made["sum"] = otlp.Sum(
                list(map(_number, metric.sum.data_points)),
                metric.sum.aggregation_temporality,
                metric.sum.is_monotonic,
            )
        case "histogram" | "exponential_histogram" as kind:
            found = getattr(metric, kind)
            made[kind] = otlp.Spread(
                list(map(_spread, found.data_points)), found.aggregation_temporality
            )
        case "summary":
            made["summary"] = otlp.Summary(list(map(_spread, metric.summary.data_points)))
        case _:
            pass  # a kind of a later version: it holds no points that can be read
    return otlp.Metric(**made)


def _number(point: Any) -> otlp.NumberPoint:
    which = point.WhichOneof("value")
    return otlp.NumberPoint(
        attributes=_attributes(point.attributes),
        start_time_unix_nano=point.start_time_unix_nano,
        time_unix_nano=point.time_unix_nano,
        as_double=_real(point.as_double) if which == "as_double" else msgspec.Raw(b""),
        as_int=point.as_int if which == "as_int" else None,
        flags=point.flags,
    )


def _spread(point: Any) -> otlp.SpreadPoint:
    return otlp.SpreadPoint(
        attributes=_attributes(point.attributes),
        start_time_unix_nano=point.start_time_unix_nano,
        time_unix_nano=point.time_unix_nano,
        count=point.count,
        sum=_real(point.sum) if point.HasField("sum") else msgspec.Raw(b""),
        flags=point.flags,
    )


def _real(number: float) -> msgspec.Raw:
    return msgspec.Raw(repr(number).encode())


def _attributes(attributes: Any) -> list[otlp.KeyValue]:
    return [otlp.KeyValue(a.key, _value(a.value)) for a in attributes]


def _value(value: Any) -> otlp.AnyValue:
    kind = value.WhichOneof("value")
    made: dict[str, Any] = {}
    if kind == "bytes_value":
        made[kind] = base64.b64encode(value.bytes_value).decode()
    elif kind in {"array_value", "kvlist_value"}:
        made[kind] = msgspec.Raw(msgspec.json.encode(_nested(value, 0)))
    elif kind is not None:
        made[kind] = getattr(value, kind)
    return otlp.AnyValue(**made)


def _nested(value: Any, depth: int) -> object:
    """Return a nested value as OTLP/JSON spells it, so that both encodings are one label."""
    kind = value.WhichOneof("value")
    if kind is None or depth > otlp.DEPTH_MAX:
        return {}
    inner = getattr(value, kind)
    if kind == "array_value":
        return {"values": [_spelled(item, depth + 1) for item in inner.values]}
    if kind == "kvlist_value":
        pairs = [{"key": p.key, "value": _spelled(p.value, depth + 1)} for p in inner.values]
        return {"values": pairs}
    return inner


_CAMEL = {
    "string_value": "stringValue",
    "bool_value": "boolValue",
    "int_value": "intValue",
    "double_value": "doubleValue",
    "array_value": "arrayValue",
    "kvlist_value": "kvlistValue",
    "bytes_value": "bytesValue",
}


def _spelled(value: Any, depth: int) -> dict[str, object]:
    kind = value.WhichOneof("value")
    if kind is None:
        return {}
    found = _nested(value, depth)
    if kind == "int_value":
        found = str(found)
    if isinstance(found, bytes):
        found = base64.b64encode(found).decode()
    return {_CAMEL[kind]: found}
