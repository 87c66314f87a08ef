"""The front doors over ASGI: who may, what is told, and what a busy or full log answers."""

import asyncio
import base64
import gzip
import json
import threading
import time

import cramjam
import pytest
from google.rpc.status_pb2 import Status

from tallybook.adapters.protobuf import remote_write
from tallybook.adapters.sqlite.door_log import SqliteDoorLog, read_tally
from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.collect.doors.rules import NO_RULES
from tallybook.kernel.errors import Forbidden, Unavailable
from tallybook.serve.api.doors import commit as commits
from tallybook.serve.api.doors.answer import Asked, bearer
from tallybook.serve.api.doors.app import PATHS, DoorsApp, Parts
from tallybook.serve.api.doors.commit import DoorCommit
from tallybook.transport.accept import AcceptLimits
from tallybook.transport.columns import ColumnSet

NOW = 1_700_000_000
BOUND = "tb_bound"
KEY = "tb_good"


class Granted:
    tenant = "default"

    def __init__(self, bound=False):
        self.bound = bound


class Gate:
    def check(self, authorization, scope, *, bound=False):
        assert scope == "ingest"
        assert bound, "a door keeps to the subjects of a key by itself"
        if authorization == f"Bearer {BOUND}":
            return Granted(bound=True)
        if authorization != f"Bearer {KEY}":
            code = "forbidden" if authorization == "Bearer tb_reader" else "no-key"
            raise Forbidden("who are you", code=code)
        return Granted()


def never(_path, error):
    raise AssertionError(error)


@pytest.fixture
def log(tmp_path):
    return SqliteDoorLog(tmp_path / "p256.db", lambda: NOW * 1_000_000, never)


@pytest.fixture
def app(log):
    columns = ColumnSet({})
    made = DoorsApp(
        Parts(
            gate=Gate(),
            rules=lambda _tenant, _door: NO_RULES,
            columns=lambda: columns,
            limits=AcceptLimits(request_bytes_max=200_000),
            commit=DoorCommit(log, lambda _epoch: 0),
            sendable=lambda grant: frozenset({"mine"}) if grant.bound else frozenset(),
        )
    )
    yield made
    made.close()


class Answered:
    def __init__(self, start, body):
        self.status, self.body = start["status"], body
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}


async def ask(app, path, body=b"", headers=None, query=b"", parts=1):
    size = max(1, -(-len(body) // parts))
    pieces = [body[at : at + size] for at in range(0, max(1, len(body)), size)]
    messages = [
        {"type": "http.request", "body": piece, "more_body": n < len(pieces) - 1}
        for n, piece in enumerate(pieces)
    ]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    given = {"authorization": f"Bearer {KEY}", **(headers or {})}
    raw = [(name.encode(), value.encode()) for name, value in given.items() if value]
    scope = {"type": "http", "path": path, "headers": raw, "query_string": query}
    await app(scope, receive, send)
    return Answered(sent[0], b"".join(message["body"] for message in sent[1:]))


def call(app, path, body=b"", headers=None, query=b"", **more):
    return asyncio.run(ask(app, path, body, headers, query, **more))


def wrote(log):
    reader = SqliteEventLog(log._path, readonly=True)
    try:
        return reader.state().events_total
    finally:
        reader.close()


def test_only_posts_to_its_paths_are_its_own(app):
    assert app.answers("POST", "/v1/metrics")
    assert not app.answers("GET", "/v1/metrics")
    assert not app.answers("POST", "/v1/traces")


def asked(headers=None, query=None):
    raw = {name: value.encode() for name, value in (headers or {}).items()}
    return Asked(headers=raw, query=query or {}, body=b"", bytes_max=1)


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"authorization": f"Bearer {KEY}"}, {}),
        ({"authorization": f"bearer  {KEY}"}, {}),
        ({"authorization": f"Token {KEY}"}, {}),
        ({"authorization": f"Token user:{KEY}"}, {}),
        ({"authorization": "Basic " + base64.b64encode(f"u:{KEY}".encode()).decode()}, {}),
        ({"authorization": "Basic " + base64.b64encode(KEY.encode()).decode()}, {}),
        ({"api-key": KEY}, {}),
        ({"x-api-key": KEY}, {}),
        ({}, {"p": KEY, "u": "any"}),
    ],
)
def test_a_key_may_come_as_each_client_sends_it(headers, query):
    assert bearer(asked(headers, query)) == f"Bearer {KEY}"


def test_a_key_that_is_none():
    assert bearer(asked()) is None
    assert bearer(asked({"authorization": "Digest x"})) is None
    with pytest.raises(Forbidden):
        bearer(asked({"authorization": "Basic !"}))


@pytest.mark.parametrize("path", PATHS)
def test_who_may_not(app, path):
    answer = call(app, path, headers={"authorization": ""})
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert call(app, path, headers={"authorization": "Bearer tb_reader"}).status == 403


