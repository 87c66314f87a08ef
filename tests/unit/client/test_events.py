"""What a program records is checked and spelled at once."""

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from tallybook import Invalid
from tallybook.client.events import Names, event_line, whole_event


def line(**changes):
    given = {"kind": "t", "subject": "s", "data": {"n": 1}, "id": "1", "source": "app",
             "time_of": None, "extensions": None}  # fmt: skip
    given |= changes
    kind, subject, data = (given.pop(name) for name in ("kind", "subject", "data"))
    return json.loads(event_line(kind, subject, data, **given))


def test_an_event_is_spelled_as_cloudevents():
    moment = datetime(2026, 11, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    found = line(time_of=moment, data={"eur": Decimal("1.10")}, extensions={"traceparent": "00-a"})
    assert found == {
        "specversion": "1.0", "type": "t", "source": "app", "id": "1", "subject": "s",
        "time": "2026-11-01T00:00:00Z", "traceparent": "00-a", "data": {"eur": "1.10"},
    }  # fmt: skip


def test_what_is_absent_is_left_out_and_the_time_is_now():
    found = line(subject=None, data=None)
    assert "subject" not in found
    assert "data" not in found
    assert datetime.fromisoformat(found["time"]).year >= 2026


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": ""}, "type"),
        ({"subject": ""}, "subject"),
        ({"subject": "x" * 1025}, "subject"),
        ({"id": ""}, "id"),
        ({"source": ""}, "source"),
        ({"time_of": datetime(2026, 1, 1)}, "time"),  # noqa: DTZ001 - that is the point
        ({"time_of": "yesterday"}, "time"),
        ({"data": [1]}, "data"),
        ({"data": {"x": object()}}, "data"),
        ({"data": {"x": "y" * 70_000}}, "data"),
        ({"extensions": {"Trace-Parent": "x"}}, "Trace-Parent"),
    ],
)
def test_what_the_server_would_refuse_is_refused_at_once(changes, field):
    with pytest.raises(Invalid) as refused:
        line(**changes)
    assert refused.value.field == field


def test_a_whole_event_keeps_what_it_has_and_gets_what_it_lacks():
    given = {"type": "t", "subject": "s", "id": "mine", "time": "2026-01-01T00:00:00Z",
             "data": {"n": 1}, "region": "eu"}  # fmt: skip
    found = json.loads(whole_event(given, "fresh", "app"))
    assert (found["id"], found["source"], found["region"]) == ("mine", "app", "eu")
    assert json.loads(whole_event({"type": "t"}, "fresh", "app"))["id"] == "fresh"
    with pytest.raises(Invalid, match="type"):
        whole_event({"id": "1"}, "fresh", "app")


def test_names_never_repeat():
    first, second = Names(), Names()
    found = [each.next() for each in (first, second) for _ in range(100)]
    assert len(set(found)) == 200
