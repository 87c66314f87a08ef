"""Remote write: what series are, by metadata or name, and values that are none."""

import math
import struct
from decimal import Decimal

import cramjam
import pytest

from tallybook.adapters.protobuf import remote_write
from tallybook.collect.doors.point import Bad, Point
from tallybook.collect.doors.prometheus import Series, native, sample, series
from tallybook.kernel.errors import Invalid

STALE = struct.unpack(">d", struct.pack(">Q", 0x7FF0000000000002))[0]

KINDS = [
    ("requests_total", {}, "", "counter"),
    ("latency_sum", {}, "", "counter"),
    ("latency_count", {}, "", "counter"),
    ("latency_bucket", {"le": "1"}, "", "bucket"),
    ("paint_bucket", {}, "", "level"),
    ("queue_length", {}, "", "level"),
    ("requests_created", {}, "", "evidence"),
    ("process_start_time_seconds", {}, "", "evidence"),
    ("process_start_time_seconds", {}, "gauge", "evidence"),
    ("requests", {}, "counter", "counter"),
    ("replica_count", {}, "gauge", "level"),
    ("latency_sum", {}, "histogram", "counter"),
    ("latency_bucket", {"le": "1"}, "histogram", "bucket"),
    ("latency_created", {}, "histogram", "evidence"),
    ("latency", {"quantile": "0.5"}, "summary", "level"),
    ("latency_count", {}, "summary", "counter"),
    ("build_total", {}, "other", "level"),
]


@pytest.mark.parametrize(("name", "labels", "family", "kind"), KINDS)
def test_what_a_series_is(name, labels, family, kind):
    found = series([("__name__", name), *labels.items()], family)
    assert isinstance(found, Series)
    assert (found.name, dict(found.labels), found.kind) == (name, labels, kind)


@pytest.mark.parametrize(
    "labels",
    [
        [],
        [("a", "b")],
        [("__name__", "")],
        [("__name__", "x"), ("a", "1"), ("a", "2")],
        [("__name__", "x"), ("", "1")],
        [("__name__", "x"), ("a", "1" * 5000)],
        [("__name__", "x"), *((f"l{n}", "") for n in range(200))],
    ],
)
def test_what_is_no_series(labels):
    found = series(labels, "")
    assert isinstance(found, Bad)
    assert found.code == "labels-malformed"


COUNTER = Series("x_total", {}, "counter")
LEVEL = Series("x", {}, "level")


def test_values_that_are_none():
    assert sample(COUNTER, STALE, 1, 0) == "stale"
    assert sample(COUNTER, math.nan, 1, 0) == "no-value"
    assert sample(Series("x", {}, "bucket"), 1.0, 1, 0) == "bucket"
    endless = sample(COUNTER, math.inf, 1, 0)
    assert isinstance(endless, Point)
    assert endless.value == Decimal("inf")
    assert native(COUNTER, 1, STALE, 1, 0, gauge=False) == "stale"
    assert native(COUNTER, 1, math.nan, 1, 0, gauge=False) == "no-value"
    assert native(COUNTER, 1, 1.0, 1, 0, gauge=True) == "bucket"


def test_values_are_read_by_their_shortest_spelling():
    found = [sample(LEVEL, value, 1, 0) for value in (0.1, 3.0, 2.0**60, -1e-7)]
    assert [point.value for point in found if isinstance(point, Point)] == [
        Decimal("0.1"), Decimal(3), Decimal(2**60), Decimal("-1E-7")
    ]  # fmt: skip


def v1(*blocks):
    request = remote_write._v1()()
    for labels, samples in blocks:
        block = request.timeseries.add()
        for name, value in labels.items():
            block.labels.add(name=name, value=value)
        for value, at in samples:
            block.samples.add(value=value, timestamp=at)
    return request


def packed(request):
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))


def test_version_one():
    request = v1(
        ({"__name__": "a_total", "job": "j"}, [(1, 1000), (2, 2000)]),
        ({"job": "j"}, [(1, 1000)]),
        ({"__name__": "b_bucket", "le": "1"}, [(5, 1000)]),
    )
    histogram = request.timeseries.add()
    histogram.labels.add(name="__name__", value="native")
    histogram.histograms.add(count_int=4, sum=2.5, timestamp=3000)
    histogram.histograms.add(count_float=4.5, sum=math.inf, timestamp=4000)
    decoded = remote_write.read(remote_write.unpack(packed(request), 1 << 20), 1)
    assert [(p.name, p.kind, p.time_us, p.value, p.sum) for p in decoded.points] == [
        ("a_total", "counter", 1_000_000, 1, None),
        ("a_total", "counter", 2_000_000, 2, None),
        ("native", "counter", 3_000_000, 4, Decimal("2.5")),
        ("native", "counter", 4_000_000, Decimal("4.5"), Decimal("inf")),
    ]
    assert dict(decoded.ignored) == {"bucket": 1}
    assert (decoded.samples, decoded.histograms, len(decoded.bad)) == (3, 2, 1)


def test_version_two():
    request = remote_write._v2()()
    request.symbols.extend(["", "__name__", "a", "job", "j", "b_total"])
    block = request.timeseries.add(labels_refs=[1, 2, 3, 4], created_timestamp=500)
    block.metadata.type = 1
    block.samples.add(value=1, timestamp=1000)
    block.samples.add(value=2, timestamp=2000, start_timestamp=600)
    block = request.timeseries.add(labels_refs=[1, 5])
    block.metadata.type = 2
    block.samples.add(value=7, timestamp=1000)
    request.timeseries.add(labels_refs=[1])
    request.timeseries.add(labels_refs=[1, 99])
    odd = request.timeseries.add(labels_refs=[1, 5])
    odd.metadata.type = 77
    odd.samples.add(value=8, timestamp=1000, start_timestamp=900)
    decoded = remote_write.read(request.SerializeToString(), 2)
    assert [(p.name, p.kind, p.start_us, p.value) for p in decoded.points] == [
        ("a", "counter", 500_000, 1),
        ("a", "counter", 600_000, 2),
        ("b_total", "level", 0, 7),
        ("b_total", "counter", 900_000, 8),
    ]
    assert len(decoded.bad) == 2


@pytest.mark.parametrize("body", [b"", b"\xff\xff\xff\xff\xff\xff", b"\x05abc", b"\x80"])
def test_what_is_no_snappy_block(body):
    with pytest.raises(Invalid, match="snappy"):
        remote_write.unpack(body, 100)


def test_a_framed_snappy_stream_is_refused():
    with pytest.raises(Invalid):
        remote_write.unpack(bytes(cramjam.snappy.compress(b"x" * 100)), 1 << 20)


def test_a_bomb_is_refused_before_it_is_unpacked():
    bomb = bytes(cramjam.snappy.compress_raw(b"\0" * 10_000_000))
    with pytest.raises(Invalid) as refused:
        remote_write.unpack(bomb, 1_000_000)
    assert refused.value.code == "too-large"


def test_what_is_no_request():
    for version in (1, 2):
        with pytest.raises(Invalid, match="remote write"):
            remote_write.read(b"\xff\xff\xff", version)


def test_bounds(monkeypatch):
    request = v1(*[({"__name__": "a"}, [(1, 1), (2, 2)])] * 3).SerializeToString()
    monkeypatch.setattr(remote_write, "SAMPLES_MAX", 5)
    with pytest.raises(Invalid, match="samples"):
        remote_write.read(request, 1)
    monkeypatch.setattr(remote_write, "SERIES_MAX", 2)
    with pytest.raises(Invalid, match="series"):
        remote_write.read(request, 1)
