"""Records of Kafka: both modes, batches, and what is no event."""

import json

import pytest

from tallybook.collect.doors.cloudevents import Record, envelopes
from tallybook.collect.doors.point import Bad

ATTRIBUTES = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"s"), ("ce_type", b"t")]
EVENT = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}


def read(headers, value):
    return envelopes(Record(topic="t", partition=1, offset=7, headers=headers, value=value))


@pytest.mark.parametrize(
    ("headers", "value", "expected"),
    [
        (ATTRIBUTES, b'{"n": 1}', [{**EVENT, "data": {"n": 1}}]),
        (ATTRIBUTES, None, [EVENT]),
        (ATTRIBUTES, b"", [EVENT]),
        (
            [*ATTRIBUTES, ("content-type", b"application/json; charset=utf-8"), ("other", b"\xff")],
            b'{"n": 1}',
            [{**EVENT, "data": {"n": 1}, "datacontenttype": "application/json; charset=utf-8"}],
        ),
        (
            [*ATTRIBUTES, ("Content-Type", b"application/vnd.x+json")],
            b"{}",
            [{**EVENT, "data": {}, "datacontenttype": "application/vnd.x+json"}],
        ),
        ([*ATTRIBUTES, ("ce_subject", None)], None, [EVENT]),
        ([("content-type", b"application/CloudEvents+json")], json.dumps(EVENT).encode(), [EVENT]),
        ([], json.dumps(EVENT).encode(), [EVENT]),
        (
            [("content-type", b"application/cloudevents-batch+json")],
            json.dumps([EVENT, EVENT]).encode(),
            [EVENT, EVENT],
        ),
        ([], None, []),
    ],
)
def test_what_a_record_says(headers, value, expected):
    found = read(headers, value)
    assert not isinstance(found, Bad), found
    assert [json.loads(piece) for piece in found] == expected


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        ([], b"text"),
        ([], b"{}"),
        ([], b"5"),
        ([("content-type", b"application/cloudevents+json")], b"[]"),
        ([("content-type", b"application/cloudevents-batch+json")], None),
        ([*ATTRIBUTES, ("ce_id", b"2")], b"{}"),
        ([*ATTRIBUTES, ("ce_subject", b"\xff")], b"{}"),
        (ATTRIBUTES, b"{"),
        ([*ATTRIBUTES, ("content-type", b"text/plain")], b"words"),
    ],
)
def test_what_is_no_event_is_named_by_its_place(headers, value):
    found = read(headers, value)
    assert isinstance(found, Bad)
    assert found.place == found.key == "t/1/7"
