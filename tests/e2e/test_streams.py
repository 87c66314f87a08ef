"""Routing over HTTP with a real server: rules, groups that share, a kill in the middle, SSE."""

import contextlib
import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from tallybook.adapters.http.client import Client
from tallybook.kernel.errors import Refused
from tallybook.serve.cli.main import cli
from tests.e2e.server import KEY, Server

EVENTS = 2_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("streams") / "data") as made:
        yield made


def events(first: int, count: int, kind: str = "usage.http") -> list[dict[str, Any]]:
    return [
        {"specversion": "1.0", "id": f"{kind}-{n}", "source": f"edge-{n % 3}", "type": kind,
         "subject": f"c{n % 7}", "region": "eu", "data": {"n": n, "status": 200 + n % 4 * 100}}
        for n in range(first, first + count)
    ]  # fmt: skip


def send(client: Client, some: list[dict[str, Any]]) -> None:
    body = json.dumps(some).encode()
    kind = {"content-type": "application/cloudevents-batch+json"}
    client.raw("POST", "/api/v1/events", content=body, headers=kind)


def until(seconds: float, look: Any) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)
    return found


def drain(client: Client, stream: str, group: str, wanted: int, answer: str = "ack") -> list[int]:
    got: list[int] = []
    deadline = time.monotonic() + 90
    while len(got) < wanted and time.monotonic() < deadline:
        asked = {"group": group, "max": 300, "wait_seconds": 2}
        batch = client.get(f"/api/v1/streams/{stream}/records", asked)
        if batch["records"]:
            got += [record["event"]["data"]["n"] for record in batch["records"]]
            client.post(
                f"/api/v1/streams/{stream}/{answer}?group={group}", {"lease": batch["lease"]}
            )
    return got


def test_a_rule_fills_its_streams_once_also_over_kills_of_the_router(server: Server) -> None:
    with server.client() as client:
        pattern = {"type": ["usage.http"], "data": {"status": [{"numeric": [">=", 400]}]}}
        rule = {"key": "failures", "targets": ["failures", "audit"], "pattern": pattern}
        made = client.post("/api/v1/routes", rule)
        assert (made["version"], made["state"]) == (1, "enabled")
        wanted = [n for n in range(EVENTS) if 200 + n % 4 * 100 >= 400]
        killer = threading.Thread(target=_kill_routers, args=(server, 3))
        killer.start()
        for start in range(0, EVENTS, 250):
            send(client, events(start, 250))
            time.sleep(0.2)
        killer.join()
        for stream in ("failures", "audit"):
            until(90, lambda s=stream: _records(client, s) >= len(wanted))
            client.post(f"/api/v1/streams/{stream}/groups", {"name": "g", "to": "earliest"})
            assert sorted(drain(client, stream, "g", len(wanted))) == wanted
        until(60, lambda: _records(client, "unmatched") >= EVENTS - len(wanted))
        assert _records(client, "failures") == len(wanted)
        assert _records(client, "unmatched") == EVENTS - len(wanted)
        assert client.get("/api/v1/routes/failures")["delivered"] == 2 * len(wanted)


def _records(client: Client, stream: str) -> int:
    try:
        return int(client.get(f"/api/v1/streams/{stream}")["records"])
    except Refused:
        return 0


def _kill_routers(server: Server, times: int) -> None:
    for _ in range(times):
        time.sleep(0.4)
        for child in server.children():
            if child["kind"] == "router":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child["pid"], signal.SIGKILL)


def test_a_long_poll_is_answered_when_a_record_comes(server: Server) -> None:
    with server.client() as client:
        rule = {"pattern": {"type": ["poll"]}, "targets": ["polled"]}
        client.put("/api/v1/routes/polled", rule)
        client.put("/api/v1/streams/polled", {})
        client.post("/api/v1/streams/polled/groups", {"name": "g"})
        begun = time.monotonic()
        threading.Timer(0.5, lambda: send(client, events(0, 3, "poll"))).start()
        batch = client.get(
            "/api/v1/streams/polled/records", {"group": "g", "wait_seconds": 30, "max": 10}
        )
        assert 0.5 <= time.monotonic() - begun < 29
        assert [r["event"]["type"] for r in batch["records"]] == ["poll"] * 3
        assert batch["records"][0]["event"]["region"] == "eu"
        assert batch["records"][0]["rule"] == "polled"


def test_a_replay_begins_with_history(server: Server) -> None:
    with server.client() as client:
        send(client, events(0, 50, "old"))
        until(60, lambda: client.get("/api/v1/events", {"type": "old", "limit": 100})["items"][49:])
        rule = {"pattern": {"type": ["old"]}, "targets": ["history"]}
        client.put("/api/v1/routes/history", rule)
        assert _records(client, "history") == 0
        for expected in (50, 0):
            client.post("/api/v1/routes/history/replay", {})
            told = until(60, lambda: _ended(client))
            assert told["delivered"] == expected
        assert _records(client, "history") == 50


def _ended(client: Client) -> Any:
    (last, *_) = client.get("/api/v1/routes/history/versions")["replays"]
    return last if last["done_time"] else None


def test_events_sent_by_the_server_go_on_after_a_break(server: Server) -> None:
    with server.client() as client:
        rule = {"pattern": {"type": ["sse"]}, "targets": ["live"]}
        client.put("/api/v1/routes/live", rule)
        client.put("/api/v1/streams/live", {})
        client.post("/api/v1/streams/live/groups", {"name": "g", "lease_seconds": 20})
        send(client, events(0, 5, "sse"))
        first = _follow(server, "live", 3, None)
        assert [n for _, n in first] == [0, 1, 2]
        rest = _follow(server, "live", 2, first[-1][0])
        assert [n for _, n in rest] == [3, 4]
        group = client.get("/api/v1/streams/live/groups/g")
        assert group["acknowledged"] >= 3


def _follow(server: Server, stream: str, count: int, last: str | None) -> list[tuple[str, int]]:
    url = f"{server.url}/api/v1/streams/{stream}/sse?group=g"
    headers = {"authorization": f"Bearer {KEY}"} | ({"last-event-id": last} if last else {})
    request = urllib.request.Request(url, headers=headers)
    found, place = [], ""
    with urllib.request.urlopen(request, timeout=40) as answer:
        for raw in answer:
            name, _, text = raw.decode().strip().partition(": ")
            if name == "id":
                place = text
            elif name == "data":
                found.append((place, json.loads(text)["event"]["data"]["n"]))
                if len(found) == count:
                    break
    return found


def test_numbers_are_numbers_on_the_command_line(server: Server) -> None:
    shell = {"TALLYBOOK_URL": server.url, "TALLYBOOK_KEY": KEY}

    def run(*words: str) -> str:
        return CliRunner().invoke(cli, [*words], env=shell).output

    pattern = '{"data": {"took": [{"numeric": [">=", 2.50]}]}}'
    run("routes", "put", "exact", "--pattern", pattern, "--to", "exact")
    for words in (
        ("routes", "list"),
        ("routes", "show", "exact"),
        ("routes", "show", "exact", "--json"),
    ):
        assert '"2.5' not in run(*words)
    assert '[">=",2.50]' in run("routes", "show", "exact")
