"""OTLP: protobuf and JSON say the same; each kind, each temporality, and what cannot be counted."""

from decimal import Decimal

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from tallybook.adapters.protobuf import otlp as protobuf
from tallybook.collect.doors import otlp
from tallybook.kernel.errors import Invalid

NS = 1_700_000_000_000_000_000
US = NS // 1000


def text(key, value):
    return KeyValue(key=key, value=AnyValue(string_value=value))


def request(fill):
    """Return a request of one metric that `fill` completes, and its points over both roads."""
    found = ExportMetricsServiceRequest()
    block = found.resource_metrics.add()
    block.resource.attributes.append(text("service.name", "shop"))
    group = block.scope_metrics.add()
    group.scope.name = "tests"
    metric = group.metrics.add(name="m", unit="By")
    fill(metric)
    return found


def both(found):
    import json

    binary = otlp.points(protobuf.read(found.SerializeToString()))
    spelled = json.dumps(MessageToDict(found, use_integers_for_enums=True)).encode()
    spoken = otlp.points(otlp.read_json(spelled))
    return binary, spoken


def counter(temporality, *, monotonic=True):
    def fill(metric):
        metric.sum.aggregation_temporality = temporality
        metric.sum.is_monotonic = monotonic
        point = metric.sum.data_points.add(
            as_int=2**60 + 1, time_unix_nano=NS + 5_000, start_time_unix_nano=NS
        )
        point.attributes.append(text("route", "/a"))

    return fill


@pytest.mark.parametrize(
    ("temporality", "monotonic", "kind"),
    [(2, True, "counter"), (2, False, "level"), (1, True, "delta"), (1, False, "delta")],
)
def test_sums(temporality, monotonic, kind):
    for decoded in both(request(counter(temporality, monotonic=monotonic))):
        (point,) = decoded.points
        assert (point.kind, point.value, point.time_us, point.start_us) == (
            kind, Decimal(2**60 + 1), US + 5, US
        )  # fmt: skip
        assert dict(point.labels) == {
            "service.name": "shop", "otel.scope.name": "tests", "route": "/a"
        }  # fmt: skip


def test_gauges_keep_their_digits():
    def fill(metric):
        metric.gauge.data_points.add(as_double=0.1, time_unix_nano=NS)
        metric.gauge.data_points.add(as_double=-3, time_unix_nano=NS)
        metric.gauge.data_points.add(time_unix_nano=NS, flags=1)

    for decoded in both(request(fill)):
        assert [point.value for point in decoded.points] == [Decimal("0.1"), Decimal(-3)]
        assert {point.kind for point in decoded.points} == {"level"}
        assert dict(decoded.ignored) == {"no-value": 1}


@pytest.mark.parametrize("kind", ["histogram", "exponential_histogram"])
def test_histograms_count_by_count_and_sum(kind):
    def fill(metric):
        spread = getattr(metric, kind)
        spread.aggregation_temporality = 1
        spread.data_points.add(count=3, sum=1.5, time_unix_nano=NS, start_time_unix_nano=NS - 9000)
        spread.data_points.add(count=4, time_unix_nano=NS)
        spread.data_points.add(time_unix_nano=NS, flags=1)

    for decoded in both(request(fill)):
        assert [(p.kind, p.value, p.sum) for p in decoded.points] == [
            ("delta", 3, Decimal("1.5")), ("delta", 4, 0)
        ]  # fmt: skip


def test_summaries_are_cumulative():
    def fill(metric):
        metric.summary.data_points.add(count=3, sum=1.5, time_unix_nano=NS)

    for decoded in both(request(fill)):
        assert [(p.kind, p.value, p.sum) for p in decoded.points] == [
            ("counter", 3, Decimal("1.5"))
        ]


def test_what_cannot_be_counted_is_named():
    def fill(metric):
        metric.sum.data_points.add(as_int=1, time_unix_nano=NS)

    for decoded in both(request(fill)):
        assert [bad.code for bad in decoded.bad] == ["temporality-missing"]

    def empty(metric):
        metric.gauge.data_points.add(time_unix_nano=NS)
        metric.gauge.data_points.add(as_int=1)
        metric.gauge.data_points.add(as_double=float("nan"), time_unix_nano=NS)

    for decoded in both(request(empty)):
        assert sorted(bad.code for bad in decoded.bad) == [
            "time-missing", "value-malformed", "value-malformed"
        ]  # fmt: skip
        assert not decoded.points


