"""Metrics endpoints and status pages: what their pages say, and what readings add up to."""

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics
from prometheus_client.parser import text_string_to_metric_families

from tallybook.collect.doors.point import Point
from tallybook.collect.doors.rules import DoorRules, SeriesRule
from tallybook.collect.scrape.exposition import is_open_metrics, points
from tallybook.collect.scrape.pages import apache_auto, nginx_plus, nginx_stub
from tallybook.collect.scrape.target import FORGET_AFTER_US, Told, target_round
from tallybook.kernel.errors import Unavailable

NOW = 1_800_000_000_000_000
SECOND = 1_000_000
LABELS = {"job": "j", "instance": "i"}
TOLD = Told(source="scrape:e")


def page(text: str, *, open_metrics: bool = False) -> dict[str, Point]:
    found = points(text, NOW, LABELS, open_metrics=open_metrics)
    return {point.name: point for point in found}


def test_kinds_by_type_and_by_name():
    found = page(
        '# HELP a_total x\n# TYPE a_total counter\na_total{code="2\\"0\\n0",} 1e3 1700000000123\n'
        "# TYPE g gauge\ng -0.50\n"
        '# TYPE h histogram\nh_bucket{le="+Inf"} 3\nh_sum 1.5\nh_count 3\n'
        '# TYPE s summary\ns{quantile="0.5"} 1\ns_sum 2\ns_count 4\n'
        "# TYPE s_created gauge\ns_created 1.7e9\n"
        "untyped_total 7\nother 8\n"
        "# TYPE nan gauge\nnan NaN\ninf +Inf\n"
        "process_start_time_seconds 1.7e9\n\n"
        '{"utf8.name", site="x"} 5\n'
    )  # fmt: skip
    assert {name: point.kind for name, point in found.items()} == {
        "a_total": "counter", "g": "level", "h_sum": "counter", "h_count": "counter",
        "s_sum": "counter", "s_count": "counter", "untyped_total": "counter", "other": "level",
        "process_start_time_seconds": "evidence", "utf8.name": "level",
    }  # fmt: skip
    assert found["a_total"].labels == {"code": '2"0\n0', **LABELS}
    assert (found["a_total"].value, found["a_total"].time_us) == (1000, 1700000000123000)
    assert found["g"].value == Decimal("-0.5")
    assert found["s_count"].start_us == 1_700_000_000 * SECOND
    assert found["g"].time_us == NOW


def test_open_metrics_times_created_and_exemplars():
    found = page(
        '# TYPE a counter\na_total{x="1"} 5 1700000000.5 # {id="1"} 0.7 1.5\n'
        'a_created{x="1"} 1699999999.25\n# TYPE i info\ni_info{v="1"} 1\n'
        '# TYPE t stateset\nt{t="a"} 1\n# EOF\n', open_metrics=True,
    )  # fmt: skip
    assert set(found) == {"a_total"}
    assert found["a_total"].time_us == 1_700_000_000_500_000
    assert found["a_total"].start_us == 1_699_999_999_250_000
    assert is_open_metrics("application/openmetrics-text; version=1.0.0")
    assert not is_open_metrics("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    "text",
    [
        "<html>\n", "a{b} 1\n", 'a{b="c} 1\n', "a 1 2 3\n", "a one\n", "a 1_0\n", "{} 1\n",
        'a{b="1",b="2"} 1\n', 'a{"x","y"} 1\n', "a 1 later\n", "a 1", "x" * 70_000 + " 1\n",
        "1a 5\n",
    ],
)  # fmt: skip
def test_a_page_that_is_none_is_refused_whole(text):
    with pytest.raises(Unavailable):
        page(text)


def test_a_page_that_was_cut_off_is_refused():
    with pytest.raises(Unavailable, match="EOF"):
        page("a 1\n", open_metrics=True)


def test_a_label_that_was_sent_under_our_name_is_kept_beside_it():
    assert page('a{job="x",empty=""} 1\n')["a"].labels == {"exported_job": "x", **LABELS}


