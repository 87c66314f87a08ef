"""Rules over the API: versions, refusals, trials, and the pages of the console."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tallybook.adapters.sqlite.streams import SqliteShares, SqliteStreamWriter
from tallybook.route.ports import Answer, GroupAt
from tallybook.route.record import DONE, Place, Record, envelope
from tallybook.route.rule import Rule
from tallybook.route.stream import LIVE, Delivery, Moved
from tests.support.api import Api
from tests.support.browser import Browser

RULE = {"pattern": {"type": ["usage.http"]}, "targets": ["feed"]}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path) as made:
        yield made


def put_records(api: Api, count: int) -> None:
    found = []
    for n in range(count):
        record = Record(
            tenant="default", id=f"e{n}", source="s", type="usage.http", subject=None, time_us=n,
            received_us=n, ext=None, data=f'{{"n":{n}}}', commit_seq=1, key=n.to_bytes(16, "big"),
        )  # fmt: skip
        found.append(
            Delivery(stream="feed", rule="r", version=1, record=record, envelope=envelope(record))
        )
    moved = Moved(name=LIVE, place=Place(1, DONE))
    SqliteStreamWriter(api.world.streams_file).append([("default", found)], 0, moved)


def test_a_change_is_a_version_and_the_same_again_is_none(api: Api) -> None:
    status, made = api.call("POST", "/routes", RULE | {"key": "r"})
    assert (status, made["version"], made["state"]) == (201, 1, "enabled")
    assert [stream["name"] for stream in api.get("/streams")["items"]] == ["feed", "unmatched"]
    assert api.call("POST", "/routes", RULE | {"key": "r"})[1]["code"] == "exists"
    assert api.call("PUT", "/routes/r", RULE)[1]["version"] == 1
    assert api.call("PUT", "/routes/r", RULE | {"state": "paused"})[1]["version"] == 2
    assert api.call("PUT", "/routes/r", RULE | {"key": "other"})[0] == 400
    assert api.call("PUT", "/routes/r", RULE | {"state": "deleted"})[0] == 400
    assert api.call("DELETE", "/routes/r")[0] == 204
    assert api.call("GET", "/routes/r")[0] == 404
    assert [v["state"] for v in api.get("/routes/r/versions")["versions"]] == [
        "deleted", "paused", "enabled",
    ]  # fmt: skip
    assert api.call("POST", "/routes", RULE | {"key": "r"})[1]["version"] == 4


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"pattern": {"type": "x"}}, "type"),
        ({"pattern": {}}, "pattern"),
        ({"targets": []}, "targets"),
        ({"targets": ["A b"]}, "targets[0]"),
        ({"targets": ["unmatched"]}, "targets[0]"),
        ({"targets": ["a", "a"]}, "targets"),
        ({"description": "x" * 501}, "description"),
    ],
)
def test_what_cannot_be_a_rule_is_refused_by_field(
    api: Api, change: dict[str, Any], field: str
) -> None:
    status, problem = api.call("PUT", "/routes/r", RULE | change)
    assert (status, problem["field"]) == (400, field)


def test_duplicate_keys_and_exact_numbers_are_seen_as_they_were_sent(api: Api) -> None:
    twice = b'{"pattern": {"type": ["a"], "type": ["b"]}, "targets": ["x"]}'
    assert api.call("PUT", "/routes/r", raw=twice)[1]["code"] == "bad-pattern"
    asked = (
        b'{"pattern": {"data": {"n": [0.1000000000000000000001]}}, "event": {"data": {"n": 0.1}}}'
    )
    found = api.call("POST", "/routes/test", raw=asked)[1]
    assert not found["matches"]
    assert found["misses"][0]["message"] == "data.n is 0.1; wanted 0.1000000000000000000001"


def test_a_rule_that_is_parked_says_why(api: Api) -> None:
    rule = Rule(tenant="default", key="r", version=1, pattern='{"a": 1}', targets=("x",))
    api.world.rules.add(rule)
    SqliteStreamWriter(api.world.streams_file).tell_broken("default", "r", 1, "it is old")
    found = api.get("/routes/r")
    assert (found["state"], found["reason"]) == ("parked", "it is old")


def test_a_group_reads_answers_and_is_redriven_on_its_page(api: Api) -> None:
    put_records(api, 3)
    api.call("POST", "/streams/feed/groups", {"name": "g", "to": "earliest", "attempts_max": 1})
    batch = api.get("/streams/feed/records?group=g&max=2")
    assert [r["event"]["data"] for r in batch["records"]] == [{"n": 0}, {"n": 1}]
    body = {"lease": batch["lease"], "ids": [1], "reason": "no such customer"}
    failed = api.call("POST", "/streams/feed/fail?group=g", body)[1]
    assert failed["dead_letters"] == [1]
    acked = api.call("POST", "/streams/feed/ack?group=g", {"lease": batch["lease"]})[1]
    assert acked["acknowledged"] == [2]
    assert api.get("/streams/feed/records?after=2")["records"][0]["id"] == 3
    (letter,) = api.get("/streams/feed/dead-letters?group=g")["items"]
    assert letter["reason"] == "no such customer"

    browser = Browser(api, ["admin"])
    page = browser.get("/streams/feed")
    assert "no such customer" in page.text
    assert "Hand out again" in page.text
    sent = browser.ask("/streams/feed/redrive", {"group": "g"})
    assert sent.place == "/streams/feed"
    assert "no such customer" not in browser.get("/streams/feed").text
    handed = SqliteShares(api.world.streams_file).lease(
        GroupAt("default", "feed", "g"), "me", 10, api.clock.now_us()
    )
    assert handed is not None
    assert [r.offset for r in handed.records] == [1]


def test_a_lease_that_others_have_is_lost(api: Api) -> None:
    put_records(api, 1)
    api.call("POST", "/streams/feed/groups", {"name": "g", "to": "earliest", "lease_seconds": 5})
    mine = api.get("/streams/feed/records?group=g")
    api.clock.now += 6_000_000
    theirs = api.get("/streams/feed/records?group=g")
    body = {"lease": mine["lease"], "ids": [1]}
    status, problem = api.call("POST", "/streams/feed/ack?group=g", body)
    assert (status, problem["code"]) == (409, "lease-lost")
    at = GroupAt("default", "feed", "g")
    answer = Answer(lease=theirs["lease"])
    assert SqliteShares(api.world.streams_file).acknowledge(at, answer, 0).done == [1]


def test_the_pages_show_rules_and_streams(api: Api) -> None:
    browser = Browser(api, ["read"])
    assert "No rules" in browser.get("/streams").text
    put_records(api, 2)
    api.call("PUT", "/routes/r", RULE)
    page = browser.get("/streams")
    assert "usage.http" in page.text
    assert "/streams/feed" in page.text
    assert browser.get("/streams/none").status == 404


CATALOG = """
[[meters]]
key = "requests"
event_type = "usage.http"
aggregation = "COUNT"

