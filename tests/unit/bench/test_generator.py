"""Bodies that add up to what is said of them, and a sender that keeps its word."""

import http.server
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import msgspec
import pytest

from bench.generator.bodies import BLOCKS, Bodies
from bench.generator.plan import KINDS, Plan, Sent
from bench.generator.send import Sending

PLANS = {
    "plain": Plan(run="abc"),
    "everything": Plan(
        kinds=4, random_ids=True, duplicate_percent=10, bad_percent=1, subjects=1_000_000
    ),
    "singles": Plan(batch=1, duplicate_percent=10, kinds=4),
    "odd batches": Plan(batch=7, duplicate_percent=50),
    "half again": Plan(batch=100, duplicate_percent=20, subjects=1_000),
}
METER_OF = {kind.type: kind.meter for kind in KINDS}


@pytest.mark.parametrize("name", PLANS)
def test_bodies_add_up_to_what_is_said_of_them(name: str) -> None:
    plan = PLANS[name]
    bodies = Bodies(plan)
    keys: Counter[tuple[int, int, int]] = Counter()
    found, seen = Sent(), {}
    counts: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    for body in islice(bodies, 3 * BLOCKS * max(1, 1000 // plan.batch)):
        keys[body.key] += 1
        events = msgspec.json.decode(body.content)
        events = events if isinstance(events, list) else [events]
        assert len(events) == body.events == plan.batch
        found.events += len(events)
        for event in events:
            if event["specversion"] != "1.0":
                found.bad += 1
            elif event["id"] in seen:
                found.duplicates += 1
                assert event == seen[event["id"]], "a duplicate is its original to the last byte"
            else:
                seen[event["id"]] = event
                meter = METER_OF[event["type"]]
                counts[meter] += 1
                sums[meter] += int(event["data"][meter])
    said = bodies.sent(keys)
    assert (said.events, said.duplicates, said.bad) == (found.events, found.duplicates, found.bad)
    assert said.new == len(seen)
    assert {key: value for key, value in said.counts.items() if value} == dict(counts)
    assert {key: value for key, value in said.sums.items() if value} == dict(sums)


def test_a_tenth_is_sent_again_and_a_hundredth_is_bad() -> None:
    bodies = Bodies(PLANS["everything"])
    sent = bodies.sent(Counter(body.key for body in islice(bodies, BLOCKS, 11 * BLOCKS)))
    assert sent.duplicates / sent.events == pytest.approx(0.1, abs=0.005)
    assert sent.bad / sent.events == pytest.approx(0.01)


def test_random_ids_are_in_no_order_and_two_runs_share_none() -> None:
    ids = [
        {event["id"] for event in msgspec.json.decode(next(iter(Bodies(plan))).content)}
        for plan in (Plan(random_ids=True, run="a"), Plan(random_ids=True, run="b"), Plan(run="a"))
    ]
    assert len(set.union(*ids)) == 3000
    body = msgspec.json.decode(next(iter(Bodies(Plan(random_ids=True)))).content)
    names = [event["id"] for event in body]
    assert names != sorted(names)


def test_subjects_are_as_many_as_asked() -> None:
    few = {event["subject"] for event in _events(Plan(subjects=10), 20)}
    assert len(few) == 10
    many = {event["subject"] for event in _events(Plan(subjects=1_000_000), 20)}
    assert len(many) == 20_000


def _events(plan: Plan, requests: int) -> list[dict[str, str]]:
    bodies = islice(Bodies(plan), requests)
    return [event for body in bodies for event in msgspec.json.decode(body.content)]


# ---------------------------------------------------------------- sending


BREAKS = 0
"""In the place of a status: it stores, and closes the connection without an answer."""


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers with the statuses of its server in turn, the last one for good."""

    protocol_version = "HTTP/1.1"
    server: "Listener"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.next_status()
        if status == BREAKS:
            self.server.stored.append(body)
            self.close_connection = True
            return
        text = b"no" if status >= 400 else b""
        if status < 300:
            self.server.stored.append(body)
        self.send_response(status)
        if status == 503:
            self.send_header("Retry-After", "0")
        if text:
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Listener(http.server.ThreadingHTTPServer):
    """What was stored, and which answers are left."""

    daemon_threads = True

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.stored: list[bytes] = []
        self._statuses = list(statuses)
        self._lock = threading.Lock()

    def next_status(self) -> int:
        with self._lock:
            return self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]


@contextmanager
def listening(*statuses: int) -> Iterator[Listener]:
    with Listener(*statuses) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield listener
        listener.shutdown()


def plan_for(listener: Listener, **more: object) -> Plan:
    plan = Plan(host="127.0.0.1", port=listener.server_port, key="k", connections=2, seconds=60)
    return msgspec.structs.replace(plan, **more)


def test_what_was_acknowledged_is_what_was_stored() -> None:
    with listening(204) as listener:
        result = Sending(plan_for(listener, batch=10, events_max=500)).run()
        stored = [event for body in listener.stored for event in msgspec.json.decode(body)]
    assert result.sent.events == len(stored) == 500
    assert result.requests == 50
    assert result.sent.sums == {"bytes": sum(event["data"]["bytes"] for event in stored)}
    assert (result.retried, result.refused, result.unsent) == (0, 0, 0)
    assert result.latency_ms["50"] <= result.latency_ms["99"] <= result.latency_ms["100"]
    assert result.bytes_sent == sum(map(len, listener.stored))


def test_throttled_requests_are_sent_again_until_they_are_taken() -> None:
    with listening(503, 429, 503, 204) as listener:
        result = Sending(plan_for(listener, batch=10, events_max=100)).run()
        stored = [event["id"] for body in listener.stored for event in msgspec.json.decode(body)]
    assert result.retried == 3
    assert result.refused == 0
    assert result.sent.events == 100
    assert len(set(stored)) == len(stored) == 100


def test_what_a_broken_connection_left_open_is_sent_again_to_the_last_byte() -> None:
    with listening(204, BREAKS, 204, BREAKS, 204) as listener:
        plan = plan_for(listener, batch=10, events_max=100, resend=True)
        result = Sending(plan).run()
        stored = [event["id"] for body in listener.stored for event in msgspec.json.decode(body)]
    assert result.resent == 2
    assert result.sent.events == 100
    assert len(stored) == 120
    assert len(set(stored)) == 100


def test_a_broken_connection_ends_a_run_that_does_not_send_again() -> None:
    with listening(204, BREAKS, 204) as listener, pytest.raises(ConnectionError):
        Sending(plan_for(listener, batch=10, events_max=100)).run()


def test_any_other_answer_is_a_refusal_and_is_shown() -> None:
    with listening(204, 400) as listener:
        result = Sending(plan_for(listener, batch=10, events_max=60)).run()
    assert result.sent.events == 10
    assert result.refused == 50
    assert result.refusals[0].startswith("400")
    assert len(result.refusals) == 3


def test_a_rate_is_held_and_what_it_could_not_send_is_told() -> None:
    with listening(204) as listener:
        held = Sending(plan_for(listener, batch=10, seconds=0.5, rate=1000.0)).run()
        flood = Sending(plan_for(listener, batch=10, seconds=0.5, rate=1e9)).run()
    assert held.sent.events <= 500
    assert flood.unsent > 0
    assert flood.sent.events > 0
