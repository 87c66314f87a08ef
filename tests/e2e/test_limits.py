"""Limits are exact: 64 clients, two workers, killed and started again; and so is the use of keys.

Guarantees 1, 2 and 5 of CONTRACTS §1 stand beside: what is counted is counted once.
"""

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tests.e2e.server import KEY, Server

CLIENTS = 64
TWO = {"TALLYBOOK__SERVER__API_WORKERS": "2"}


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
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)


def api(server: Server, method: str, path: str, body: Any = None) -> Any:
    content = msgspec.json.encode(body) if body is not None else b""
    answer = server.raw(method, f"/api/v1{path}", content)
    return msgspec.json.decode(answer) if answer else None


def plan(server: Server, *limits: dict[str, Any], **more: Any) -> None:
    api(server, "PUT", "/usage-plans/p", {"key": "p", "limits": list(limits), **more})


def key_on_plan(server: Server, **more: Any) -> dict[str, str]:
    made = {"name": "limited", "scopes": ["ingest", "read"], "usage_plan": "p", **more}
    key: dict[str, str] = api(server, "POST", "/keys", made)
    wait_known(server, key["key"])
    return key


def wait_known(server: Server, key: str) -> None:
    """Wait until both workers know of a key and its plan: they look twice a second."""
    del key, server
    time.sleep(1.5)


def quota(limit: int, **more: Any) -> dict[str, Any]:
    return {"type": "quota", "key": "q", "limit": limit, "window": "month", **more}


def test_64_clients_through_two_workers_get_exactly_what_a_quota_allows(tmp_path: Path) -> None:
    with Server(tmp_path / "data", TWO) as server:
        plan(server, quota(500, warn=[80]), {"type": "rate", "key": "r", "rate": 10**6})
        key = key_on_plan(server)
        asking = Asking(server, key["key"])
        asking.fire(1_500)
        assert asking.statuses == {200: 500, 429: 1_000}
        usage = api(server, "GET", f"/keys/{key['id']}/usage")
        assert [(one["used"], one["left"]) for one in usage["limits"]] == [(500, 0), (0, 10**6)]
        assert all("ratelimit" in headers for headers in asking.headers)
        refused = [one for one in asking.headers if "retry-after" in one]
        assert len(refused) == 1_000
        workers = [child["pid"] for child in server.children() if child["kind"] == "api"]
        assert len(workers) == 2


def test_a_quota_holds_over_kills_of_workers_and_of_the_whole_server(tmp_path: Path) -> None:
    with Server(tmp_path / "data", TWO) as server:
        plan(server, quota(600))
        asking = Asking(server, key_on_plan(server)["key"])
        asking.fire(200)
        assert asking.statuses == {200: 200}
        firing = threading.Thread(target=asking.fire, args=(200,))
        firing.start()
        time.sleep(0.05)
        for child in server.children():
            if child["kind"] == "api":
                os.kill(child["pid"], signal.SIGKILL)
        firing.join()
        lost = asking.statuses[0]
        os.kill(server.pid, signal.SIGKILL)
        server.revive()
        time.sleep(1.5)
        asking.fire(600)
        answered = asking.statuses[200]
        assert answered + asking.statuses[429] + asking.statuses[0] == 1_000
        # A request that was let in and killed before its answer has been counted.
        assert 600 - lost <= answered <= 600, asking.statuses
        assert asking.statuses[429] >= 1


def test_nothing_was_lost_where_everybody_was_answered_before_the_kill(tmp_path: Path) -> None:
    with Server(tmp_path / "data", TWO) as server:
        plan(server, quota(300, per="tenant"))
        asking = Asking(server, key_on_plan(server)["key"])
        asking.fire(250)
        os.kill(server.pid, signal.SIGKILL)
        server.revive()
        time.sleep(1.5)
        asking.fire(250)
        assert asking.statuses == {200: 300, 429: 200}


def test_places_at_once_are_given_back_by_workers_that_are_killed(tmp_path: Path) -> None:
    settings = {**TWO, "TALLYBOOK__SERVER__API_WORKERS": "1"}
    with Server(tmp_path / "data", settings) as server:
        plan(server, {"type": "concurrency", "key": "c", "limit": 2})
        key = key_on_plan(server)
        held = [slow_post(server, key["key"]) for _ in range(2)]
        deadline = time.monotonic() + 20
        while True:
            asking = Asking(server, key["key"])
            asking.client(1, "GET", "/api/v1/meters")
            if asking.statuses[429] or time.monotonic() > deadline:
                break
        assert asking.statuses[429], "two requests that hang hold both places"
        (worker,) = [child["pid"] for child in server.children() if child["kind"] == "api"]
        os.kill(worker, signal.SIGKILL)
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
        **TWO,
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
        time.sleep(1.5)
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
            time.sleep(1)
            where = f"filterGroupBy[key]={key['id']}&filterGroupBy[route]=events"
            told = server.get(f"/api/v1/meters/calls/query?{where}")
            found = sum(int(row["value"]) for row in told["data"])
        time.sleep(3)
        told = server.get(f"/api/v1/meters/calls/query?{where}")
        assert [int(row["value"]) for row in told["data"]] == [answered]
        usage = api(server, "GET", f"/keys/{key['id']}/usage")
        assert usage["use"] == [
            {"route": "events", "status": "4xx", "requests": answered, "events": 0}
        ]
        assert KEY


PLANS = ("usage-plan",)
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "limits.md"


def test_the_guides_plan_by_command(tmp_path: Path) -> None:
    (tmp_path / "plans.toml").write_text(GUIDE.read_text().split("```toml\n")[1].split("```")[0])
    with Server(tmp_path / "data", TWO) as server:
        environment = {**os.environ, "TALLYBOOK_URL": server.url, "TALLYBOOK_KEY": KEY}

        def command(*arguments: str, code: int = 0, group: tuple[str, ...] = PLANS) -> str:
            done = subprocess.run(
                [sys.executable, "-m", "tallybook", *group, *arguments],
                capture_output=True,
                env=environment,
                cwd=tmp_path,
                text=True,
                check=False,
            )
            assert done.returncode == code, done.stderr
            return done.stdout + done.stderr

        assert "No usage plans" in command("list")
        shown = command("plans.toml", "--diff", group=("apply",))
        assert "+ usage-plan standard" in shown
        assert "No usage plans" in command("list")
        assert "Applied 1 changes" in command("plans.toml", "--yes", group=("apply",))
        assert "nothing to change" in command("plans.toml", "--diff", group=("apply",))
        assert "standard (version 2)" in command("set", "plans.toml")
        assert "Standard" in command("list")
        shown = command("show", "standard")
        for words in ("50 requests a second", "1000000 events a month", "80 %, 95 %"):
            assert words in shown, shown
        key = api(server, "POST", "/keys", {"name": "k", "scopes": ["ingest"]})
        assert "is on standard" in command("use", key["id"], "standard")
        assert "1000000" in command("usage", key["id"])
        assert "in-use" in command("drop", "standard", code=1)
        assert "default plan" in command("use", key["id"])
        wait_known(server, key["key"])
        asking = Asking(server, key["key"])
        asking.client(1, "POST", "/api/v1/events")
        (headers,) = asking.headers
        assert headers["ratelimit-policy"] == '"pace";q=200;w=4', "no event was counted"
        assert headers["ratelimit"].startswith('"pace";r=199;t=1')
        assert "out of use" in command("drop", "standard")
        (tmp_path / "other.toml").write_text("[[plans]]\n")
        assert "no [[usage_plans]]" in command("set", "other.toml", code=1)
