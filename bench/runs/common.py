"""What the benches of the whole server share: a server with meters, plans for it, times."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.catalog import MEASURED
from bench.generator.plan import Plan
from tests.e2e.server import KEY, Server

SETTLE_SECONDS = 2.0
QUIET_SHARE = 0.15
QUIET_SECONDS_MAX = 120.0
SETTINGS = {"TALLYBOOK__SERVER__ACCESS_LOG": "false"}


@contextmanager
def measured_server(folder: Path | None = None) -> Iterator[Server]:
    """Yield a server with the meters of all generated events, on a folder that vanishes."""
    with (
        tempfile.TemporaryDirectory(prefix="tallybook-bench-") as name,
        Server(folder or Path(name) / "data", SETTINGS) as server,
    ):
        server.post("/api/v1/catalog/apply", MEASURED, kind="application/toml")
        time.sleep(SETTLE_SECONDS)  # until the last worker listens, so that connections spread
        yield server


def against(server: Server, run: str, **more: Any) -> Plan:
    """Return a plan against a server; event times lie in the calendar month before this one."""
    parts = urlsplit(server.url)
    start, _ = last_month()
    return Plan(
        host=parts.hostname or "",
        port=parts.port or 0,
        key=KEY,
        run=run,
        start_us=int(start.timestamp()) * 1_000_000,
        **more,
    )


def last_month(now: datetime | None = None) -> tuple[datetime, datetime]:
    """Return the calendar month before this one, first instant and end, UTC.

    Events of the future are refused, so what a bench sends must lie behind whoever runs it.
    """
    today = now or datetime.now(UTC)
    end = today.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (end - timedelta(days=1)).replace(day=1), end


def behind(server: Server) -> int:
    """Return how many acknowledged events no query sees yet."""
    parts = server.get("/api/v1/status")["partitions"]
    return sum(int(part["events_behind"]) for part in parts)


def quiet(server: Server, seconds_max: float = QUIET_SECONDS_MAX) -> None:
    """Wait until compaction and roll-ups have nothing left to do."""
    from bench.watch.tree import between, total_cpu, uses

    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        before, started = uses(server), time.perf_counter()
        time.sleep(4.0)
        used = total_cpu(between(before, uses(server)))
        if used / (time.perf_counter() - started) < QUIET_SHARE:
            return
