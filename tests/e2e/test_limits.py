"""Limits are exact: 64 clients, two workers, killed and started again; and so is the use of keys.

Guarantees 1, 2 and 5 of CONTRACTS §1 stand beside: what is counted is counted once.
"""

import http.client
import os
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from tests.e2e.server import Server, workers

CLIENTS = 64
DEADLINE_SECONDS = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of two workers; it is killed and started again, and each test has its own plan."""
    with Server(tmp_path_factory.mktemp("limits") / "data", workers(2)) as running:
        yield running


class Asking:
    """Requests of many clients with one key, and what became of them."""

    def __init__(self, server: Server, key: str) -> None:
        self.server, self.key = server, key
        self.statuses: Counter[int] = Counter()
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()

    def fire(self, number: int, method: str = "GET", path: str = "/api/v1/meters") -> None:
        """Send requests from 64 clients, and count the answers; no answer is status 0."""
        parts = [number // CLIENTS + (one < number % CLIENTS) for one in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda share: self.client(share, method, path), parts))

    def client(self, number: int, method: str, path: str) -> None:
        connection = self.connected()
        for _ in range(number):
            try:
                connection.request(method, path, headers={"Authorization": f"Bearer {self.key}"})
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                status = 0
                connection.close()
                connection = self.connected()
            with self.lock:
                self.statuses[status] += 1
                if status:
                    found = {name.lower(): value for name, value in answer.getheaders()}
                    self.headers.append(found)
        connection.close()

    def connected(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.server.url)
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=90)


def api(server: Server, method: str, path: str, body: Any = None) -> Any:
    content = msgspec.json.encode(body) if body is not None else b""
    answer = server.raw(method, f"/api/v1{path}", content)
    return msgspec.json.decode(answer) if answer else None


def plan(server: Server, name: str, *limits: dict[str, Any]) -> None:
    api(server, "PUT", f"/usage-plans/{name}", {"key": name, "limits": list(limits)})


def key_on_plan(server: Server, name: str) -> dict[str, str]:
    made = {"name": "limited", "scopes": ["ingest", "read"], "usage_plan": name}
    key: dict[str, str] = api(server, "POST", "/keys", made)
    learned(server)
    return key


def learned(server: Server) -> None:
    """Wait until each worker knows all keys and plans so far: it has heard of later ones.

    A key is not asked for itself, for every request with it counts.
    """
    name = f"later-{secrets.token_hex(4)}"
    plan(server, name, {"type": "rate", "key": "r", "rate": 10**6})
    later = api(server, "POST", "/keys", {"name": name, "scopes": ["read"], "usage_plan": name})

    def told() -> bool:
        asking = Asking(server, later["key"])
        asking.client(1, "GET", "/api/v1/meters")
        return any("ratelimit" in headers for headers in asking.headers)

    server.by_all(told)


def quota(limit: int, **more: Any) -> dict[str, Any]:
    return {"type": "quota", "key": "q", "limit": limit, "window": "month", **more}


def test_64_clients_through_two_workers_get_exactly_what_a_quota_allows(server: Server) -> None:
    plan(server, "two", quota(500, warn=[80]), {"type": "rate", "key": "r", "rate": 10**6})
    key = key_on_plan(server, "two")
    asking = Asking(server, key["key"])
    asking.fire(1_500)
    assert asking.statuses == {200: 500, 429: 1_000}
    usage = api(server, "GET", f"/keys/{key['id']}/usage")
    assert [(one["used"], one["left"]) for one in usage["limits"]] == [(500, 0), (0, 10**6)]
    assert all("ratelimit" in headers for headers in asking.headers)
    refused = [one for one in asking.headers if "retry-after" in one]
    assert len(refused) == 1_000
    assert len(api_workers(server)) == 2


def api_workers(server: Server) -> list[int]:
    return [child["pid"] for child in server.children() if child["kind"] == "api"]


def test_a_quota_holds_over_kills_of_workers_and_of_the_whole_server(server: Server) -> None:
    plan(server, "kills", quota(600))
    asking = Asking(server, key_on_plan(server, "kills")["key"])
    asking.fire(200)
    assert asking.statuses == {200: 200}
    firing = threading.Thread(target=asking.fire, args=(200,))
    firing.start()
    time.sleep(0.05)
    for pid in api_workers(server):
        os.kill(pid, signal.SIGKILL)
    firing.join()
    lost = asking.statuses[0]
    server.kill()
    server.revive()
    asking.fire(600)
    answered = asking.statuses[200]
    assert answered + asking.statuses[429] + asking.statuses[0] == 1_000
    # A request that was let in and killed before its answer has been counted.
    assert 600 - lost <= answered <= 600, asking.statuses
    assert asking.statuses[429] >= 1


def test_nothing_was_lost_where_everybody_was_answered_before_the_kill(server: Server) -> None:
    plan(server, "answered", quota(300, per="tenant"))
    asking = Asking(server, key_on_plan(server, "answered")["key"])
    asking.fire(250)
    server.kill()
    server.revive()
    asking.fire(250)
    assert asking.statuses == {200: 300, 429: 200}


def test_places_at_once_are_given_back_by_workers_that_are_killed(server: Server) -> None:
    plan(server, "places", {"type": "concurrency", "key": "c", "limit": 2})
    key = key_on_plan(server, "places")
    held = [slow_post(server, key["key"]) for _ in range(2)]
    deadline = time.monotonic() + DEADLINE_SECONDS
    asking = Asking(server, key["key"])
    while not asking.statuses[429] and time.monotonic() < deadline:
        asking.client(1, "GET", "/api/v1/meters")
    assert asking.statuses[429], "two requests that hang hold both places"
    for pid in api_workers(server):
        os.kill(pid, signal.SIGKILL)
    server.get("/api/v1/status")  # tried again until the next worker answers
    again = Asking(server, key["key"])
    again.client(5, "GET", "/api/v1/meters")
    assert again.statuses == {200: 5}
    for connection in held:
        connection.close()


def slow_post(server: Server, key: str) -> http.client.HTTPConnection:
    """Begin a request whose body never comes."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    connection.putrequest("POST", "/api/v1/events")
    connection.putheader("Authorization", f"Bearer {key}")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"[")
    return connection


