"""JSON logs, tables and ready events."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.collect.fileid import fingerprint, line_digest, origin_of
from tallybook.collect.formats.choice import LogFormat, ends_whole, log_format, piece_of
from tallybook.collect.formats.jsonlog import json_object, parse_json
from tallybook.collect.formats.tables import (
    Fields,
    logical_rows,
    parse_event,
    parse_objects,
    parse_rows,
)
from tallybook.collect.lines import LINE_BYTES_MAX, Envelope, Line, Record, text_of
from tallybook.kernel.errors import Invalid
from tallybook.kernel.limits import EVENT_BYTES_MAX
from tallybook.kernel.problem import Problem

NGINX = (
    '{"remote_addr":"10.0.0.1","time_iso8601":"2015-05-17T10:05:03+02:00","request":'
    '"GET /a HTTP/2.0","status":"200","body_bytes_sent":"512","http_referer":"","remote_user":"u"}'
)
CADDY = (
    '{"ts":1431857103.5,"request":{"remote_ip":"10.0.0.1","method":"GET","uri":"/a","proto":'
    '"HTTP/2.0","headers":{"User-Agent":["x"],"Referer":[]}},"size":512,"status":200}'
)


def record(found: object) -> Record:
    assert isinstance(found, Record), found
    return found


def problem(found: object) -> Problem:
    assert isinstance(found, Problem), found
    return found


def line_of(raw: bytes, offset: int = 0) -> Line:
    return Line(offset, len(raw), raw[:LINE_BYTES_MAX], line_digest(raw), offset + len(raw) + 1)


@pytest.mark.parametrize("text", [NGINX, CADDY])
def test_json_logs_of_known_servers(text: str) -> None:
    found = record(parse_json(text))
    data = msgspec.json.decode(found.data)
    assert found.subject == "10.0.0.1"
    assert found.time is not None
    assert found.time.startswith("2015-05-17T10:05:03")
    assert (data["method"], data["path"], data["protocol"]) == ("GET", "/a", "HTTP/2.0")
    assert (data["status"], data["bytes"], data["referer"]) == (200, 512, None)


def test_a_missing_byte_count_is_null_and_a_dash_is_zero() -> None:
    missing = parse_json(NGINX.replace("body_bytes_sent", "other"))
    assert msgspec.json.decode(record(missing).data)["bytes"] is None
    dash = parse_json(NGINX.replace('"512"', '"-"'))
    assert msgspec.json.decode(record(dash).data)["bytes"] == 0
    fraction = parse_json(NGINX.replace('"512"', "1.5"))
    assert msgspec.json.decode(record(fraction).data)["bytes"] is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "line-empty"),
        ("[]", "line-malformed"),
        (NGINX[:-1], "line-malformed"),
        (NGINX[:-1] + ',"status":"500"}', "line-malformed"),
        (NGINX.replace('"512"', "NaN"), "line-malformed"),
        (NGINX.replace("remote_addr", "x"), "line-field"),
        (NGINX.replace("time_iso8601", "x"), "line-field"),
        (NGINX.replace('"200"', "true"), "line-field"),
        (NGINX.replace("10.0.0.1", "a\\u0000b"), "line-field"),
        ("[" * 100_000, "line-malformed"),
    ],
)
def test_a_json_line_that_cannot_be_used_is_a_problem(text: str, code: str) -> None:
    assert problem(parse_json(text)).code == code


def test_lone_surrogates_do_not_reach_the_wire() -> None:
    found = record(parse_json(NGINX.replace("/a", "/\\ud800")))
    assert msgspec.json.decode(found.data)["path"] == "/\\ud800"


@given(st.text(max_size=100))
def test_no_text_breaks_the_json_reader(text: str) -> None:
    assert isinstance(parse_json(text), Record | Problem)
    assert isinstance(json_object('{"a":' + text), dict | Problem)


FIELDS = Fields(type="api.call", subject="who", time="$.at.t", id="$.ids[1]")


def test_an_object_keeps_its_text_and_its_fields_are_found() -> None:
    text = '{"who":"acme","at":{"t":1431857103},"ids":["a",7],"n":0.10000000000000000000000001}'
    found = record(parse_objects(FIELDS)(f"  {text} "))
    assert (found.type, found.subject, found.id) == ("api.call", "acme", "7")
    assert found.time == "2015-05-17T10:05:03Z"
    assert bytes(found.data).decode() == text


def test_the_type_may_come_from_the_line() -> None:
    parse = parse_objects(Fields(type="$.kind"))
    assert record(parse('{"kind":"x"}')).type == "x"
    assert problem(parse('{"kind":null}')).subject == "type"


@pytest.mark.parametrize(
    "text", ['{"at":{"t":1},"ids":[0]}', '{"at":{},"ids":[0,1]}', '{"at":7,"ids":[0,1]}', "7"]
)
def test_an_object_without_what_was_named_is_a_problem(text: str) -> None:
    problem(parse_objects(FIELDS)(text))


def test_rows_are_text_and_empty_cells_are_null() -> None:
    parse = parse_rows(Fields(type="t", subject="who", time="at"), "\ufeffwho,at,n\r")
    found = record(parse('"a ""b""",2015-05-17T10:05:03Z,'))
    assert found.subject == 'a "b"'
    assert msgspec.json.decode(found.data)["n"] is None
    assert problem(parse("a,b")).code == "line-malformed"
    assert problem(parse("a,yesterday,1")).subject == "time"
    assert problem(parse('a,"b')).code == "line-malformed"


