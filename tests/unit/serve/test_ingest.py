"""`POST /api/v1/events` as its callers see it: modes, encodings, refusals."""

import gzip
import json
import time
import zlib

import pytest
import zstandard

from tallybook.kernel.event import UNPARSED_TYPE
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX
from tallybook.transport import sifted
from tests.unit.serve.event_door import BATCH, STRUCTURED, Server, as_json, content, event


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path / "log")
    yield made
    made.close()


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


@pytest.mark.parametrize("count", [1, 50])
def test_partial_says_how_many_were_stored_where_none_is_bad(server, count):
    batch = [event(str(number)) for number in range(count)]
    status, _, found = server.post(as_json(batch), query=b"partial=true")
    assert (status, found) == (200, {"stored": count, "quarantined": []})
    assert [e["id"] for e in server.stored()] == [str(number) for number in range(count)]


def test_a_collector_s_report_is_no_reason_to_refuse(server):
    report = event("1", type=UNPARSED_TYPE, data={"code": "bad-line", "message": "no"})
    assert server.post(as_json([report, event("2")]))[0] == 204
    assert [e["problem"] for e in server.stored()] == ["bad-line: no", None]


@pytest.fixture
def sifting(monkeypatch):
    """Have few events sifted as many are."""
    monkeypatch.setattr(sifted, "EVENTS_MIN", 3)


@pytest.mark.usefixtures("sifting")
def test_odd_events_of_many_have_their_place_in_the_answer_and_the_log(server):
    odd = {3: {"id": "x"}, 7: event("7", time="never"), 8: event("8", data={"bytes": '"'})}
    batch = [odd.get(n, event(str(n), data={"bytes": n})) for n in range(10)]
    status, _, found = server.post(as_json(batch), query=b"partial=true")
    assert (status, found["stored"]) == (200, 8)
    assert [(q["index"], q["code"]) for q in found["quarantined"]] == [
        (3, "missing-attribute"),
        (7, "attribute-out-of-range"),
    ]
    stored = server.stored()
    assert [e["id"] for e in stored if e["problem"] is None] == list("01245689")
    assert [n for n, e in enumerate(stored) if e["problem"] is not None] == [3, 7]


@pytest.mark.usefixtures("sifting")
def test_many_are_refused_together_where_one_is(server):
    batch = [event(str(n), **({"time": "never"} if n == 4 else {})) for n in range(10)]
    status, _, found = server.post(as_json(batch))
    assert (status, [e["index"] for e in found["errors"]]) == (400, [4])
    assert "1 of 10" in found["detail"]
    assert server.stored() == []


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
    started = time.process_time()
    status, _, found = server.post(bomb[:190_000], {"content-encoding": encoding})
    assert (status, found["code"]) == (413, "too-large")
    assert time.process_time() - started < 2


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


def test_the_longest_attributes_fit_in_headers(server):
    long = b"x" * ATTRIBUTE_CHARS_MAX
    headers = {"ce-specversion": b"1.0", "ce-id": long, "ce-source": long, "ce-type": b"t"}
    assert server.post(b"", headers)[0] == 204
    assert (
        server.post(b"", {**headers, "ce-id": long + b"x"})[2]["code"] == "attribute-out-of-range"
    )
