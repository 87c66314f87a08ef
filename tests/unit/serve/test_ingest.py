"""`POST /api/v1/events` as its callers see it: modes, encodings, refusals, durability."""

import asyncio
import gzip
import json
import threading
import time
import zlib
from types import SimpleNamespace

import pytest
import zstandard

from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.kernel.errors import Forbidden, Invalid, Unavailable
from tallybook.kernel.event import UNPARSED_TYPE
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX
from tallybook.serve.api.group_commit import WAITING_EVENTS_MAX, GroupCommit, merged
from tallybook.serve.api.ingest import IngestApp
from tallybook.serve.api.partition import take, take_lowest
from tallybook.serve.worker.pipeline import mark_text, trim_mark
from tallybook.transport.accept import AcceptLimits, accept
from tallybook.transport.codec import decode
from tallybook.transport.columns import ColumnSet
from tallybook.transport.rows import Rows

KEY = b"Bearer tb_key"
STRUCTURED = b"application/cloudevents+json"
BATCH = b"application/cloudevents-batch+json"
COLUMNS = ColumnSet({"n_bytes": "$.bytes"})
LIMITS = AcceptLimits(request_events_max=50, request_bytes_max=200_000)


class Door:
    """Knows one key, and what it may do."""

    def check(self, authorization, scope, *, bound=False):
        if authorization is None or not authorization.startswith("Bearer tb_"):
            raise Forbidden("send a key", code="no-key")
        if authorization != KEY.decode() or scope != "ingest":
            raise Forbidden("this key may not write")
        return SimpleNamespace(tenant="acme", bound=False)


class Server:
    """The application on a partition of its own."""

    def __init__(self, folder):
        self.partition = take_lowest(folder)
        self.log = self.partition.log
        mark = trim_mark(folder, self.partition.number)
        self.app = IngestApp(self.partition, mark, Door(), lambda: COLUMNS, LIMITS)

    async def send(self, body=b"", headers=None, query=b"", key=KEY, parts=None):
        """Return status, headers and JSON body of one request."""
        given = [(name.encode(), value) for name, value in (headers or {}).items()]
        given += [(b"authorization", key)] if key else []
        scope = {"type": "http", "method": "POST", "headers": given, "query_string": query}
        pieces = parts if parts is not None else [body]
        said = [
            {"type": "http.request", "body": piece, "more_body": i < len(pieces) - 1}
            for i, piece in enumerate(pieces)
        ]
        heard = []

        async def receive():
            return said.pop(0) if said else {"type": "http.disconnect"}

        async def tell(message):
            heard.append(message)

        await self.app(scope, receive, tell)
        content = heard[1]["body"]
        found = dict(heard[0]["headers"])
        return heard[0]["status"], found, json.loads(content) if content else None

    def post(self, *args, **more):
        return asyncio.run(self.send(*args, **more))

    def stored(self):
        """Return every event of the log, as columns a row."""
        return [
            event
            for row in self.log.read(0, 1000)
            for event in decode(row.payload or b"").to_pylist()
        ]

    def close(self):
        self.app.close()
        self.partition.close()


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path / "log")
    yield made
    made.close()


def event(event_id="1", **more):
    return {"specversion": "1.0", "id": event_id, "source": "/s", "type": "t", **more}


def as_json(value):
    return json.dumps(value).encode()


def content(kind, **more):
    return {"content-type": kind, **more}


def test_structured_mode(server):
    body = as_json(event(subject="a", data={"bytes": 5}, traceparent="00-x"))
    assert server.post(body, content(STRUCTURED + b"; charset=utf-8")) == (204, {}, None)
    (found,) = server.stored()
    assert (found["id"], found["subject"], found["tenant"]) == ("1", "a", "acme")
    assert found["data"] == '{"bytes": 5}'
    assert json.loads(found["ext"]) == {"traceparent": "00-x"}
    assert found["n_bytes"] == 5


def test_batch_mode(server):
    status, _, _ = server.post(as_json([event("1"), event("2")]), content(BATCH))
    assert status == 204
    assert [e["id"] for e in server.stored()] == ["1", "2"]


def test_binary_mode(server):
    headers = {
        "Ce-Specversion": b"1.0",
        "ce-id": b"a%20b%C3%BC%25",
        "ce-source": b"/s",
        "CE-TYPE": b"t",
        "ce-subject": b"who",
        "ce-time": b"2026-01-01T00:00:00Z",
        "ce-traceparent": b"00-x",
        "content-type": b"application/json",
    }
    assert server.post(b' {"bytes": 7} ', headers)[0] == 204
    (found,) = server.stored()
    assert (found["id"], found["subject"]) == ("a bü%", "who")
    assert found["data"] == '{"bytes": 7}'
    assert found["time_us"] == 1_767_225_600_000_000
    assert json.loads(found["ext"])["traceparent"] == "00-x"


