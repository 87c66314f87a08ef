"""Clients that people already run talk to a real server by address and key alone."""

import base64
import gzip
import json
import logging
import time
from collections import Counter
from decimal import Decimal

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Counter as SdkCounter
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from tests.e2e.server import KEY, Server, asked, visiting, workers
from tests.e2e.test_prometheus_door import kill
from tests.support.door_clients import free_port, lake_events

BEARER = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doors") / "data"
    port = free_port()
    with Server(folder, workers(2), port=port) as running:
        yield running


def settled(server):
    """Return the lake's events once everything acknowledged is there."""
    server.caught_up()
    return lake_events(server.folder)


def of_service(events, name):
    return [e for e in events if e["problem"] is None and e["data"].get("service.name") == name]


def sdk(server, service, temporality=AggregationTemporality.CUMULATIVE, **more):
    exporter = OTLPMetricExporter(
        endpoint=f"{server.url}/v1/metrics",
        headers={"Authorization": f"Bearer {KEY}"},
        preferred_temporality={SdkCounter: temporality, Histogram: temporality},
        **more,
    )
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=150)
    view = View(
        instrument_name="sizes", aggregation=ExponentialBucketHistogramAggregation(max_size=8)
    )
    resource = Resource.create({"service.name": service, "host.name": "h1"})
    return MeterProvider([reader], resource=resource, views=[view])


@pytest.mark.parametrize("temporality", list(AggregationTemporality)[1:], ids=str)
def test_the_sdk_of_opentelemetry_exports(server, temporality, caplog):
    caplog.set_level(logging.ERROR)
    service = f"shop-{temporality.name.lower()}"
    provider = sdk(server, service, temporality, compression=Compression.Gzip)
    meter = provider.get_meter("tests")
    requests = meter.create_counter("http.requests")
    latency = meter.create_histogram("latency", unit="s")
    sizes = meter.create_histogram("sizes")
    level = meter.create_gauge("queue.length")
    held = meter.create_up_down_counter("held")
    truth: Counter[str] = Counter()
    for n in range(40):
        route = "/a" if n % 3 else "/b"
        requests.add(n, {"http.route": route})
        truth[route] += n
        latency.record(0.25, {"http.route": route})
        sizes.record(n + 1)
        level.set(n)
        held.add(2 if n % 2 else -1)
        time.sleep(0.02)
    assert provider.force_flush()
    provider.shutdown()
    events = of_service(settled(server), service)
    grown: Counter[str] = Counter()
    for event in events:
        if event["type"] == "http.requests":
            grown[event["data"]["http.route"]] += event["data"]["value"]
    assert grown == truth
    spread = {
        kind: [e["data"] for e in events if e["type"] == kind] for kind in ("latency", "sizes")
    }
    assert sum(d["count"] for d in spread["latency"]) == 40
    assert sum(d["sum"] for d in spread["latency"]) == 10
    assert sum(d["count"] for d in spread["sizes"]) == 40
    assert sum(d["sum"] for d in spread["sizes"]) == 820
    levels = [e for e in events if e["type"] == "queue.length"]
    assert max(levels, key=lambda e: e["time_us"])["data"]["value"] == 39
    held_last = max((e for e in events if e["type"] == "held"), key=lambda e: e["time_us"])
    assert held_last["data"]["value"] == 20
    named = {event["data"].get("service.instance.id", "h1") for event in events}
    assert {event["subject"] for event in events} == named


def test_the_sdk_exports_while_the_server_is_killed(server, caplog):
    caplog.set_level(logging.CRITICAL, logger="opentelemetry")
    provider = sdk(server, "killed", timeout=3)
    counter = provider.get_meter("tests").create_counter("work.done")
    for n in range(60):
        counter.add(n)
        time.sleep(0.02)
        if n == 25:
            kill(server)
    deadline = time.monotonic() + 60
    while not provider.force_flush(5_000) and time.monotonic() < deadline:
        time.sleep(0.2)
    provider.shutdown()
    events = of_service(settled(server), "killed")
    assert sum(e["data"]["value"] for e in events) == sum(range(60))


def test_a_stream_as_telegraf_sends_it(server):
    """Lines of cpu, net and an application, gzip, `Token`, a request repeated and one torn."""
    now = int(time.time())
    headers = {"Authorization": f"Token {KEY}", "Content-Encoding": "gzip",
               "Content-Type": "text/plain", "User-Agent": "Telegraf/1.39.0"}  # fmt: skip
    truth = 0
    with visiting() as client:
        for n in range(20):
            truth += n
            lines = [
                f"cpu,cpu=cpu0,host=web\\ 1 usage_idle=97.5,usage_user=1.25 {now + n}",
                f"net,host=web\\ 1,interface=eth0 bytes_recv={1000 * n}i,drop_in=0u {now + n}",
                f'orders,host=web\\ 1,customer=acme count={n}i,note="a, b \\"c\\"",ok=t {now + n}',
            ]
            body = gzip.compress("\n".join(lines).encode())
            url = f"{server.url}/api/v2/write?org=o&bucket=b&precision=s"
            for _ in range(2 if n % 4 == 0 else 1):
                answer = client.post(url, content=body, headers=headers)
                assert (answer.status_code, answer.content) == (204, b"")
        torn = "orders,host=x count=1i 1\norders,host=x count=\norders,host=x count=2i\n"
        answer = client.post(f"{server.url}/write?db=telegraf&p={KEY}&u=any", content=torn.encode())
        assert answer.status_code == 400
        assert "line 2" in answer.json()["message"]
    events = [e for e in settled(server) if e["source"] == "door:influx"]
    orders = [e for e in events if e["type"] == "orders" and e["subject"] == "web 1"]
    assert len(orders) == 20
    assert sum(e["data"]["count"] for e in orders) == truth
    assert orders[0]["data"]["note"] == 'a, b "c"'
    assert orders[0]["data"]["ok"] is True
    idle = [e for e in events if e["type"] == "cpu" and e["data"]["host"] == "web 1"]
    assert {e["data"]["usage_idle"] for e in idle} == {Decimal("97.5")}
    assert len([e for e in events if e["subject"] == "x" and e["type"] == "orders"]) == 2
    assert len([e for e in events if e["problem"]]) == 1


