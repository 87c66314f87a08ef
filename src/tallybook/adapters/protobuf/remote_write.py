"""Prometheus remote write 1.0 and 2.0: protobuf in a snappy block.

Source: prometheus `prompb/types.proto`, `remote.proto`; `io/prometheus/write/v2/types.proto`
(rc.1 to rc.4: a start is of the series, or of the sample).
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import cramjam
import msgspec
from google.protobuf.message import DecodeError

from tallybook.adapters.protobuf.schema import Fields, classes
from tallybook.collect.doors.point import Bad, Decoded, Point
from tallybook.collect.doors.prometheus import Family, Series, native, sample, series
from tallybook.kernel.errors import Invalid

SAMPLES_MAX = 200_000
SERIES_MAX = 100_000
_GAUGE_HINT = 3
_FAMILIES: tuple[Family, ...] = (
    "", "counter", "gauge", "histogram", "gaugehistogram", "summary", "other", "other",
)  # fmt: skip
_HISTOGRAM: Fields = {
    "count_int": (1, "count|uint64"),
    "count_float": (2, "count|double"),
    "sum": (3, "double"),
    "reset_hint": (14, "int32"),
    "timestamp": (15, "int64"),
    "start_timestamp": (17, "int64"),
}
_SAMPLE: Fields = {
    "value": (1, "double"),
    "timestamp": (2, "int64"),
    "start_timestamp": (3, "int64"),
}
_V1: dict[str, Fields] = {
    "Label": {"name": (1, "string"), "value": (2, "string")},
    "Sample": _SAMPLE,
    "Histogram": _HISTOGRAM,
    "TimeSeries": {
        "labels": (1, "*Label"),
        "samples": (2, "*Sample"),
        "histograms": (4, "*Histogram"),
    },
    "WriteRequest": {"timeseries": (1, "*TimeSeries")},
}
_V2: dict[str, Fields] = {
    "Sample": _SAMPLE,
    "Histogram": _HISTOGRAM,
    "Metadata": {"type": (1, "int32")},
    "Exemplar": {"value": (2, "double")},
    "TimeSeries": {
        "labels_refs": (1, "*uint32"),
        "samples": (2, "*Sample"),
        "histograms": (3, "*Histogram"),
        "exemplars": (4, "*Exemplar"),
        "metadata": (5, "Metadata"),
        "created_timestamp": (6, "int64"),
    },
    "Request": {"symbols": (4, "*string"), "timeseries": (5, "*TimeSeries")},
}


@cache
def _v1() -> Any:
    return classes("tallybook.prometheus.v1", _V1)["WriteRequest"]


@cache
def _v2() -> Any:
    return classes("tallybook.prometheus.v2", _V2)["Request"]


def unpack(body: bytes, bytes_max: int) -> bytes:
    """Return the content of a snappy block; raises Invalid where it is none, or too large."""
    size = _announced(body)
    if size is None:
        raise Invalid("the body is no snappy block", code="malformed", field="body")
    if size > bytes_max:
        message = f"the body has {size} bytes unpacked; the limit is {bytes_max}"
        raise Invalid(message, code="too-large", field="body")
    try:
        return bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise Invalid("the body is no snappy block", code="malformed", field="body") from error


def _announced(body: bytes) -> int | None:
    """Return the unpacked size that a block begins with."""
    size = 0
    for at, byte in enumerate(body[:5]):
        size |= (byte & 0x7F) << (7 * at)
        if byte < 0x80:
            return size
    return None


def read(body: bytes, version: int) -> Decoded:
    """Return what a request holds.

    Args:
        body: unpacked.
        version: 1 or 2.

    Raises:
        Invalid: it is no such request, or holds too much.
    """
    try:
        request = (_v1() if version == 1 else _v2()).FromString(body)
    except DecodeError as error:
        message = f"the body is not a remote write {version}.0 request: {error}"
        raise Invalid(message, code="malformed", field="body") from error
    if len(request.timeseries) > SERIES_MAX:
        message = f"the request has more than {SERIES_MAX} series; send smaller batches"
        raise Invalid(message, code="too-large", field="body")
    make = _one if version == 1 else _with_symbols(request.symbols)
    return _collected(request.timeseries, make)


Make = Callable[[Any], Series | Bad]


def _one(block: Any) -> Series | Bad:
    return series([(label.name, label.value) for label in block.labels], "")


def _with_symbols(symbols: Any) -> Make:
    names: list[str] = list(symbols)
    wrong = Bad(code="labels-malformed", message="a label refers to no symbol", piece="")

    def make(block: Any) -> Series | Bad:
        refs = block.labels_refs
        if len(refs) % 2 or any(ref >= len(names) for ref in refs):
            return msgspec.structs.replace(wrong, piece=str(list(refs))[:1000])
        found = [names[ref] for ref in refs]
        kind = block.metadata.type
        family: Family = _FAMILIES[kind] if 0 <= kind < len(_FAMILIES) else ""
        return series(list(zip(found[::2], found[1::2], strict=True)), family)

    return make


def _collected(blocks: Any, make: Make) -> Decoded:
    points: list[Point] = []
    bad: list[Bad] = []
    ignored: dict[str, int] = {}
    samples = histograms = 0
    for block in blocks:
        found = make(block)
        if isinstance(found, Bad):
            bad.append(found)
            continue
        samples += len(block.samples)
        histograms += len(block.histograms)
        if samples + histograms > SAMPLES_MAX:
            message = f"the request has more than {SAMPLES_MAX} samples; send smaller batches"
            raise Invalid(message, code="too-large", field="body")
        for point in _points(block, found):
            if isinstance(point, Point):
                points.append(point)
            else:
                ignored[point] = ignored.get(point, 0) + 1
    return Decoded(
        points=tuple(points),
        bad=tuple(bad),
        ignored=ignored,
        samples=samples,
        histograms=histograms,
    )


def _points(block: Any, found: Series) -> Iterator[Point | str]:
    created = getattr(block, "created_timestamp", 0)
    for one in block.samples:
        yield sample(found, one.value, one.timestamp, one.start_timestamp or created)
    for one in block.histograms:
        whole = one.WhichOneof("count") == "count_int"
        yield native(
            found,
            one.count_int if whole else one.count_float,
            one.sum,
            one.timestamp,
            one.start_timestamp or created,
            gauge=one.reset_hint == _GAUGE_HINT,
        )