def test_binary_mode_without_data(server):
    headers = {"ce-specversion": b"1.0", "ce-id": b"1", "ce-source": b"/s", "ce-type": b"t"}
    assert server.post(b"", headers)[0] == 204
    assert server.stored()[0]["data"] == "null"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("ce-id", b"%ff", "malformed"),
        ("ce-id", "ü".encode(), "malformed"),
        ("ce-id", b"", "attribute-out-of-range"),
        ("ce-specversion", b"0.3", "wrong-version"),
        ("ce-trace_parent", b"x", "attribute-out-of-range"),
        ("content-type", b"text/plain", "malformed"),
    ],
)
def test_binary_mode_refuses_what_is_no_event(server, name, value, code):
    headers = {"ce-specversion": b"1.0", "ce-id": b"1", "ce-source": b"/s", "ce-type": b"t"}
    status, _, body = server.post(b"{}", {**headers, name: value})
    assert (status, body["code"]) == (400, code)
    assert server.stored() == []


def test_the_content_type_tells_the_mode(server):
    """Structured mode stays structured, whatever `ce-` headers a proxy added."""
    headers = {"ce-id": b"other", "ce-specversion": b"1.0", "content-type": STRUCTURED}
    assert server.post(as_json(event("mine")), headers)[0] == 204
    assert [e["id"] for e in server.stored()] == ["mine"]


@pytest.mark.parametrize("kind", [b"application/json", b"", b"Application/JSON; charset=UTF-8"])
def test_plain_json_is_one_event_or_many(server, kind):
    assert server.post(as_json(event("1")), content(kind))[0] == 204
    assert server.post(b" \n" + as_json([event("2"), event("3")]), content(kind))[0] == 204
    assert [e["id"] for e in server.stored()] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"a":1},{"b":2}', STRUCTURED),
        (as_json(event("1")) + b"," + as_json(event("2")), STRUCTURED),
        (as_json(event("1")) + b"," + as_json(event("2")), b"application/json"),
        (as_json(event("1")) + b"]", b"application/json"),
        (as_json([event("1")]), STRUCTURED),
        (as_json(event("1")), BATCH),
        (b"", STRUCTURED),
        (b"  ", BATCH),
        (b"{", STRUCTURED),
        (b"[" * 100_000, BATCH),
        (b"[" * 100_000, STRUCTURED),
        (b"\xff", b"application/json"),
    ],
    ids=range(12),
)
def test_a_body_that_is_no_event_is_malformed(server, body, kind):
    status, headers, found = server.post(body, content(kind))
    assert (status, found["code"]) == (400, "malformed")
    assert headers[b"content-type"] == b"application/problem+json"
    assert server.stored() == []


def test_data_cannot_add_attributes(server):
    headers = {"ce-specversion": b"1.0", "ce-id": b"1", "ce-source": b"/s", "ce-type": b"t"}
    status, _, found = server.post(b'{},"subject":"forged"', headers)
    assert (status, found["code"]) == (400, "malformed")


def test_an_empty_array_is_nothing_to_do(server):
    assert server.post(b"[]", content(BATCH)) == (204, {}, None)
    assert server.post(b"[ ]", query=b"partial=true")[2] == {"stored": 0, "quarantined": []}
    assert server.stored() == []


@pytest.mark.parametrize("key", [None, b"", b"Basic tb_x", b"tb_key", b"Bearer \xff"])
def test_without_a_key_nothing_is_written(server, key):
    status, headers, found = server.post(as_json(event()), key=key)
    assert (status, found["code"]) == (401, "no-key")
    assert headers[b"www-authenticate"] == b"Bearer"
    assert server.stored() == []


def test_a_key_that_may_not_write(server):
    assert server.post(as_json(event()), key=b"Bearer tb_reader")[0] == 403
    assert server.stored() == []


@pytest.mark.parametrize(
    "kind", [b"text/plain", b"application/xml", b"application/cloudevents+avro"]
)
def test_other_content_types(server, kind):
    status, _, found = server.post(as_json(event()), content(kind))
    assert (status, found["code"], found["field"]) == (
        415,
        "unsupported-media-type",
        "Content-Type",
    )


