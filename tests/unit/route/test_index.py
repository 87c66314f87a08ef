"""The index of rules: what is common is found, not asked one by one."""

import json
from typing import Any

import pytest

from tallybook.route.record import Record
from tallybook.route.rule import Rule
from tallybook.route.table import RoutingTable

RULES = 1000


def record(data: dict[str, Any], subject: str = "c7") -> Record:
    return Record(
        tenant="t", id="1", source="s", type="http", subject=subject, time_us=0, received_us=0,
        ext=None, data=json.dumps(data), commit_seq=1, key=b"0" * 16,
    )  # fmt: skip


def table_of(patterns: list[dict[str, Any]]) -> RoutingTable:
    return RoutingTable(
        Rule(tenant="t", key=str(n), version=1, pattern=json.dumps(pattern), targets=("x",))
        for n, pattern in enumerate(patterns)
    )


def at(condition: Any) -> dict[str, Any]:
    return {"type": ["http"], "data": {"v": [condition]}}


@pytest.mark.parametrize(
    ("condition", "value", "found"),
    [
        (lambda n: f"v{n}", "v17", ["17"]),
        (lambda n: n, 17, ["17"]),
        (lambda n: {"prefix": f"/{n:04d}"}, "/0017/x", ["17"]),
        (lambda n: {"suffix": f"{n:04d}/"}, "/0017/", ["17"]),
        (lambda n: {"wildcard": f"/api/*/{n:04d}*"}, "/api/v1/0017/x", ["17"]),
        (lambda n: {"wildcard": f"*{n:04d}*"}, "/a/0017/x", ["17"]),
        (lambda n: {"wildcard": f"/api/*{n:04d}"}, "/api/v1/0017", ["17"]),
        (lambda n: {"equals-ignore-case": f"V{n}"}, "v17", ["17"]),
        (lambda n: {"prefix": {"equals-ignore-case": f"V{n:04d}"}}, "v0017É", ["17"]),
        (lambda n: {"suffix": {"equals-ignore-case": f"{n:04d}V"}}, "ß0017v", ["17"]),
        (lambda n: {"numeric": [">=", n, "<", n + 2]}, 17.5, ["16", "17"]),
        (lambda n: {"numeric": [">", n]}, 3, ["0", "1", "2"]),
        (lambda n: {"cidr": f"10.{n // 256}.{n % 256}.0/24"}, "10.0.17.9", ["17"]),
        (lambda n: f"2001:db8::{n:x}", "2001:db8:0::0011", ["17"]),
    ],
)
def test_a_thousand_rules_of_a_kind_are_found_by_it(
    condition: Any, value: Any, found: list[str]
) -> None:
    table = table_of([at(condition(n)) for n in range(RULES)])
    one = record({"v": value})
    assert sorted(rule.key for rule in table.matching(one)) == found
    assert table.asked(one) <= 40
    assert table.asked(record({"v": "nothing"})) <= 20


def test_one_type_with_many_subjects_is_filed_under_the_subject() -> None:
    table = table_of([{"type": ["http"], "subject": [f"c{n}"]} for n in range(RULES)])
    assert table.asked(record({})) == 1
    assert [rule.key for rule in table.matching(record({}))] == ["7"]


def test_a_value_that_is_in_an_array_many_times_is_looked_up_once() -> None:
    table = table_of([{"data": {"a": {"v": ["x"], "w": [str(n)]}}} for n in range(50)])
    one = record({"a": [{"v": "x"}] * 5_000})
    assert table.asked(one) <= 50
    assert table.matching(one) == []


def test_true_is_not_one_in_the_index_either() -> None:
    table = table_of([{"data": {"v": [1]}}, {"data": {"v": [True]}}, {"data": {"v": [None]}}])
    for value, key in ((1, "0"), (1.0, "0"), (True, "1"), (None, "2")):
        assert [rule.key for rule in table.matching(record({"v": value}))] == [key]
        assert [rule.key for rule in table.matching(record({"v": [value]}))] == [key]


def test_many_alternatives_at_many_paths_are_filed_at_once() -> None:
    alternatives = [{f"f{n}": ["x"], "s": [str(n)]} for n in range(400)]
    table = table_of([{"data": {"$or": alternatives}}])
    assert [rule.key for rule in table.matching(record({"f17": "x", "s": "17"}))] == ["0"]
    assert table.matching(record({"f17": "x", "s": "18"})) == []
