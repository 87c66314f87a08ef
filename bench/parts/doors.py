"""The front doors: points a second and core, beside a bare protobuf decode of the same bytes.

One thread and no HTTP: what is measured is reading, judging against standings, and the durable
transaction of requests that wait together.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tallybook.adapters.protobuf import otlp as otlp_protobuf
from tallybook.adapters.protobuf import remote_write
from tallybook.adapters.sqlite.door_log import SqliteDoorLog
from tallybook.collect.doors import otlp
from tallybook.collect.doors.decide import prepare
from tallybook.collect.doors.point import Decoded
from tallybook.collect.doors.rules import NO_RULES
from tallybook.serve.api.doors.commit import Request
from tallybook.transport.accept import AcceptLimits
from tallybook.transport.columns import ColumnSet

SERIES = 1_000
REQUESTS = 24
"""Each has one sample of every series, as a scrape of a large target has."""
TOGETHER = 4
"""Requests that share a transaction."""
BEGIN_S = 1_790_000_000
NOW_US = (BEGIN_S + 3600) * 1_000_000
COLUMNS = ColumnSet({})


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What one protocol costs.

    Attributes:
        points: a second of one core, from bytes to durable.
        read: the same of reading alone; decode of protobuf's own decoding alone.
    """

    name: str
    points: float
    read: float
    decode: float


def of_remote_write(folder: Path) -> Speed:
    """Measure Prometheus remote write 1.0, unpacked."""
    message = remote_write._v1()  # noqa: SLF001 - the bare decoder is the yardstick
    bodies = [_written(message, number) for number in range(REQUESTS)]
    return _measured(
        "prometheus", folder, bodies, message.FromString, lambda b: remote_write.read(b, 1)
    )


def of_otlp(folder: Path) -> Speed:
    """Measure OTLP metrics in protobuf."""
    message = otlp_protobuf._classes()["ExportMetricsServiceRequest"]  # noqa: SLF001 - as above
    bodies = [_exported(message, number) for number in range(REQUESTS)]
    return _measured(
        "otlp", folder, bodies, message.FromString, lambda b: otlp.points(otlp_protobuf.read(b))
    )


def report(folder: Path) -> list[Speed]:
    """Measure both."""
    return [of_remote_write(folder / "remote-write"), of_otlp(folder / "otlp")]


def _measured(
    name: str,
    folder: Path,
    bodies: list[bytes],
    decode: Callable[[bytes], Any],
    read: Callable[[bytes], Decoded],
) -> Speed:
    folder.mkdir(parents=True, exist_ok=True)
    count = SERIES * len(bodies)
    decoding = _seconds(lambda: [decode(body) for body in bodies])
    reading = _seconds(lambda: [read(body) for body in bodies])
    log = SqliteDoorLog(folder / "p256.db", lambda: NOW_US, _never)

    def whole() -> None:
        for at in range(0, len(bodies), TOGETHER):
            asked = [_request(name, read(body)) for body in bodies[at : at + TOGETHER]]
            answers = log.write(asked)
            assert not any(isinstance(answer, BaseException) for answer in answers), answers

    spent = _seconds(whole)
    log.close()
    return Speed(name=name, points=count / spent, read=count / reading, decode=count / decoding)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def _request(door: str, decoded: Decoded) -> Request:
    assert len(decoded.points) == SERIES, decoded.bad
    prepared = prepare("default", door, NO_RULES, decoded, NOW_US)
    return Request(prepared, COLUMNS, AcceptLimits(), NOW_US)


def _never(path: Path, error: Exception) -> None:
    raise AssertionError(f"{path}: {error}")


def _written(message: Any, number: int) -> bytes:
    request = message()
    for series in range(SERIES):
        one = request.timeseries.add()
        labels = {
            "__name__": "http_requests_total", "code": str(200 + series % 5), "instance": "a:9100",
            "job": "shop", "path": f"/item/{series}",
        }  # fmt: skip
        for label, value in labels.items():
            one.labels.add(name=label, value=value)
        one.samples.add(value=100 * number + series, timestamp=(BEGIN_S + 15 * number) * 1000)
    return bytes(request.SerializeToString())


def _exported(message: Any, number: int) -> bytes:
    request = message()
    block = request.resource_metrics.add()
    block.resource.attributes.add(key="service.instance.id").value.string_value = "a"
    metric = block.scope_metrics.add().metrics.add(name="http.requests")
    metric.sum.aggregation_temporality, metric.sum.is_monotonic = otlp.CUMULATIVE, True
    for series in range(SERIES):
        point = metric.sum.data_points.add(
            start_time_unix_nano=(BEGIN_S - 60) * 10**9,
            time_unix_nano=(BEGIN_S + 15 * number) * 10**9,
            as_int=100 * number + series,
        )
        point.attributes.add(key="path").value.string_value = f"/item/{series}"
        point.attributes.add(key="code").value.int_value = 200 + series % 5
    return bytes(request.SerializeToString())