def test_the_use_of_keys_is_a_meter_whose_sum_is_what_was_asked(tmp_path: Path) -> None:
    kills = 3
    settings = {
        **workers(2),
        "TALLYBOOK__GATE__METER_USE": "true",
        "TALLYBOOK__GATE__USE_SECONDS": "1",
    }
    with Server(tmp_path / "data", settings) as server:
        meter = {
            "key": "calls",
            "event_type": "tallybook.api.request",
            "aggregation": "SUM",
            "value": "$.requests",
            "group_by": {"route": "$.route", "class": "$.class", "key": "$.key"},
        }
        api(server, "POST", "/meters", meter)
        made = {"name": "metered", "scopes": ["ingest"]}
        key = api(server, "POST", "/keys", made)
        learned(server)
        asking = Asking(server, key["key"])
        for _ in range(kills):
            asking.fire(150, "POST", "/api/v1/events")  # an empty body: 400, and counted
            for child in server.children():
                if child["kind"] == "jobs":
                    os.kill(child["pid"], signal.SIGKILL)
            time.sleep(0.7)
        answered = sum(count for status, count in asking.statuses.items() if status)
        assert answered == 150 * kills
        found = 0
        deadline = time.monotonic() + 60
        while found != answered and time.monotonic() < deadline:
            time.sleep(0.2)
            where = f"filterGroupBy[key]={key['id']}&filterGroupBy[route]=events"
            told = server.get(f"/api/v1/meters/calls/query?{where}")
            found = sum(int(row["value"]) for row in told["data"])
        time.sleep(2)  # the use of keys is reported each second: there is no more to come
        told = server.get(f"/api/v1/meters/calls/query?{where}")
        assert [int(row["value"]) for row in told["data"]] == [answered]
        usage = api(server, "GET", f"/keys/{key['id']}/usage")
        assert usage["use"] == [
            {"route": "events", "status": "4xx", "requests": answered, "events": 0}
        ]


GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "limits.md"


def test_the_guides_plan_by_command(server: Server, tmp_path: Path) -> None:
    file, other = tmp_path / "plans.toml", tmp_path / "other.toml"
    file.write_text(GUIDE.read_text().split("```toml\n")[1].split("```")[0])
    guest = server.tenant("guide")

    def command(*words: str, code: int = 0) -> str:
        return guest.tallybook("usage-plan", *words, code=code)

    assert "No usage plans" in command("list")
    shown = guest.tallybook("apply", str(file), "--diff")
    assert "+ usage-plan standard" in shown
    assert "No usage plans" in command("list")
    assert "Applied 1 changes" in guest.tallybook("apply", str(file), "--yes")
    assert "nothing to change" in guest.tallybook("apply", str(file), "--diff")
    assert "standard (version 2)" in command("set", str(file))
    assert "Standard" in command("list")
    shown = command("show", "standard")
    for words in ("50 requests a second", "1000000 events a month", "80 %, 95 %"):
        assert words in shown, shown
    key = api(guest, "POST", "/keys", {"name": "k", "scopes": ["ingest"]})
    assert "is on standard" in command("use", key["id"], "standard")
    assert "1000000" in command("usage", key["id"])
    assert "in-use" in command("drop", "standard", code=1)
    assert "default plan" in command("use", key["id"])
    learned(server)
    asking = Asking(server, key["key"])
    asking.client(1, "POST", "/api/v1/events")
    (headers,) = asking.headers
    assert headers["ratelimit-policy"] == '"pace";q=200;w=4', "no event was counted"
    assert headers["ratelimit"].startswith('"pace";r=199;t=1')
    assert "out of use" in command("drop", "standard")
    other.write_text("[[plans]]\n")
    assert "no [[usage_plans]]" in command("set", str(other), code=1)