NAMES = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=8)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=60)
@given(
    st.dictionaries(NAMES, st.tuples(VALUES, st.floats(0, 1e15), st.floats(-1e9, 1e9)), max_size=5)
)
def test_what_the_formats_own_library_writes_is_read_like_it_reads_it(given_series):
    registry = CollectorRegistry()
    counter = Counter("c", "help", ["l"], registry=registry)
    gauge = Gauge("g", "help\n\\x", ["l"], registry=registry)
    histogram = Histogram("h", "help", registry=registry)
    for label, value, level in given_series.values():
        counter.labels(label).inc(value)
        gauge.labels(label).set(level)
        histogram.observe(value)
    plain = generate_latest(registry).decode()
    theirs = {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(plain)
        for s in family.samples
        if not s.name.endswith(("_bucket", "_created"))
    }
    ours = points(plain, NOW, {}, open_metrics=False)
    read = {(p.name, tuple(sorted(p.labels.items()))): float(p.value) for p in ours}
    assert read == {(n, tuple((k, v) for k, v in ls if v)): v for (n, ls), v in theirs.items()}
    opened = points(generate_open_metrics(registry).decode(), NOW, {}, open_metrics=True)
    values = {(p.name, tuple(sorted(p.labels.items()))): float(p.value) for p in opened}
    assert values == read
    assert all(p.start_us for p in opened if p.kind == "counter")


def counter(value, at=NOW, start=0, name="c_total", **labels) -> Point:
    return Point(name=name, labels={**LABELS, **labels}, kind="counter", time_us=at,
                 value=Decimal(str(value)), start_us=start)  # fmt: skip


def began(at: int) -> Point:
    return Point(name="process_start_time_seconds", labels=LABELS, kind="evidence", time_us=NOW,
                 value=Decimal(at) / SECOND)  # fmt: skip


def rounds(readings, told=TOLD):
    """Return all events of readings a second apart, and the notes."""
    state, events, notes = None, [], []
    for number, reading in enumerate(readings):
        now = NOW + number * 10 * SECOND
        done = target_round(
            [counter(*p, at=now) if isinstance(p, tuple) else p for p in reading], state, told, now
        )
        state = done.state
        events += done.events
        notes += done.notes
    return events, notes


def growth(events) -> Decimal:
    data = [json.loads(bytes(e.data), parse_float=Decimal) for e in events if e.type == "c_total"]
    return sum((Decimal(d["value"]) for d in data), Decimal(0))


def test_the_first_reading_is_a_baseline_and_growths_add_up():
    events, notes = rounds([[(5,)], [(5,)], [("7.25",)], [(17,)]])
    assert growth(events) == 12
    assert not notes
    assert events[0].subject == "i"
    assert events[0].source == "scrape:e"
    assert json.loads(bytes(events[0].data))["since"].startswith("2027-")


def test_a_fall_is_a_restart_only_with_evidence():
    silent, notes = rounds([[(50,)], [(3,)], [(8,)]])
    assert growth(silent) == 5
    assert [e.type for e in silent] == ["io.tallybook.edge.counter-fell", "c_total"]
    assert "fell" in notes[0]
    told, notes = rounds([[(50,)], [(3,), began(NOW + 5 * SECOND)], [(8,)]])
    assert growth(told) == 8
    assert not notes


def test_a_start_of_its_own_is_believed_also_where_the_value_is_higher():
    start = NOW + 5 * SECOND
    events, _ = rounds([[(5,)], [counter(9, at=NOW + 10 * SECOND, start=start)]])
    assert growth(events) == 9


def test_starts_reckoned_from_an_uptime_may_differ_a_little():
    first = counter(5, at=NOW, start=NOW - 100 * SECOND)
    second = counter(9, at=NOW + 10 * SECOND, start=NOW - 98 * SECOND)
    assert growth(rounds([[first], [second]])[0]) == 4


def test_a_series_that_is_new_counts_from_zero_only_when_told():
    late = [[(5,)], [(5,), counter(4, at=NOW + 10 * SECOND, code="500")]]
    assert growth(rounds(late)[0]) == 0
    whole = Told(source="scrape:e", new_series_from_zero=True)
    assert growth(rounds(late, whole)[0]) == 4


def test_rules_name_types_and_subjects_and_leave_the_rest_out():
    rules = DoorRules(
        subject=["tenant"], ignore=[], unmatched="drop",
        series=[SeriesRule(match="c_*", type="requests")],
    )  # fmt: skip
    told = Told(source="s", rules=rules)
    labelled = {"tenant": "a", "value": "x", **LABELS}
    readings = [[msgspec.structs.replace(counter(n, at=NOW + n), labels=labelled)] for n in (1, 3)]
    level = Point(name="other", labels={}, kind="level", time_us=NOW, value=Decimal(1))
    state = None
    for n, reading in enumerate([[*r, level] for r in readings]):
        done = target_round(reading, state, told, NOW + n * 10)
        state = done.state
    (event,) = done.events
    assert (event.type, event.subject) == ("requests", "a")
    assert json.loads(bytes(event.data))["label_value"] == "x"