def test_a_batch_is_atomic_and_names_each_bad_event(server):
    batch = [event("1"), {"id": "x"}, event("2", time="never"), event("3", data=5)]
    status, _, found = server.post(as_json(batch))
    assert status == 400
    assert found["type"] == "urn:tallybook:problem:missing-attribute"
    assert [(e["index"], e["id"], e["code"], e["field"]) for e in found["errors"]] == [
        (1, "", "missing-attribute", "specversion"),
        (2, "2", "attribute-out-of-range", "time"),
        (3, "3", "malformed", "data"),
    ]
    assert "3 of 4" in found["detail"]
    assert server.stored() == []


def test_a_bad_event_is_400_also_where_it_is_too_large(server):
    batch = [event("1"), event("2", data={"x": "y" * 70_000})]
    status, _, found = server.post(as_json(batch))
    assert (status, found["code"], found["errors"][0]["index"]) == (400, "too-large", 1)


def test_partial_stores_the_good_and_sets_the_bad_aside(server):
    batch = [event("1"), {"id": "x"}, event("2", time="never"), event("3")]
    status, _, found = server.post(as_json(batch), query=b"a=b&partial=true")
    assert status == 200
    assert found["stored"] == 2
    assert [(q["index"], q["code"]) for q in found["quarantined"]] == [
        (1, "missing-attribute"),
        (2, "attribute-out-of-range"),
    ]
    problems = [e["problem"] for e in server.stored()]
    assert [p is None for p in problems] == [True, False, False, True]


def test_a_collector_s_report_is_no_reason_to_refuse(server):
    report = event("1", type=UNPARSED_TYPE, data={"code": "bad-line", "message": "no"})
    assert server.post(as_json([report, event("2")]))[0] == 204
    assert [e["problem"] for e in server.stored()] == ["bad-line: no", None]


def squeeze(body):
    return {
        b"gzip": gzip.compress(body),
        b"zstd": zstandard.ZstdCompressor().compress(body),
        b"identity": body,
        b" GZIP ": gzip.compress(body),
    }


@pytest.mark.parametrize("encoding", [b"gzip", b"zstd", b"identity", b" GZIP "])
def test_compressed_bodies(server, encoding):
    body = squeeze(as_json([event(str(i)) for i in range(50)]))[encoding]
    assert server.post(body, {"content-encoding": encoding})[0] == 204
    assert len(server.stored()) == 50


def test_a_streamed_zstd_body_of_many_frames(server):
    body = as_json([event("1"), event("2")])
    frames = b"".join(
        zstandard.ZstdCompressor(write_content_size=False).compress(part)
        for part in (body[:20], body[20:])
    )
    assert server.post(frames, {"content-encoding": b"zstd"})[0] == 204
    assert len(server.stored()) == 2