@pytest.mark.parametrize("path", PATHS)
def test_too_much_is_refused_packed_and_unpacked(app, path):
    assert call(app, path, b"x" * 300_000).status == 413
    if path != "/api/v1/write":
        bomb = gzip.compress(b"\0" * 1_000_000)
        headers = {"content-encoding": "gzip", "content-type": "application/json"}
        assert call(app, path, bomb, headers).status == 413
    else:
        bomb = bytes(cramjam.snappy.compress_raw(b"\0" * 1_000_000))
        assert call(app, path, bomb).status == 413


LINE = b"m,host=h f=1 1700000000000000000"


@pytest.mark.parametrize(
    "error", [Unavailable("no room"), Unavailable("no room", retry_after_seconds=7)]
)
def test_what_cannot_be_stored_now_may_be_sent_again(app, monkeypatch, error):
    def full(_self, _asking):
        raise error

    monkeypatch.setattr(SqliteDoorLog, "write", full)
    body = json.dumps({"resourceMetrics": []}).encode()
    kind = {"content-type": "application/json"}
    for path, sent in (("/v1/metrics", body), ("/api/v2/write", LINE), ("/api/v1/logs", b"{}")):
        answer = call(app, path, sent, kind)
        assert (answer.status, answer.headers["retry-after"]) == (
            503,
            str(error.retry_after_seconds or 1),
        )
    answer = call(app, "/v1/metrics", b"", {"content-type": "application/x-protobuf"})
    assert Status.FromString(answer.body).code == 14


def test_a_bug_of_ours_is_no_reason_for_a_client_to_drop_anything(app, monkeypatch):
    def broken(*_args):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(commits, "decide", broken)
    answer = call(app, "/api/v2/write", LINE)
    assert (answer.status, answer.headers["retry-after"]) == (503, "30")
    monkeypatch.setattr(SqliteDoorLog, "write", broken)
    assert call(app, "/api/v2/write", LINE).status == 503


def test_too_many_waiting_points_are_told_to_come_back(app, log, monkeypatch):
    monkeypatch.setattr(commits, "WAITING_POINTS_MAX", 1)
    hold, entered = threading.Event(), threading.Event()
    write = SqliteDoorLog.write

    def slow(self, asking):
        entered.set()
        hold.wait(10)
        return write(self, asking)

    monkeypatch.setattr(SqliteDoorLog, "write", slow)

    async def crowd():
        first = asyncio.create_task(ask(app, "/api/v2/write", LINE))
        await asyncio.to_thread(entered.wait, 10)
        second = asyncio.create_task(ask(app, "/api/v2/write", b"n" + LINE))
        await asyncio.sleep(0.05)
        third = await ask(app, "/api/v2/write", b"o" + LINE)
        hold.set()
        return [(await first).status, (await second).status, third.status]

    assert asyncio.run(crowd()) == [204, 204, 503]


def test_requests_that_wait_share_a_transaction(app, log):
    async def crowd():
        lines = [b"m,host=h%d f=1 1700000000000000000" % n for n in range(50)]
        answers = await asyncio.gather(*(ask(app, "/api/v2/write", line) for line in lines))
        return {answer.status for answer in answers}

    assert asyncio.run(crowd()) == {204}
    assert wrote(log) == 50


def test_after_the_end_nothing_is_taken(app):
    app.close()
    assert call(app, "/api/v2/write", LINE).status == 503


def snappy(fill, version=1):
    request = (remote_write._v1() if version == 1 else remote_write._v2())()
    fill(request)
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))


def one_series(request):
    block = request.timeseries.add()
    block.labels.add(name="__name__", value="x")
    block.samples.add(value=1, timestamp=NOW * 1000)


def test_remote_write_tells_what_it_wrote(app, log):
    answer = call(app, "/api/v1/write", snappy(one_series), {"content-encoding": "snappy"})
    assert answer.status == 204
    assert answer.headers["x-prometheus-remote-write-samples-written"] == "1"

    def partly(request):
        one_series(request)
        request.timeseries.add().samples.add(value=1, timestamp=1)
        late = request.timeseries.add()
        late.labels.add(name="__name__", value="y")
        late.samples.add(value=1, timestamp=10**15)

    answer = call(app, "/api/v1/write", snappy(partly))
    assert answer.status == 400
    assert b"no label __name__" in answer.body
    assert answer.headers["x-prometheus-remote-write-samples-written"] == "1"
    assert {row.reason: row.count for row in read_tally(log._path, "default")}["bad"] == 2


def test_remote_write_two_is_chosen_by_its_content_type(app):
    def fill(request):
        request.symbols.extend(["", "__name__", "x"])
        block = request.timeseries.add(labels_refs=[1, 2])
        block.histograms.add(count_int=1, sum=1, timestamp=NOW * 1000)

    kind = {"content-type": 'application/x-protobuf;proto="io.prometheus.write.v2.Request"'}
    answer = call(app, "/api/v1/write", snappy(fill, 2), kind)
    assert (answer.status, answer.headers["x-prometheus-remote-write-histograms-written"]) == (
        204,
        "1",
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json"},
        {"content-type": "application/x-protobuf;proto=io.prometheus.write.v3.Request"},
        {"content-encoding": "gzip"},
    ],
)
def test_remote_write_in_another_form_is_refused(app, headers):
    answer = call(app, "/api/v1/write", snappy(one_series), headers)
    assert answer.status == 415
    assert answer.headers["x-prometheus-remote-write-samples-written"] == "0"