def test_levels_are_sent_as_they_are_and_what_is_no_number_is_not():
    level = Point(name="g", labels=LABELS, kind="level", time_us=NOW, value=Decimal("0.10"))
    endless = Point(name="g", labels={}, kind="level", time_us=NOW, value=Decimal("1e30"))
    below = counter(-1)
    events = target_round([level, endless, below], None, TOLD, NOW).events
    assert [json.loads(bytes(e.data))["value"] for e in events] == [0.1]


def test_a_series_unseen_for_a_day_is_forgotten():
    done = target_round([counter(1)], None, TOLD, NOW)
    assert done.state.standings
    later = target_round([], done.state, TOLD, NOW + FORGET_AFTER_US + 1)
    assert not later.state.standings


STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 1000)), min_size=1, max_size=30)


@given(STEPS)
def test_growths_add_up_to_what_each_process_counted(steps):
    value, expected, at, state, events = 0, 0, NOW, None, []
    for place, (restarts, step) in enumerate(steps):
        at += 10 * SECOND
        reading = []
        if restarts and place:
            reading.append(began(at - SECOND))
            expected += step if step < value else step - value  # a rise explains itself
            value = step
        else:
            expected += step if place else 0
            value += step
        done = target_round([counter(value, at=at), *reading], state, TOLD, at)
        state = done.state
        events += done.events
        assert not done.notes
    assert growth(events) == expected


STUB = (
    "Active connections: 291 \nserver accepts handled requests\n 16630948 16630947 31070465 \n"
    "Reading: 6 Writing: 179 Waiting: 106 \n"
)


def test_nginx_stub():
    found = nginx_stub(STUB, NOW, LABELS, NOW - 100 * SECOND)
    values = {(p.name, p.labels.get("state")): p.value for p in found}
    assert values["nginx.requests", None] == 31070465
    assert values["nginx.connections_handled", None] == 16630947
    assert values["nginx.connections_current", "waiting"] == 106
    starts = {p.start_us for p in found if p.kind == "counter"}
    assert starts == {NOW - 102 * SECOND}
    assert {p.start_us for p in nginx_stub(STUB, NOW, LABELS)} == {0}
    with pytest.raises(Unavailable, match="stub_status"):
        nginx_stub("<html>", NOW, LABELS)


AUTO = (
    "127.0.0.1\nServerVersion: Apache/2.4.57 (Debian)\nServerUptimeSeconds: 60\n"
    "Total Accesses: 12\nTotal kBytes: 3\nTotal Duration: 45\nBusyWorkers: 1\nIdleWorkers: 49\n"
    "ConnsTotal: 2\nScoreboard: _W__\n"
)


def test_apache_auto():
    found = {(p.name, p.labels.get("state")): p for p in apache_auto(AUTO, NOW, LABELS)}
    assert found["apache.requests", None].value == 12
    assert found["apache.traffic", None].value == 3072
    assert found["apache.workers", "idle"].value == 49
    assert found["apache.requests", None].start_us == NOW - 62 * SECOND
    assert found["process_start_time_seconds", None].kind == "evidence"
    bare = apache_auto("Total Accesses: 1\nBusyWorkers: 1\n", NOW, LABELS)
    assert [p.name for p in bare] == ["apache.requests", "apache.workers"]
    for text, said in (
        ("<html>", "auto"), ("BusyWorkers: 1\n", "ExtendedStatus"),
        ("BusyWorkers: 1\nTotal Accesses: x\n", "no number"),
    ):  # fmt: skip
        with pytest.raises(Unavailable, match=said):
            apache_auto(text, NOW, LABELS)


def test_nginx_plus():
    zone = {
        "requests": 10, "responses": {"1xx": 0, "2xx": 8, "3xx": 0, "4xx": 2, "5xx": 0},
        "received": 1000, "sent": 2000,
    }  # fmt: skip
    answers = {
        "nginx": {"load_timestamp": "2026-11-21T08:00:00.123Z"},
        "connections": {"accepted": 5, "dropped": 1, "active": 2, "idle": 3},
        "http/requests": {"total": 12},
        "http/server_zones": {"www": zone},
    }
    found = nginx_plus(answers, NOW, LABELS)
    values = {
        (p.name, p.labels.get("zone"), p.labels.get("status_range"), p.labels.get("direction")):
        p.value for p in found
    }  # fmt: skip
    assert values["nginx.requests", None, None, None] == 12
    assert values["nginx.zone.responses", "www", "4xx", None] == 2
    assert values["nginx.zone.io", "www", None, "transmit"] == 2000
    assert all(p.start_us == 0 for p in found)
    with pytest.raises(Unavailable, match="nginx Plus"):
        nginx_plus({"nginx": {}}, NOW, LABELS)