@pytest.mark.parametrize("heading", ["", "a,a", "b,c"])
def test_a_heading_must_name_every_column_once(heading: str) -> None:
    with pytest.raises(Invalid):
        parse_rows(Fields(type="t", subject="a"), heading)


def test_a_quoted_cell_may_hold_line_ends() -> None:
    raw = [b"a,b", b'"1', b'2",3', b"4,5", b'"6']
    offsets = [0, 4, 7, 12, 16]
    lines = [line_of(text, at) for text, at in zip(raw, offsets, strict=True)]
    rows = list(logical_rows(lines))
    assert [row.content for row in rows] == [b"a,b", b'"1\n2",3', b"4,5", b'"6']
    assert [row.offset for row in rows] == [0, 4, 12, 16]
    assert rows[1].length == len(rows[1].content)
    assert rows[1].digest != lines[1].digest


def test_a_ready_event_passes_as_it_is() -> None:
    text = '{"id":"1","source":"s","type":"t","specversion":"1.0","n":1.10}'
    assert parse_event(text) == Envelope(text.encode())
    assert problem(parse_event("{")).code == "line-malformed"
    form = LogFormat("cloudevents", parse_event, complete_at_end=True)
    assert piece_of(line_of(text.encode()), origin_of("f"), form) == text.encode()


@pytest.mark.parametrize("size", [EVENT_BYTES_MAX, EVENT_BYTES_MAX + 1, 10 * EVENT_BYTES_MAX])
def test_a_line_too_long_goes_to_quarantine_with_its_beginning(size: int) -> None:
    raw = b"x" * size
    piece = piece_of(line_of(raw), origin_of("f" * 32), log_format("combined"))
    assert len(piece) <= EVENT_BYTES_MAX
    event = msgspec.json.decode(piece)
    assert event["type"] == "io.tallybook.unparsed"
    assert event["data"]["line"].startswith("xxx")
    if size > EVENT_BYTES_MAX:
        assert event["data"]["code"] == "line-too-long"


def test_a_line_that_cannot_be_read_is_kept_whole_where_it_fits() -> None:
    raw = b"x" * 50_000
    event = msgspec.json.decode(piece_of(line_of(raw), origin_of("f"), log_format("common")))
    assert event["data"]["line"].encode() == raw


def test_a_line_that_becomes_too_large_an_event_goes_to_quarantine() -> None:
    agent = b"\x01" * (EVENT_BYTES_MAX // 3)
    raw = b'1.1.1.1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1 "-" "' + agent + b'"'
    event = msgspec.json.decode(piece_of(line_of(raw), origin_of("f"), log_format("combined")))
    assert event["data"]["code"] == "line-too-long"
    assert event["time"] == "2015-05-17T10:05:03+00:00"


def test_an_unparsed_line_has_the_identity_it_would_have_had() -> None:
    good = b'1.1.1.1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1'
    origin, line = origin_of(fingerprint(good)), line_of(good, 77)
    counted = msgspec.json.decode(piece_of(line, origin, log_format("common")))
    unparsed = msgspec.json.decode(piece_of(line, origin, log_format("combined")))
    assert (counted["source"], counted["id"]) == (unparsed["source"], unparsed["id"])
    assert unparsed["time"] == counted["time"]
    assert unparsed["data"] == {
        "line": good.decode(),
        "format": "combined",
        "code": "line-malformed",
        "message": "the line is not in the combined log format",
        "origin": f"{origin.source}#byte=77",
    }


def test_ids_follow_from_file_position_and_line() -> None:
    origin = origin_of(fingerprint(b"first"))
    form = log_format("common")

    def identity(raw: bytes, at: int, source: str | None = None) -> tuple[str, str]:
        where = origin_of(origin.fingerprint, source) if source else origin
        event = msgspec.json.decode(piece_of(line_of(raw, at), where, form))
        return event["source"], event["id"]

    assert identity(b"a", 0) == identity(b"a", 0)
    assert len({identity(b"a", 0), identity(b"b", 0), identity(b"a", 2)}) == 3
    assert identity(b"a", 0, "web-1")[0] == "web-1"
    assert identity(b"a", 0, "web-1")[1] == identity(b"a", 0)[1]


@pytest.mark.parametrize("source", ["", " ", "a\nb", "x" * 1025])
def test_a_source_must_be_fit_for_an_event(source: str) -> None:
    with pytest.raises(Invalid):
        origin_of("f", source)


@pytest.mark.parametrize(
    ("name", "raw", "whole"),
    [
        ("common", b'1 - - [17/May/2015:10:05:03 +0000] "G / HTTP/1.1" 200 20', False),
        ("combined", b'1 - - [17/May/2015:10:05:03 +0000] "G / HTTP/1.1" 200 20 "-" "x"', True),
        ("combined", b'1 - - [17/May/2015:10:05:03 +0000] "G / HTTP/1.1" 200 20 "-" "x', False),
        ("json", NGINX.encode(), True),
        ("json", NGINX.encode()[:-1], False),
    ],
)
def test_whether_a_last_line_is_whole(name: str, raw: bytes, whole: bool) -> None:
    assert ends_whole(line_of(raw), log_format(name)) is whole


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(Invalid, match="combined"):
        log_format("elf")


def test_text_keeps_every_byte_apart() -> None:
    assert text_of(b"\xff\xfe ok \xc3\xa4") == "\\xff\\xfe ok ä"
