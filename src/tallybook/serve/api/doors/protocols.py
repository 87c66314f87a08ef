"""Each protocol at its door: how a request is read, and what its own clients understand.

| | all counted | some can never be | not now | malformed |
|---|---|---|---|---|
| OTLP | 200 | 200, partial success | 503, Retry-After | 400, google.rpc.Status |
| remote write | 204, counts in headers | 400, the rest is written | 503 | 400, 415 |
| Influx | 204 | 400 with line numbers, the rest is written | 503 | 400 |
| logs | 200 | 200, quarantined are told | 503 | 400 |

What can never be counted is in quarantine, whatever the answer. Protobuf is loaded with the first
request that needs it, so that a server without such clients starts as fast as before.
"""

import time
from typing import Protocol

import msgspec

from tallybook.collect.doors import influx, otlp, records
from tallybook.collect.doors.decide import Decision
from tallybook.collect.doors.point import Decoded
from tallybook.collect.doors.rules import DoorName, DoorRules
from tallybook.kernel.errors import Invalid, TallybookError
from tallybook.serve.api.bodies import decompress
from tallybook.serve.api.doors.answer import Answer, Asked, retry_after, said, status_of

_JSON = (b"content-type", b"application/json")
_PROTOBUF = (b"content-type", b"application/x-protobuf")
_TEXT = (b"content-type", b"text/plain; charset=utf-8")


class Protocoled(Protocol):
    """A protocol."""

    name: DoorName

    def read(self, asked: Asked, rules: DoorRules) -> Decoded:
        """Return what a request holds; raises Invalid."""
        ...

    def answer(self, asked: Asked, decoded: Decoded, decision: Decision) -> Answer:
        """Return the answer to a request that is stored."""
        ...

    def refuse(self, asked: Asked, error: TallybookError) -> Answer:
        """Return the answer to a request of which nothing is stored."""
        ...


def _plain(asked: Asked) -> bytes:
    return decompress(asked.body, asked.headers.get("content-encoding", b""), asked.bytes_max)


def _now_us() -> int:
    return time.time_ns() // 1000


class Otlp:
    """OTLP/HTTP metrics; the answer has the type of the request."""

    name: DoorName = "otlp"

    def read(self, asked: Asked, rules: DoorRules) -> Decoded:
        """Return the points of a request."""
        from tallybook.adapters.protobuf import otlp as otlp_protobuf

        del rules
        body = _plain(asked)
        match asked.kind():
            case "application/json":
                return otlp.points(otlp.read_json(body))
            case "application/x-protobuf" | "application/protobuf":
                return otlp.points(otlp_protobuf.read(body))
            case _:
                message = "Content-Type must be application/x-protobuf or application/json"
                raise Invalid(message, code="unsupported-media-type", field="Content-Type")

    def answer(self, asked: Asked, decoded: Decoded, decision: Decision) -> Answer:
        """Return success, partial where points were rejected for good."""
        from tallybook.adapters.protobuf import otlp as otlp_protobuf

        del decoded
        rejected, text = len(decision.bad) + decision.refused, said(decision)
        if asked.kind() == "application/json":
            body: dict[str, object] = {}
            if rejected:
                told = {"rejectedDataPoints": str(rejected), "errorMessage": text}
                body = {"partialSuccess": told}
            return Answer(200, msgspec.json.encode(body), [_JSON])
        return Answer(200, otlp_protobuf.answer(rejected, text), [_PROTOBUF])

    def refuse(self, asked: Asked, error: TallybookError) -> Answer:
        """Return google.rpc.Status; never 500, which clients do not retry."""
        from tallybook.adapters.protobuf import otlp as otlp_protobuf

        status = status_of(error)
        code = {401: 16, 403: 7, 413: 8, 429: 8, 503: 14}.get(status, 3)
        headers = retry_after(error)
        if asked.kind() == "application/json":
            body = msgspec.json.encode({"code": code, "message": error.message})
            return Answer(status, body, [_JSON, *headers])
        return Answer(status, otlp_protobuf.status(code, error.message), [_PROTOBUF, *headers])


_V2 = "io.prometheus.write.v2.Request"
_VERSIONS = {"": 1, "prometheus.WriteRequest": 1, _V2: 2}


