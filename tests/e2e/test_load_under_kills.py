"""The bench's own generator against a server whose processes are killed: right to the event."""

import os
import signal
import time
from pathlib import Path

import pytest

from bench.catalog import MEASURED
from bench.generator.process import Generator
from bench.runs.common import SETTINGS, against
from bench.watch.totals import check_totals, totals
from tests.e2e.server import Server

EVENTS = 60_000
RATE = 10_000.0


@pytest.mark.slow(60)
def test_a_load_goes_on_over_killed_processes_and_every_total_agrees(tmp_path: Path) -> None:
    with Server(tmp_path / "data", SETTINGS) as server:
        server.post("/api/v1/catalog/apply", MEASURED, kind="application/toml")
        before = totals(server)
        plan = against(
            server, "kills", seconds=600.0, events_max=EVENTS, rate=RATE, batch=200, kinds=4,
            random_ids=True, duplicate_percent=10, bad_percent=1, resend=True,
        )  # fmt: skip
        load = Generator(plan)
        for number, kind in enumerate(("api", "pump", "api", "pump"), 1):
            _wait_for(server, load, before.received + number * EVENTS // 6)
            _kill(server, kind)
        result = load.result()
        assert result.sent.events == EVENTS
        check_totals(server, before, result.sent, resent=True)


def _wait_for(server: Server, load: Generator, received: int) -> None:
    """Wait until so much of the load has reached the lake, or all of it was sent."""
    while load.running:
        if server.get("/api/v1/status")["counters"]["received"] >= received:
            return
        time.sleep(0.05)


def _kill(server: Server, kind: str) -> None:
    """Kill one process of a kind; one that died meanwhile is as good."""
    pids = [int(child["pid"]) for child in server.children() if child["kind"] == kind]
    for pid in pids[:1]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
