"""Debian's Prometheus writes to a server that is killed meanwhile: totals are Prometheus' own."""

import os
import signal
import time
from contextlib import suppress

import pytest

from tests.e2e.server import KEY, Server, workers
from tests.support.door_clients import Prometheus, await_equal, free_port, growths


def kill(server: Server) -> None:
    """End every process of the server at once, and start it again.

    A child may have ended with the supervisor, or been killed by the test; the supervisor may not.
    """
    children = [child["pid"] for child in server.children()]
    os.kill(server.pid, signal.SIGKILL)
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server._process.wait(60)
    server.revive()


def scrape(prometheus: Prometheus, seconds: int) -> None:
    """Wait until it has read itself so many seconds' worth more: once a second."""
    wanted, deadline = prometheus.scraped() + seconds, time.monotonic() + seconds + 60
    while prometheus.scraped() < wanted:
        assert time.monotonic() < deadline, "Prometheus does not read itself"
        time.sleep(0.1)


def drill(tmp_path, seconds: int, kills: int) -> None:
    port = free_port()
    folder = tmp_path / "data"
    with Server(folder, workers(2), port=port) as server:
        url = f"http://127.0.0.1:{port}/api/v1/write"
        with Prometheus(tmp_path, url, KEY).running() as prometheus:
            for _ in range(kills):
                scrape(prometheus, seconds // (kills + 1))
                kill(server)
            scrape(prometheus, seconds // (kills + 1))
            prometheus.stop_scraping()
            minutes = seconds // 60 + 10
            expected, found = await_equal(
                lambda: (prometheus.counted(minutes), growths(folder, "prometheus")), 90
            )
            assert len(expected) > 20
            missing = {s: (expected.get(s), found.get(s)) for s in expected | found}
            assert found == expected, {s: v for s, v in missing.items() if v[0] != v[1]}
        status = server.get("/api/v1/status")
        assert status["counters"]["quarantined"] == 0
        assert status["counters"]["id_conflict"] == 0


def test_prometheus_writes_while_the_server_is_killed(tmp_path):
    drill(tmp_path, seconds=4, kills=1)


@pytest.mark.slow(130)
def test_prometheus_writes_for_two_minutes_while_the_server_is_killed_twice(tmp_path):
    drill(tmp_path, seconds=120, kills=2)
