"""What is the same for every route: names, packing, tags, tables, strict bodies."""

import csv
import gzip
import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import zstandard

from tallybook.serve.api.gateway.packing import encoding_of
from tallybook.serve.api.gateway.table import safe_cell, table_of
from tests.support.gatehouse.house import FIRST_KEY, House, house

API = "/api/v1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("transport") / "data") as made:
        for number in range(40):
            body = {"key": f"c{number:02}", "currency": "USD", "name": "=1+1", "subjects": ["s"]}
            body["subjects"] = [f"s{number}"]
            assert made.ask("POST", f"{API}/customers", FIRST_KEY, body).status == 201
        yield made


def ask(server: House, method: str, path: str, body: Any = None, **headers: str) -> Any:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.ask(method, API + path, FIRST_KEY, body, given)


# ------------------------------------------------------------------ names of requests


def test_every_answer_names_its_request(server: House) -> None:
    assert ask(server, "GET", "/customers").headers["x-request-id"].startswith("req_")
    assert ask(server, "GET", "/nothing").headers["x-request-id"]
    assert ask(server, "POST", "/events", b"[").headers["x-request-id"]
    told = ask(server, "GET", "/customers", x_request_id="mine-1")
    assert told.headers["x-request-id"] == "mine-1"
    for bad in ("x" * 129, "two words", ""):
        assert ask(server, "GET", "/customers", x_request_id=bad).headers["x-request-id"] != bad


def test_the_audit_log_has_the_name_that_the_answer_has(server: House) -> None:
    body = {"key": "named", "currency": "USD"}
    told = ask(server, "POST", "/customers", body)
    row = ask(server, "GET", "/audit?kind=customer&subject=named").json["items"][0]
    assert row["request_id"] == told.headers["x-request-id"]


# ------------------------------------------------------------------ packing


def test_answers_are_packed_as_the_client_can_read_them(server: House) -> None:
    plain = ask(server, "GET", "/customers")
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == "accept-encoding"
    zipped = ask(server, "GET", "/customers", accept_encoding="gzip, deflate")
    assert zipped.headers["content-encoding"] == "gzip"
    assert gzip.decompress(zipped.body) == plain.body
    assert int(zipped.headers["content-length"]) == len(zipped.body) < len(plain.body) / 3
    both = ask(server, "GET", "/customers", accept_encoding="gzip, zstd")
    assert both.headers["content-encoding"] == "zstd"
    assert zstandard.ZstdDecompressor().decompress(both.body, max_output_size=10**6) == plain.body


def test_small_answers_and_pages_are_not_packed(server: House) -> None:
    small = ask(server, "GET", "/customers/c00", accept_encoding="gzip")
    assert "content-encoding" not in small.headers
    page = server.ask("GET", "/login", None, None, {"accept-encoding": "gzip"})
    assert "content-encoding" not in page.headers


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", ""), ("identity", ""), ("gzip", "gzip"), ("zstd;q=0.5, gzip", "gzip"), ("*", "zstd"),
        ("gzip;q=0", ""), ("zstd;q=0, *", "gzip"), ("br", ""), ("gzip;q=x", ""),
        ("GZIP;q=1.0", "gzip"), ("gzip; q=0.2, zstd; q=0.3", "zstd"),
    ],
)  # fmt: skip
def test_what_a_client_accepts(accepted: str, chosen: str) -> None:
    assert encoding_of(accepted.encode()) == chosen.encode()


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.compress)]
)
def test_bodies_may_be_packed_on_every_route(server: House, encoding: str, pack: Any) -> None:
    body = json.dumps({"key": f"packed-{encoding}", "currency": "USD"}).encode()
    told = ask(server, "POST", "/customers", pack(body), content_encoding=encoding)
    assert told.status == 201, told.body
    assert (
        ask(server, "POST", "/customers", pack(body)[:-3], content_encoding=encoding).status == 400
    )
    assert ask(server, "POST", "/customers", body, content_encoding="br").status == 415
    bomb = pack(b" " * (40 * 1024 * 1024))
    told = ask(server, "POST", "/customers", bomb, content_encoding=encoding)
    assert (told.status, told.json["code"]) == (413, "too-large")


# ------------------------------------------------------------------ tags


def test_what_is_known_is_not_sent_again(server: House) -> None:
    for path in ("/customers", "/customers/c00", "/customers?format=csv"):
        first = ask(server, "GET", path)
        tag = first.headers["etag"]
        again = ask(server, "GET", path, if_none_match=tag)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert ask(server, "GET", path, if_none_match=f'"other", W/{tag}').status == 304
        assert ask(server, "GET", path, if_none_match="*").status == 304
        assert ask(server, "GET", path, if_none_match='"other"').status == 200
    zipped = ask(server, "GET", "/customers", accept_encoding="gzip").headers["etag"]
    assert zipped.endswith('-gzip"')
    assert ask(server, "GET", "/customers", if_none_match=zipped).status == 304


