"""JSON objects: identity by content or fields, times, Vector's metrics, CloudEvents as they are."""

import json

import pytest

from tallybook.collect.doors.records import points
from tallybook.collect.doors.rules import NO_RULES, DoorRules
from tallybook.kernel.errors import Invalid

NOW = 1_800_000_000_000_000
S = 1_000_000


def read(*objects, rules=NO_RULES):
    return points("\n".join(map(json.dumps, objects)).encode(), rules, NOW)


def test_equal_records_of_a_request_are_told_apart_and_a_repeat_is_the_same():
    first = [point.key for point in read({"a": 1}, {"a": 1}, {"a": 2}).points]
    assert len(set(first)) == 3
    assert [point.key for point in read({"a": 1}, {"a": 1}, {"a": 2}).points] == first


def test_spelling_is_no_difference():
    spaced = points(b'[ {"a": 1} ]', NO_RULES, NOW).points[0]
    assert spaced.key == points(b'{"a":1}', NO_RULES, NOW).points[0].key


def test_rules_name_the_fields_that_identify():
    rules = DoorRules(id=["order", "line"])
    one, two, other = read(
        {"order": 5, "line": 1, "try": 1},
        {"order": 5, "line": 1, "try": 2},
        {"order": 5},
        rules=rules,
    ).points
    assert one.key == two.key != other.key


@pytest.mark.parametrize(
    ("members", "us"),
    [
        ({"timestamp": "1970-01-01T00:00:01Z"}, S),
        ({"@timestamp": "1970-01-01T00:00:02Z"}, 2 * S),
        ({"timestamp": "today", "time": 3}, 3 * S),
        ({"time": 4.5}, 4_500_000),
        ({"time": 1e15}, None),
        ({"time": None}, None),
        ({"time": [1]}, None),
        ({}, None),
    ],
)
def test_the_time_of_a_record(members, us):
    (point,) = read({"x": 1, **members}).points
    assert (point.time_us, point.stamped) == ((us, False) if us is not None else (NOW, True))


def test_rules_name_the_fields_that_hold_the_time():
    (point,) = read({"at": 7, "time": 9}, rules=DoorRules(time=["at"])).points
    assert point.time_us == 7 * S


def test_labels_are_what_is_plain():
    (point,) = read(
        {"type": "visit", "n": 5, "ok": True, "nested": {}, "list": [], "none": None}
    ).points
    assert point.name == "visit"
    assert dict(point.labels) == {"type": "visit", "n": "5", "ok": "true"}


def metric(**more):
    return {"name": "bytes", "kind": "incremental", "timestamp": "1970-01-01T00:00:10Z", **more}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (metric(counter={"value": 5}), ("bytes", "delta", "5", None, 0)),
        (metric(counter={"value": 5}, interval_ms=2000), ("bytes", "delta", "5", None, 8 * S)),
        (metric(counter={"value": 5}, kind="absolute"), ("bytes", "counter", "5", None, 0)),
        (metric(gauge={"value": 0.5}, kind="absolute"), ("bytes", "level", "0.5", None, 0)),
        (metric(gauge={"value": -1}, namespace="x"), ("x_bytes", "delta", "-1", None, 0)),
        (
            metric(aggregated_histogram={"count": 2, "sum": 1.25, "buckets": []}, kind="absolute"),
            ("bytes", "counter", "2", "1.25", 0),
        ),
        (metric(aggregated_summary={"count": 2, "sum": 1}), ("bytes", "delta", "2", "1", 0)),
    ],
)
def test_a_metric_of_vector_is_a_series(members, expected):
    (point,) = read({**members, "tags": {"host": "h", "empty": None}}).points
    total = None if point.sum is None else str(point.sum)
    assert (point.name, point.kind, str(point.value), total, point.start_us) == expected
    assert dict(point.labels) == {"host": "h"}
    assert point.time_us == 10 * S


def test_a_metric_without_a_time_is_stamped_on_arrival():
    (point,) = read({"name": "bytes", "kind": "incremental", "counter": {"value": 5}}).points
    assert point.time_us == NOW


@pytest.mark.parametrize(
    "members",
    [
        metric(),
        metric(kind="other", counter={"value": 5}),
        metric(counter={"value": "five"}),
        metric(counter={}),
        metric(aggregated_histogram={"count": 2}),
        metric(name=5, counter={"value": 5}),
    ],
)
def test_what_only_looks_like_a_metric_is_a_record(members):
    (point,) = read(members).points
    assert point.kind == "record"


def test_a_cloudevent_is_taken_as_it_stands():
    event = {"specversion": "1.0", "id": "1"}
    decoded = read(event, {"a": 1})
    assert [json.loads(one) for one in decoded.envelopes] == [event]
    assert len(decoded.points) == 1


def test_what_is_no_object_is_named_by_its_place():
    decoded = points(b'{"a":1}\nnope\n5\n\xff', NO_RULES, NOW)
    assert [bad.place for bad in decoded.bad] == ["object 2", "object 3", "object 4"]
    assert decoded.bad[2].piece == r"\xff"
    assert points(b"[]", NO_RULES, NOW).points == ()
    assert points(b"  ", NO_RULES, NOW).points == ()


def test_an_array_must_be_one():
    with pytest.raises(Invalid, match="array"):
        points(b'[{"a":1}', NO_RULES, NOW)


def test_bounds():
    with pytest.raises(Invalid, match="objects"):
        points(b"{}\n" * 100_001, NO_RULES, NOW)


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', '{ "a": 1, "b": 2, "a": 3 }'])
def test_a_key_twice_is_set_aside_and_not_half_lost(text):
    found = points(text.encode(), NO_RULES, NOW)
    assert [bad.code for bad in found.bad] == ["malformed"]
    assert not list(found.points)
    assert not points(b'{ "a" : {"b": 1, "c": 1}, "b": 2 }', NO_RULES, NOW).bad