def test_rules_make_counters_of_fields_and_name_the_subject(server):
    rules = {
        "subject": ["customer", "host"],
        "prefix": "telegraf.",
        "series": [
            {"match": "net.bytes_*", "kind": "counter", "type": "network.io"},
            {"match": "noise*", "action": "drop"},
        ],
    }
    answer = asked("PUT", f"{server.url}/api/v1/doors/influx", json=rules, headers=BEARER)
    assert answer.status_code == 200, answer.text
    time.sleep(1.1)  # rules are used for a second before they are looked up again
    now = int(time.time())
    for n in range(5):
        lines = (
            f"net,host=r,customer=c9 bytes_recv={100 + 7 * n}i,speed=5i {now + n}\n"
            f"noise,host=r x=1 {now + n}\n"
        )
        answer = asked(
            "POST", f"{server.url}/api/v2/write?precision=s", content=lines, headers=BEARER
        )
        assert answer.status_code == 204
    events = [e for e in settled(server) if e["subject"] == "c9"]
    grown = [e["data"]["value"] for e in events if e["type"] == "network.io"]
    assert sum(grown) == 28
    assert {e["type"] for e in events} == {"network.io", "telegraf.net"}
    seen = asked("GET", f"{server.url}/api/v1/doors", headers=BEARER).json()
    door = next(d for d in seen["items"] if d["door"] == "influx")
    assert door["counts"]["dropped"] == 5
    assert asked("DELETE", f"{server.url}/api/v1/doors/influx", headers=BEARER).status_code == 204


def test_objects_as_vectors_http_sink_sends_them(server):
    line = {
        "file": "/var/log/a",
        "host": "v1",
        "message": "GET /",
        "timestamp": "2026-11-20T10:00:00.5Z",
    }
    other = {**line, "timestamp": "2026-11-20T10:00:01Z", "bytes": 12}
    event = {"specversion": "1.0", "id": "1", "source": "vector", "type": "made", "subject": "v1"}
    metric = {"name": "bytes", "namespace": "edge", "tags": {"host": "v1"}, "kind": "incremental",
              "timestamp": "2026-11-20T10:00:00Z", "counter": {"value": 7.5}}  # fmt: skip
    body = [line, line, other, event, metric]
    with visiting(headers=BEARER) as client:
        for _ in range(2):  # Vector sends a batch again when it heard nothing
            answer = client.post(
                f"{server.url}/api/v1/logs",
                content=gzip.compress("\n".join(map(json.dumps, body)).encode()),
                headers={"Content-Encoding": "gzip", "Content-Type": "application/x-ndjson"},
            )
            assert (answer.status_code, answer.json()["quarantined"]) == (200, 0)
        answer = client.post(f"{server.url}/api/v1/logs", json=[line, 5])
        assert answer.json()["quarantined"] == 1
        assert client.post(f"{server.url}/api/v1/logs", content="[{").status_code == 400
    events = [e for e in settled(server) if e["subject"] == "v1" and e["problem"] is None]
    assert Counter(e["type"] for e in events) == {"log": 3, "made": 1, "edge_bytes": 1}
    assert sum(e["data"].get("bytes", 0) for e in events if e["type"] == "log") == 12


def test_without_a_key_each_protocol_says_so_in_its_words(server):
    with visiting() as client:
        for path in ("/v1/metrics", "/api/v1/write", "/api/v2/write", "/write", "/api/v1/logs"):
            assert client.post(server.url + path, content=b"x").status_code == 401
        basic = base64.b64encode(f"prometheus:{KEY}".encode()).decode()
        answer = client.post(
            f"{server.url}/api/v1/write", headers={"Authorization": f"Basic {basic}"}, content=b""
        )
        assert answer.status_code == 400
        assert answer.headers["x-prometheus-remote-write-samples-written"] == "0"
        answer = client.post(f"{server.url}/v1/metrics", headers=BEARER, json={})
        assert (answer.status_code, answer.json()) == (200, {})
        answer = client.post(f"{server.url}/v1/metrics", headers=BEARER, content=b"\xff" * 9)
        assert answer.status_code == 415
        kinds = {"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v9.Request"}
        answer = client.post(f"{server.url}/api/v1/write", headers={**BEARER, **kinds}, content=b"")
        assert answer.status_code == 415