class RemoteWrite:
    """Prometheus remote write, both versions."""

    name: DoorName = "prometheus"

    def read(self, asked: Asked, rules: DoorRules) -> Decoded:
        """Return the points of a request."""
        from tallybook.adapters.protobuf import remote_write

        del rules
        version = _version(asked)
        encoding = asked.header("content-encoding").lower()
        if encoding not in {"snappy", ""}:
            message = "Content-Encoding must be snappy"
            raise Invalid(message, code="unsupported-media-type", field="Content-Encoding")
        body = remote_write.unpack(asked.body, asked.bytes_max)
        return remote_write.read(body, version)

    def answer(self, asked: Asked, decoded: Decoded, decision: Decision) -> Answer:
        """Return 2xx only where everything was written."""
        del asked
        histograms = decoded.histograms
        samples = decoded.samples - (decision.lost - len(decoded.bad))
        headers = [
            (b"x-prometheus-remote-write-samples-written", str(max(0, samples)).encode()),
            (b"x-prometheus-remote-write-histograms-written", str(histograms).encode()),
            (b"x-prometheus-remote-write-exemplars-written", b"0"),
        ]
        text = said(decision)
        if not text:
            return Answer(204, b"", headers)
        return Answer(400, f"{text}\n".encode(), [_TEXT, *headers])

    def refuse(self, asked: Asked, error: TallybookError) -> Answer:
        """Return a text; 5xx is sent again, other statuses are not."""
        del asked
        nothing = [
            (b"x-prometheus-remote-write-samples-written", b"0"),
            (b"x-prometheus-remote-write-histograms-written", b"0"),
            (b"x-prometheus-remote-write-exemplars-written", b"0"),
        ]
        headers = [_TEXT, *nothing, *retry_after(error)]
        return Answer(status_of(error), f"{error.message}\n".encode(), headers)


def _version(asked: Asked) -> int:
    kind, _, rest = asked.header("content-type").partition(";")
    name, _, value = rest.partition("=")
    proto = value.strip().strip('"') if name.strip().lower() == "proto" else ""
    if kind.strip().lower() not in {"application/x-protobuf", ""} or proto not in _VERSIONS:
        message = f"Content-Type must be application/x-protobuf, perhaps with proto={_V2}"
        raise Invalid(message, code="unsupported-media-type", field="Content-Type")
    return _VERSIONS[proto]


class Influx:
    """Influx line protocol, as versions 2 and 1 of InfluxDB take it."""

    name: DoorName = "influx"

    def read(self, asked: Asked, rules: DoorRules) -> Decoded:
        """Return the lines of a request."""
        del rules
        precision = asked.query.get("precision") or "ns"
        return influx.points(_plain(asked), precision, _now_us())

    def answer(self, asked: Asked, decoded: Decoded, decision: Decision) -> Answer:
        """Return 204, or 400 that names the lines which are not written."""
        del asked, decoded
        text = said(decision)
        if not text:
            return Answer(204)
        body = {"code": "invalid", "message": f"partial write: {text}"}
        return Answer(400, msgspec.json.encode(body), [_JSON, (b"x-influxdb-error", b"partial")])

    def refuse(self, asked: Asked, error: TallybookError) -> Answer:
        """Return the error in InfluxDB's words."""
        del asked
        status = status_of(error)
        codes = {401: "unauthorized", 403: "forbidden", 413: "request too large"}
        code = codes.get(status, "unavailable" if status >= 429 else "invalid")
        body = msgspec.json.encode({"code": code, "message": error.message})
        return Answer(status, body, [_JSON, *retry_after(error)])


class Logs:
    """JSON objects, as Vector's HTTP sink sends them."""

    name: DoorName = "logs"

    def read(self, asked: Asked, rules: DoorRules) -> Decoded:
        """Return the objects of a request."""
        return records.points(_plain(asked), rules, _now_us())

    def answer(self, asked: Asked, decoded: Decoded, decision: Decision) -> Answer:
        """Return what was stored; the rest is quarantined, so that nothing is sent again."""
        del asked, decoded
        body = {"stored": decision.stored, "quarantined": len(decision.bad), "said": said(decision)}
        return Answer(200, msgspec.json.encode(body), [_JSON])

    def refuse(self, asked: Asked, error: TallybookError) -> Answer:
        """Return a problem; 5xx and 429 are sent again."""
        del asked
        body = msgspec.json.encode({"code": error.code, "detail": error.message})
        return Answer(status_of(error), body, [_JSON, *retry_after(error)])