[[routes]]
key = "slow"
targets = ["feed", "audit"]
[routes.pattern]
type = ["usage.http"]
data.took = [{ numeric = [">=", 0.12345678901234567890123] }]

[[routes]]
key = "failures"
targets = ["feed"]
description = "what went wrong"
pattern = '{"data": {"status": [{"numeric": [">=", 500]}]}}'
"""


def applied(api: Api, text: str, *, action: str = "apply", prune: bool = False) -> Any:
    path = f"/catalog/{action}" + ("?prune=true" if prune else "")
    return api.call("POST", path, raw=text.encode())


def test_routes_are_applied_with_the_catalog_and_twice_changes_nothing(api: Api) -> None:
    status, found = applied(api, CATALOG, action="diff")
    assert (status, [(c["action"], c["kind"], c["key"]) for c in found["changes"]]) == (
        200,
        [
            ("create", "meter", "requests"),
            ("create", "route", "slow"),
            ("create", "route", "failures"),
        ],
    )
    assert api.get("/routes")["items"] == []
    assert applied(api, CATALOG)[1] == found
    assert applied(api, CATALOG)[1]["changes"] == []
    rules = {rule["key"]: rule for rule in api.get("/routes")["items"]}
    assert "0.12345678901234567890123" in api.world.rules.history("default", "slow")[0].pattern
    assert rules["failures"]["description"] == "what went wrong"
    assert [s["name"] for s in api.get("/streams")["items"]] == ["audit", "feed", "unmatched"]


def test_an_apply_tells_what_differs_and_prunes_only_where_it_has_routes(api: Api) -> None:
    assert applied(api, CATALOG)[0] == 200
    changed = CATALOG.replace('["feed", "audit"]', '["feed"]')
    assert applied(api, changed, action="diff")[1]["changes"] == [
        {
            "action": "update",
            "kind": "route",
            "key": "slow",
            "details": ["targets: feed, audit -> feed"],
        }
    ]
    meters, _, rest = CATALOG.partition("[[routes]]")
    assert applied(api, meters, prune=True)[1]["changes"] == []
    only = meters + "[[routes]]" + rest.partition("[[routes]]")[0]
    assert [(c["action"], c["key"]) for c in applied(api, only, prune=True)[1]["changes"]] == [
        ("archive", "failures")
    ]
    assert [rule["key"] for rule in api.get("/routes")["items"]] == ["slow"]
    assert applied(api, CATALOG)[1]["changes"][0]["action"] == "create"
    assert api.get("/routes/failures")["version"] == 3


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("[{ numeric", "[{ nomeric", "routes.data.took[0]"),
        ('["feed", "audit"]', "[]", "routes.targets"),
        ('"slow"', '"failures"', "routes.key"),
        ('"slow"', '"Slow"', "routes.key"),
        ('targets = ["feed"]', "", "routes"),
    ],
)
def test_a_wrong_route_is_refused_and_nothing_of_the_file_is_applied(
    api: Api, old: str, new: str, field: str
) -> None:
    status, found = applied(api, CATALOG.replace(old, new))
    assert (status, found["field"]) == (400, field)
    assert api.get("/meters")["items"] == []


def test_the_same_rule_written_otherwise_is_no_new_version(api: Api) -> None:
    assert api.call("PUT", "/routes/r", RULE | {"pattern": {"data": {"n": [5]}}})[1]["version"] == 1
    same = '{"pattern":{ "data" : {"n":[5.0]}},"targets":["feed"]}'
    assert api.call("PUT", "/routes/r", raw=same.encode())[1]["version"] == 1


def test_a_rule_is_taken_away_only_as_it_was_seen(api: Api) -> None:
    api.call("PUT", "/routes/r", RULE)
    for tag, status in (('"2"', 412), ("x", 412), ('"2", "1"', 204), ("*", 412)):
        assert api.call("DELETE", "/routes/r", headers={"if-match": tag})[0] == status, tag
    again = RULE | {"description": "back"}
    assert api.call("PUT", "/routes/r", again, headers={"if-match": '"2"'})[0] == 412
    assert api.call("PUT", "/routes/r", again)[0] == 200


def test_a_stream_is_changed_only_as_it_was_seen_and_keeps_what_is_not_said(api: Api) -> None:
    path = "/streams/feed"
    made = api.put(path, {})
    assert (made["keep_hours"], made["keep_mb"]) == (168, 1024)
    api.put(path, {"keep_hours": 5})
    assert api.put(path, {"keep_mb": 7})["keep_hours"] == 5
    assert api.put(path, {})["keep_mb"] == 7
    for tag, status in (('"168h-1024mb"', 412), ('"5h-7mb"', 200), ('"5h-7mb"', 412), ("*", 200)):
        body = {"keep_hours": 6}
        assert api.call("PUT", path, body, headers={"if-match": tag})[0] == status, tag
    assert api.call("PUT", "/streams/none", {}, headers={"if-match": "*"})[0] == 412


def test_a_group_is_moved_only_from_where_it_was_seen(api: Api) -> None:
    put_records(api, 3)
    api.post("/streams/feed/groups", {"name": "g", "to": "earliest"})
    path, clock = "/streams/feed/groups/g", api.clock.now
    api.get("/streams/feed/records?group=g&max=1")
    for tag, status in ((f'"{clock}-1-0-0"', 412), (f'"{clock}-2-0-0"', 200)):
        told = api.call("POST", f"{path}/seek", {"to": "latest"}, headers={"if-match": tag})
        assert told[0] == status
    assert api.call("DELETE", path, headers={"if-match": f'"{clock}-2-0-0"'})[0] == 412
    assert api.call("DELETE", path, headers={"if-match": f'"{clock}-4-0-0"'})[0] == 204


def test_an_answer_names_its_lease_and_a_lease_can_be_extended(api: Api) -> None:
    put_records(api, 3)
    api.post("/streams/feed/groups", {"name": "g", "to": "earliest"})
    lease = api.get("/streams/feed/records?group=g")["lease"]
    path = "/streams/feed/extend?group=g"
    first = api.post(path, {"lease": lease}, 200)
    api.clock.now += 30_000_000
    assert api.post(path, {"lease": lease}, 200)["until"] > first["until"]
    assert api.get("/streams/feed/records?group=g")["lease"] == ""
    for kind in ("ack", "fail", "extend"):
        body = {"lease": ""} | ({"reason": "x"} if kind == "fail" else {})
        status, told = api.call("POST", f"/streams/feed/{kind}?group=g", body)
        assert (status, told.get("field")) == ((409 if kind == "extend" else 400), "lease")
    api.post("/streams/feed/ack?group=g", {"lease": lease}, 200)
    assert api.post(path, {"lease": lease}, 409)["code"] == "lease-lost"