def test_a_change_is_made_of_what_was_seen_or_not_at_all(server: House) -> None:
    path, body = "/customers/c01", {"key": "c01", "currency": "USD", "subjects": ["s1"]}
    tag = ask(server, "GET", path).headers["etag"]
    assert ask(server, "PUT", path, body | {"name": "a"}, if_match=tag).status == 200
    late = ask(server, "PUT", path, body | {"name": "b"}, if_match=tag)
    assert (late.status, late.json["code"]) == (412, "precondition-failed")
    assert ask(server, "DELETE", path, if_match=tag).status == 412
    assert ask(server, "GET", path).json["name"] == "a"
    assert ask(server, "PUT", path, body, if_match="*").status == 200
    assert ask(server, "PUT", "/customers/none", body, if_match="*").status in {404, 412}
    fresh = ask(server, "GET", path).headers["etag"]
    assert ask(server, "DELETE", path, if_match=f'"x", {fresh}').status == 204


def test_things_of_every_kind_can_be_held_to(server: House) -> None:
    plan = {"key": "p", "limits": [{"type": "rate", "key": "r", "rate": 9, "seconds": 1}]}
    made = {
        "/usage-plans": plan,
        "/taxes": {"key": "t", "rate": "20"},
        "/coupons": {"key": "c", "amount": "1", "currency": "USD"},
        "/meters": {"key": "m", "event_type": "t", "aggregation": "COUNT"},
    }
    for place, body in made.items():
        assert ask(server, "POST", place, body).status == 201
        path = f"{place}/{body['key']}"
        tag = ask(server, "GET", path).headers["etag"]
        assert ask(server, "PUT", path, body, if_match='"x"').status == 412
        assert ask(server, "PUT", path, body, if_match=tag).status == 200, place
    key = ask(server, "POST", "/keys", {"name": "k", "scopes": ["read"]}).json["id"]
    rule = {"pattern": {"type": ["t"]}, "targets": ["feed"]}
    assert ask(server, "PUT", "/routes/r", rule).status == 200
    hook = ask(server, "POST", "/webhooks", {"url": "https://example.com/x"}).json["id"]
    own = {"limits": plan["limits"]}
    for method, path, body in (
        ("PUT", "/routes/r", rule | {"description": "d"}),
        ("PATCH", f"/webhooks/{hook}", {"description": "d"}),
        ("PUT", f"/keys/{key}/limits", own),
        ("PUT", "/edges/rules", {"rules": []}),
        ("DELETE", "/edges/rules", None),
        ("DELETE", f"/webhooks/{hook}", None),
        ("DELETE", "/routes/r", None),
        ("DELETE", "/usage-plans/p", None),
    ):
        tag = ask(server, "GET", path).headers["etag"]
        late = ask(server, method, path, body, if_match='"x"')
        assert (late.status, late.json["code"]) == (412, "precondition-failed"), path
        assert ask(server, method, path, body, if_match=tag).status in {200, 204}, path
    tag = ask(server, "GET", f"/keys/{key}").headers["etag"]
    assert ask(server, "PUT", f"/keys/{key}", {"name": "l"}, if_match=tag).status == 200
    assert ask(server, "POST", f"/keys/{key}/rotate", {}, if_match=tag).status == 412
    assert ask(server, "DELETE", f"/keys/{key}", if_match=tag).status == 412


def test_of_many_who_saw_the_same_one_changes_it(server: House) -> None:
    for turn in range(4):
        path = "/customers/c02"
        body = {"key": "c02", "currency": "USD", "subjects": ["s2"]}
        tag = ask(server, "GET", path).headers["etag"]
        told: list[int] = []

        def change(name: str) -> None:
            sent = body | {"name": f"{turn}-{name}"}  # noqa: B023 - joined before the next turn
            told.append(ask(server, "PUT", path, sent, if_match=tag).status)  # noqa: B023

        writers = [threading.Thread(target=change, args=(str(n),)) for n in range(8)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert told.count(200) == 1, told
        assert set(told) <= {200, 412, 409}, told


# ------------------------------------------------------------------ tables


def rows(answer: Any) -> list[dict[str, str]]:
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.body.decode())))


