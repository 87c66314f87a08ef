"""Debian's Prometheus writes to a server that is killed meanwhile: totals are Prometheus' own."""

import os
import signal
import time

import pytest

from tests.e2e.server import KEY, Server
from tests.support.door_clients import Prometheus, await_equal, free_port, growths


def kill(server: Server) -> None:
    """End every process of the server at once, and start it again."""
    children = [child["pid"] for child in server.children()]
    for pid in (server.pid, *children):
        os.kill(pid, signal.SIGKILL)
    server._process.wait(10)
    server.revive()


def drill(tmp_path, seconds: float, kills: int) -> None:
    port = free_port()
    folder = tmp_path / "data"
    with Server(folder, {"TALLYBOOK__SERVER__API_WORKERS": "2"}, port=port) as server:
        url = f"http://127.0.0.1:{port}/api/v1/write"
        with Prometheus(tmp_path, url, KEY).running() as prometheus:
            for _ in range(kills):
                time.sleep(seconds / (kills + 1))
                kill(server)
            time.sleep(seconds / (kills + 1))
            prometheus.stop_scraping()
            minutes = int(seconds // 60) + 5
            expected, found = await_equal(
                lambda: (prometheus.counted(minutes), growths(folder, "prometheus")), 30
            )
            assert len(expected) > 20
            missing = {s: (expected.get(s), found.get(s)) for s in expected | found}
            assert found == expected, {s: v for s, v in missing.items() if v[0] != v[1]}
        status = server.get("/api/v1/status")
        assert status["counters"]["quarantined"] == 0
        assert status["counters"]["id_conflict"] == 0


def test_prometheus_writes_while_the_server_is_killed(tmp_path):
    drill(tmp_path, seconds=6, kills=1)


@pytest.mark.slow
def test_prometheus_writes_for_two_minutes_while_the_server_is_killed_twice(tmp_path):
    drill(tmp_path, seconds=120, kills=2)