@pytest.mark.parametrize("encoding", [b"gzip", b"zstd"])
@pytest.mark.parametrize("damage", ["cut", "noise", "plain", "empty", "flipped"])
def test_damaged_compression_is_malformed(server, encoding, damage):
    whole = squeeze(as_json([event("1")]))[encoding]
    flipped = bytearray(whole)
    flipped[len(flipped) // 2] ^= 0xFF
    bodies = {
        "cut": whole[:-10],
        "noise": b"\x00\x01noise",
        "plain": as_json(event("1")),
        "empty": b"",
        "flipped": bytes(flipped),
    }
    status, _, found = server.post(bodies[damage], {"content-encoding": encoding})
    assert (status, found["code"]) == (400, "malformed")
    assert server.stored() == []


def test_an_unknown_encoding(server):
    status, _, found = server.post(as_json(event()), {"content-encoding": b"br"})
    assert (status, found["code"]) == (415, "unsupported-media-type")
    assert found["field"] == "Content-Encoding"


@pytest.mark.parametrize("encoding", [b"gzip", b"zstd"])
def test_a_bomb_costs_no_more_than_the_bound(server, encoding):
    size = 500 * 1024 * 1024
    if encoding == b"gzip":
        packer = zlib.compressobj(9, wbits=31)
        bomb = b"".join(packer.compress(b" " * 1024 * 1024) for _ in range(size // 1024 // 1024))
        bomb += packer.flush()
    else:
        bomb = zstandard.ZstdCompressor().compress(bytes(size // 10))
    started = time.monotonic()
    status, _, found = server.post(bomb[:190_000], {"content-encoding": encoding})
    assert (status, found["code"]) == (413, "too-large")
    assert time.monotonic() - started < 2


def test_a_body_over_the_limit_is_not_read_to_its_end(server):
    parts = [b"x" * 50_000] * 100
    status, _, found = server.post(parts=parts)
    assert (status, found["code"]) == (413, "too-large")


def test_too_many_events(server):
    status, _, found = server.post(as_json([event(str(i)) for i in range(51)]))
    assert (status, found["code"]) == (413, "too-large")


def test_a_body_in_pieces(server):
    body = as_json([event("1"), event("2")])
    assert server.post(parts=[body[:5], body[5:30], b"", body[30:]])[0] == 204
    assert len(server.stored()) == 2


def test_a_client_that_goes_away_stores_nothing(server):
    async def cut():
        said = [{"type": "http.request", "body": as_json(event())[:9], "more_body": True}]
        heard = []

        async def receive():
            return said.pop(0) if said else {"type": "http.disconnect"}

        async def tell(message):
            heard.append(message)

        headers = [(b"authorization", KEY)]
        await server.app({"type": "http", "headers": headers}, receive, tell)
        return heard[0]["status"]

    assert asyncio.run(cut()) == 503
    assert server.stored() == []


def test_a_full_disk_is_said_and_nothing_is_stored(server):
    (pages,) = server.log._db.execute("PRAGMA page_count").fetchone()
    server.log._db.execute(f"PRAGMA max_page_count = {pages}")
    noise = [
        event(str(i), data={"x": "".join(chr(33 + i * j % 89) for j in range(900))})
        for i in range(50)
    ]
    status, headers, found = server.post(as_json(noise))
    assert status == 503
    assert headers[b"retry-after"] == b"1"
    assert found["code"] == "unavailable"
    assert "full" in found["detail"]
    assert server.stored() == []
    server.log._db.execute("PRAGMA max_page_count = 100000")
    assert server.post(as_json(noise))[0] == 204
    assert len(server.stored()) == 50


def test_a_bug_while_storing_is_heard_by_who_waits(server):
    def broken():
        rows, _ = accept("acme", as_json([event()]), 0, COLUMNS, LIMITS)
        rows.ids = [5]
        return rows

    heard = threading.Event()
    failures = []

    def note(tokens, error):
        failures.append(error)
        heard.set()

    commit = GroupCommit(server.log, note, server.log.path.with_suffix(".none"))
    commit.submit(broken(), "token")
    assert heard.wait(5)
    commit.close()
    assert isinstance(failures[0], Unavailable)


class SlowLog(SqliteEventLog):
    """A disk that takes its time, and counts."""

    flushes = 0

    def append(self, batches, cursors=None):
        self.flushes += 1
        time.sleep(0.05)
        return super().append(batches, cursors)


def test_requests_share_flushes(server):
    server.log.__class__ = SlowLog

    async def many():
        return await asyncio.gather(*[server.send(as_json(event(str(i)))) for i in range(100)])

    assert {status for status, _, _ in asyncio.run(many())} == {204}
    assert len(server.stored()) == 100
    assert server.log.flushes <= 10
    assert len(server.log.read(0, 1000)) <= 10


def test_nothing_is_answered_before_it_is_durable(server):
    server.log.__class__ = SlowLog

    async def one():
        task = asyncio.create_task(server.send(as_json(event())))
        await asyncio.sleep(0.02)
        early = task.done()
        await task
        return early

    assert asyncio.run(one()) is False


def test_a_client_that_left_while_the_disk_worked(server):
    server.log.__class__ = SlowLog

    async def leave():
        task = asyncio.create_task(server.send(as_json(event("1"))))
        await asyncio.sleep(0.01)
        task.cancel()
        return (await server.send(as_json(event("2"))))[0]

    assert asyncio.run(leave()) == 204
    assert [e["id"] for e in server.stored()] == ["1", "2"]


def test_a_loop_that_ended_does_not_stop_the_flushes(server):
    server.log.__class__ = SlowLog

    async def abandon():
        asyncio.create_task(server.send(as_json(event("1"))))  # noqa: RUF006
        await asyncio.sleep(0.01)

    asyncio.run(abandon())
    assert server.post(as_json(event("2")))[0] == 204


def test_close_flushes_and_then_refuses(tmp_path):
    made = Server(tmp_path)
    made.log.__class__ = SlowLog
    rows, _ = accept("acme", as_json([event()]), 0, COLUMNS, LIMITS)
    told = []
    commit = GroupCommit(
        made.log, lambda tokens, error: told.append((tokens, error)), tmp_path / "m"
    )
    for i in range(5):
        commit.submit(rows, i)
    commit.close()
    assert sorted(token for tokens, _ in told for token in tokens) == [0, 1, 2, 3, 4]
    assert {error for _, error in told} == {None}
    with pytest.raises(Unavailable):
        commit.submit(rows, 9)
    made.close()
    assert len(SqliteEventLog(made.log.path).read(0, 100)) >= 1


def test_a_mark_of_another_epoch_trims_nothing(server, tmp_path):
    """The log of a worker that found its own damaged starts at offset 1 again."""
    rows, _ = accept("acme", as_json([event()]), 0, COLUMNS, LIMITS)
    mark = tmp_path / "mark"
    commit = GroupCommit(server.log, lambda *_: None, mark)
    commit.submit(rows, "token")
    commit.close()
    mark.write_text(mark_text("of-the-damaged-log", 5000))
    commit._trim()
    assert [row.offset for row in server.log.read(0, 10)] == [1]
    mark.write_text(mark_text(server.log.epoch, 1))
    commit._trim()
    assert server.log.read(0, 10) == []


def test_too_much_waiting_is_told_to_come_back(server):
    gate, writing = threading.Event(), threading.Event()

    class Stuck(SqliteEventLog):
        def append(self, batches, cursors=None):
            writing.set()
            gate.wait(60)
            return super().append(batches, cursors)

    server.log.__class__ = Stuck
    rows = Rows(COLUMNS)
    for _ in range(40):
        rows.extend(
            accept("acme", as_json([event(str(i)) for i in range(50)]), 0, COLUMNS, LIMITS)[0]
        )
    commit = GroupCommit(server.log, lambda *_: None, server.log.path.with_suffix(".none"))
    commit.submit(rows, 0)
    assert writing.wait(10)  # the first is being written; what follows waits
    for i in range(WAITING_EVENTS_MAX // len(rows)):
        commit.submit(rows, i)
    with pytest.raises(Unavailable) as caught:
        commit.submit(rows, 0)
    assert caught.value.retry_after_seconds == 1
    with commit._wake:
        commit._waiting.clear()
    gate.set()
    commit.close()


def test_events_from_python(server):
    found = server.app.accept("acme", as_json([event("1"), {"id": "x"}]), partial=True)
    assert (found.stored, len(found.quarantined)) == (1, 1)
    with pytest.raises(Invalid) as caught:
        server.app.accept("acme", as_json([event("2"), {"id": "x"}]))
    assert caught.value.code == "missing-attribute"
    assert server.app.accept("acme", b"[]").stored == 0
    server.log.__class__ = SlowLog
    with pytest.raises(Unavailable, match="send the same events again"):
        server.app.accept("acme", as_json([event("3")]), timeout_seconds=0.001)


def test_large_requests_become_few_rows():
    rows, _ = accept("acme", as_json([event(str(i)) for i in range(50)]), 0, COLUMNS, LIMITS)
    other = Rows(ColumnSet({}))
    other.extend(accept("acme", as_json([event("x")]), 0, other.columns, LIMITS)[0])
    assert [len(r) for r in merged([rows] * 3)] == [150]
    assert [len(r) for r in merged([rows, other, rows])] == [50, 1, 50]
    assert sum(len(r) for r in merged([rows] * 1000)) == 50_000


def test_one_writer_a_partition(tmp_path):
    first, second = take_lowest(tmp_path), take_lowest(tmp_path)
    assert (first.number, second.number) == (0, 1)
    assert take(tmp_path, 0) is None
    first.close()
    again = take(tmp_path, 0)
    assert again is not None
    assert again.log.epoch == first.log.epoch
    again.close()
    second.close()


def test_a_partition_that_cannot_be_opened_is_given_up_again(tmp_path):
    (tmp_path / "p0.db").mkdir()
    for _ in range(3):
        with pytest.raises(Unavailable):
            take(tmp_path, 0)
    (tmp_path / "p0.db").rmdir()
    made = take(tmp_path, 0)
    assert made is not None, "nobody holds its lock"
    made.close()


def test_a_damaged_log_is_put_aside_and_accepting_goes_on(tmp_path):
    (tmp_path / "p0.db").write_bytes(b"no database at all, " * 300)
    made = take_lowest(tmp_path)
    assert made.number == 0
    (aside,) = tmp_path.glob("p0.db.damaged-*")
    assert aside.read_bytes().startswith(b"no database")
    made.close()


def test_the_longest_attributes_fit_in_headers(server):
    long = b"x" * ATTRIBUTE_CHARS_MAX
    headers = {"ce-specversion": b"1.0", "ce-id": long, "ce-source": long, "ce-type": b"t"}
    assert server.post(b"", headers)[0] == 204
    assert (
        server.post(b"", {**headers, "ce-id": long + b"x"})[2]["code"] == "attribute-out-of-range"
    )