def test_every_list_is_a_table_too(server: House) -> None:
    page = ask(server, "GET", "/customers?limit=10").json
    found = ask(server, "GET", "/customers?limit=10&format=csv")
    assert [row["key"] for row in rows(found)] == [item["key"] for item in page["items"]]
    assert found.headers["next-cursor"] == page["next_cursor"]
    assert rows(found)[0]["name"] == "'=1+1"
    subjects = page["items"][0]["subjects"]
    assert json.loads(rows(found)[0]["subjects"]) == subjects
    assert rows(ask(server, "GET", "/customers?limit=10", accept="text/csv")) == rows(found)
    both = ask(server, "GET", "/customers", accept="application/json, text/csv")
    assert both.headers["content-type"] == "application/json"


def test_a_list_of_nothing_has_its_columns(server: House) -> None:
    for place in ("invoices", "subscriptions", "plans", "wallets", "quarantine", "payments"):
        found = ask(server, "GET", f"/{place}?format=csv")
        assert found.status == 200, (place, found.body)
        assert found.body.count(b"\r\n") == 1, place
        assert b"," in found.body, place


def test_what_is_no_table_is_not_made_one(server: House) -> None:
    told = ask(server, "GET", "/status?format=csv")
    assert (told.status, told.json["code"]) == (406, "not-acceptable")
    assert ask(server, "GET", "/audit?format=csv").body.startswith(b"seq,")


@pytest.mark.parametrize(
    ("cell", "safe"),
    [
        ("=1+1", "'=1+1"), ("+1+1", "'+1+1"), ("-1+1", "'-1+1"), ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"), ("\r=1", "'\r=1"), ("-12.50", "-12.50"), ("+1", "+1"), ("-1e-9", "-1e-9"),
        ("", ""), ("a=1", "a=1"), ("-", "'-"), ("-1\n=2", "'-1\n=2"),
    ],
)  # fmt: skip
def test_no_cell_is_a_formula(cell: str, safe: str) -> None:
    assert safe_cell(cell) == safe


def test_numbers_keep_their_digits() -> None:
    told = table_of(b'[{"n":1.000000000000000000001,"m":-5,"x":null,"o":{"a":[1]},"b":true}]')
    assert told is not None
    text = b'n,m,x,o,b\r\n1.000000000000000000001,-5,,"{""a"":[1]}",true\r\n'
    assert told.csv == text
    assert table_of(b'{"a":1}') is None
    assert table_of(b"[1]") is None


# ------------------------------------------------------------------ strict bodies


@pytest.mark.parametrize(
    "body",
    [
        b'{"key":"a","key":"b","currency":"USD"}',
        b'{"key":"a","currency":"USD","name":"\\ud800"}',
        b'{"key":"a","currency":"USD","name":"\\u0000"}',
        b'{"key":"a","currency":"USD","name":NaN}',
        b'{"key":"a","currency":"USD","place":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
        b"[" * 100_000,
        b'\xef\xbb\xbf{"key":"a","currency":"USD"}',
        b'{"key":"\xff","currency":"USD"}',
        b'{"key":"a","currency":"USD","grace_days":1e999999999}',
        b'{"key":"a","currency":"USD","grace_days":' + b"9" * 100_000 + b"}",
    ],
)
def test_a_body_that_is_not_strict_json_is_refused(server: House, body: bytes) -> None:
    told = ask(server, "POST", "/customers", body)
    assert told.status == 400, told.body
    assert told.json["code"] in {"malformed", "invalid"}
    assert ask(server, "GET", "/customers/a").status == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/customers?" + "a=1&" * 1000, 414), ("/customers?q=" + "x" * 20_000, 414),
        ("/customers/" + "x" * 9_000, 414), ("/customers?parent=%00", 400),
        ("/customers/\0", 400),
    ],
)  # fmt: skip
def test_a_line_that_nobody_sends_is_refused(server: House, path: str, status: int) -> None:
    assert ask(server, "GET", path).status == status


@pytest.mark.parametrize(
    "amount", ["1e999999999", "-1e999999999", "1e-999999999", "NaN", "9" * 5000]
)
def test_no_number_costs_more_than_it_should(server: House, amount: str) -> None:
    asked = {"price": {"type": "unit", "unit_amount": "1"}, "currency": "USD", "quantity": amount}
    assert ask(server, "POST", "/prices/calculate", asked).status == 400
    asked = {"price": {"type": "unit", "unit_amount": amount}, "currency": "USD", "quantity": "1"}
    assert ask(server, "POST", "/prices/calculate", asked).status == 400


def test_doors_take_post_only(server: House) -> None:
    for path in ("/v1/metrics", "/write", "/api/v1/logs", "/v1/billing/meter_events"):
        told = server.ask("GET", path, FIRST_KEY)
        assert (told.status, told.json["code"]) == (405, "method-not-allowed")
        assert told.headers["allow"] == "POST"
