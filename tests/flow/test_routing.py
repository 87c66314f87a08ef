"""Rules over the API: versions, refusals, trials, and the pages of the console."""

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
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


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