def test_otlp_answers_in_the_form_it_was_asked(app):
    sent = [{"timeUnixNano": "1"}, {"timeUnixNano": "1000000", "asInt": 1}]
    metric = {"name": "m", "gauge": {"dataPoints": sent}}
    bad = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    kind = {"content-type": "application/json; charset=utf-8"}
    answer = call(app, "/v1/metrics", json.dumps(bad).encode(), kind)
    assert answer.status == 200
    assert json.loads(answer.body)["partialSuccess"]["rejectedDataPoints"] == "1"
    answer = call(app, "/v1/metrics", b"{", kind)
    assert (answer.status, json.loads(answer.body)["code"]) == (400, 3)
    answer = call(app, "/v1/metrics", b"\xff\xff", {"content-type": "application/x-protobuf"})
    assert (answer.status, Status.FromString(answer.body).code) == (400, 3)
    assert answer.headers["content-type"] == "application/x-protobuf"


def test_influx_names_ten_lines_and_counts_the_others(app):
    answer = call(app, "/write", b"x\n" * 15, query=b"precision=ns&db=any", parts=3)
    message = json.loads(answer.body)["message"]
    assert answer.status == 400
    assert "line 10:" in message
    assert message.endswith("and 5 more")
    assert call(app, "/write", b"x", query=b"precision=days").status == 400


def test_large_bodies_are_read_beside_the_loop(app, log):
    lines = b"\n".join(b"m,host=h%d f=1 1700000000000000000" % n for n in range(1500))
    assert len(lines) > 32 * 1024
    assert call(app, "/api/v2/write", lines).status == 204
    assert wrote(log) == 1500


def test_the_log_is_trimmed_while_requests_come(app, log, monkeypatch):
    monkeypatch.setattr(commits, "TRIM_SECONDS", 0.05)
    app._parts.commit._upto = lambda _epoch: 1
    for n in range(2):
        assert call(app, "/api/v2/write", b"%d" % n + LINE).status == 204
    reader = SqliteEventLog(log._path, readonly=True)
    deadline = time.monotonic() + 10
    while reader.state().first_offset != 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert reader.state().first_offset == 2
    reader.close()


# ---------------------------------------------------------------- keys for some subjects

AS_BOUND = {"authorization": f"Bearer {BOUND}"}
NOT_YOURS = "the API key may not send events of 'theirs'"


def test_influx_keeps_a_bound_key_to_its_subjects(app, log):
    mine, theirs = (b"m,host=%s f=1 1700000000000000000" % one for one in (b"mine", b"theirs"))
    assert call(app, "/api/v2/write", mine, AS_BOUND).status == 204
    answer = call(app, "/api/v2/write", mine + b"\n" + theirs, AS_BOUND)
    told = {"code": "invalid", "message": f"partial write: {NOT_YOURS}"}
    assert (answer.status, json.loads(answer.body)) == (400, told)
    assert wrote(log) == 3
    assert {row.reason: row.count for row in read_tally(log._path, "default")}["bad"] == 1


def test_remote_write_keeps_a_bound_key_to_its_subjects(app):
    def fill(request):
        for instance in ("mine", "theirs"):
            block = request.timeseries.add()
            block.labels.add(name="__name__", value="x")
            block.labels.add(name="instance", value=instance)
            block.samples.add(value=1, timestamp=NOW * 1000)

    answer = call(app, "/api/v1/write", snappy(fill), AS_BOUND)
    assert (answer.status, answer.body) == (400, f"{NOT_YOURS}\n".encode())
    assert answer.headers["x-prometheus-remote-write-samples-written"] == "1"


def test_otlp_keeps_a_bound_key_to_its_subjects(app):
    def resource(name):
        said = {"key": "service.name", "value": {"stringValue": name}}
        metric = {"name": "m", "gauge": {"dataPoints": [{"timeUnixNano": "1", "asInt": 1}]}}
        metric["gauge"]["dataPoints"][0]["timeUnixNano"] = str(NOW * 10**9)
        return {"resource": {"attributes": [said]}, "scopeMetrics": [{"metrics": [metric]}]}

    body = json.dumps({"resourceMetrics": [resource("mine"), resource("theirs")]}).encode()
    kind = {**AS_BOUND, "content-type": "application/json"}
    answer = call(app, "/v1/metrics", body, kind)
    told = {"partialSuccess": {"rejectedDataPoints": "1", "errorMessage": NOT_YOURS}}
    assert (answer.status, json.loads(answer.body)) == (200, told)


def test_logs_keep_a_bound_key_to_its_subjects(app):
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "theirs"}
    objects = [{"host": "mine"}, {"host": "theirs"}, event, event | {"subject": "mine"}]
    answer = call(app, "/api/v1/logs", json.dumps(objects).encode(), AS_BOUND)
    told = {"stored": 2, "quarantined": 2, "said": f"{NOT_YOURS}; {NOT_YOURS}"}
    assert (answer.status, json.loads(answer.body)) == (200, told)