def test_attributes_of_every_kind():
    values = {
        "flag": AnyValue(bool_value=True),
        "whole": AnyValue(int_value=2**60),
        "real": AnyValue(double_value=0.5),
        "bytes": AnyValue(bytes_value=b"ab"),
        "none": AnyValue(),
        "list": AnyValue(
            array_value=ArrayValue(
                values=[AnyValue(int_value=1), AnyValue(bytes_value=b"x"), AnyValue()]
            )
        ),
        "map": AnyValue(
            kvlist_value=KeyValueList(values=[text("k", "v"), KeyValue(key="l", value=AnyValue(
                array_value=ArrayValue(values=[AnyValue(bool_value=False)])))])
        ),
    }  # fmt: skip

    def fill(metric):
        point = metric.gauge.data_points.add(as_int=1, time_unix_nano=NS)
        point.attributes.extend(KeyValue(key=k, value=v) for k, v in values.items())

    for decoded in both(request(fill)):
        labels = decoded.points[0].labels
        assert labels["flag"] is True
        assert (labels["whole"], labels["real"], labels["bytes"]) == (2**60, 0.5, "YWI=")
        assert "none" not in labels
        assert '"intValue"' in str(labels["list"])
        assert '"arrayValue"' in str(labels["map"])
    binary, spoken = both(request(fill))
    strip = lambda text: str(text).replace(" ", "")  # noqa: E731
    assert strip(binary.points[0].labels["map"]) == strip(spoken.points[0].labels["map"])


def test_json_takes_integers_as_numbers_or_texts_and_ignores_what_it_does_not_know():
    body = b"""{"later": {}, "resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m",
      "gauge": {"dataPoints": [{"timeUnixNano": 1700000000000000000, "asInt": 5, "traceId": "ab"},
      {"timeUnixNano": "1700000000000000000", "asInt": "6"},
      {"timeUnixNano": "1.5", "asInt": "6"}, {"timeUnixNano": "1", "asInt": "six"},
      {"timeUnixNano": "1000", "asDouble": 12345678901234567.5, "attributes":
        [{"key": "n", "value": {"intValue": "x"}}, {"key": "o"}]}]}}]}]}]}"""
    decoded = otlp.points(otlp.read_json(body))
    assert [point.value for point in decoded.points] == [5, 6, Decimal("12345678901234567.5")]
    assert len(decoded.bad) == 2
    assert dict(decoded.points[2].labels) == {}


@pytest.mark.parametrize("body", [b"", b"[]", b'{"resourceMetrics": 5}', b"\xff"])
def test_what_is_no_request_in_json(body):
    with pytest.raises(Invalid, match="JSON"):
        otlp.read_json(body)


def test_enums_are_integers_in_json():
    body = b"""{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", "sum":
      {"aggregationTemporality": "AGGREGATION_TEMPORALITY_DELTA"}}]}]}]}"""
    with pytest.raises(Invalid):
        otlp.read_json(body)


def test_what_is_no_request_in_protobuf():
    with pytest.raises(Invalid, match="protobuf"):
        protobuf.read(b"\xff\xff\xff")


def test_an_empty_request_holds_nothing_and_a_metric_without_a_kind_neither():
    assert otlp.points(protobuf.read(b"")).points == ()
    for decoded in both(request(lambda _metric: None)):
        assert decoded.points == ()


def test_bounds(monkeypatch):
    monkeypatch.setattr(otlp, "POINTS_MAX", 1)

    def fill(metric):
        for _ in range(2):
            metric.gauge.data_points.add(as_int=1, time_unix_nano=NS)

    with pytest.raises(Invalid, match="points"):
        both(request(fill))


def test_answers_are_read_by_the_protocols_own_classes():
    full = ExportMetricsServiceResponse.FromString(protobuf.answer(0, ""))
    assert not full.HasField("partial_success")
    partial = ExportMetricsServiceResponse.FromString(protobuf.answer(3, "three"))
    assert partial.partial_success.rejected_data_points == 3
    assert partial.partial_success.error_message == "three"
    from google.rpc.status_pb2 import Status

    status = Status.FromString(protobuf.status(14, "later"))
    assert (status.code, status.message) == (14, "later")
