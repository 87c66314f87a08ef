"""How long an acknowledged event takes until a query sees it, while others come in."""

import json
import time
from collections.abc import Sequence

from bench.figures.numbers import percentile, spread
from bench.figures.page import number
from bench.figures.report import Figure, Found, Table
from bench.generator.process import Generator
from bench.runs.common import against, measured_server
from bench.watch.totals import totals
from tests.e2e.server import Server

PROBE = "fresh"
METER = '[[meters]]\nkey = "fresh"\nevent_type = "fresh"\naggregation = "COUNT"\n'
PAUSE_SECONDS = 0.25
LOOK_SECONDS, LOOK_SHARE = 0.05, 0.1
"""The pause from one question to the next, and the share of what was waited that it is at least:
asked more often, the questions would be a good part of the load, most of all where it is high."""
WAIT_SECONDS_MAX = 120.0
TARGET_SECONDS = 2.0


class Probes:
    """Events sent one by one, each waited for until the meter has counted it."""

    def __init__(self, server: Server) -> None:
        """Declare the meter."""
        self._server = server
        server.post("/api/v1/catalog/apply", METER, kind="application/toml")
        self._count = 0
        self.waits: list[float] = []

    def one(self) -> float:
        """Send one; return the seconds from its 204 until the meter has it."""
        self._count += 1
        event = {
            "specversion": "1.0",
            "id": f"fresh-{self._count}",
            "source": "/probe",
            "type": PROBE,
            "data": {},
        }
        kind = "application/cloudevents+json"
        self._server.post("/api/v1/events", json.dumps(event), kind=kind)
        started = time.perf_counter()
        while self._counted() < self._count:
            waited = time.perf_counter() - started
            if waited > WAIT_SECONDS_MAX:
                status = self._server.get("/api/v1/status")
                raise AssertionError(
                    f"event {self._count:,} was not counted within {WAIT_SECONDS_MAX:.0f} s,"
                    f" only {self._counted():,}; the server says {json.dumps(status)}"
                )
            time.sleep(max(LOOK_SECONDS, LOOK_SHARE * waited))
        self.waits.append(time.perf_counter() - started)
        return self.waits[-1]

    def _counted(self) -> int:
        data = self._server.get(f"/api/v1/meters/{PROBE}/query")["data"]
        return int(data[0]["value"]) if data else 0


def run(seconds: float = 30.0, rates: Sequence[float] = (50_000.0, 200_000.0, 400_000.0)) -> Found:
    """Measure at several rates that are offered, whether or not the server follows."""
    figures, rows = [], []
    with measured_server() as server:
        probes = Probes(server)
        for rate in rates:
            before = totals(server)
            first = len(probes.waits)
            load = Generator(against(server, f"f{rate:.0f}", seconds=seconds, rate=rate))
            while load.running:
                probes.one()
                time.sleep(PAUSE_SECONDS)
            result, waits = load.result(), probes.waits[first:]
            mine = len(waits)
            server.caught_up(1800)
            after = totals(server)
            _check(result.sent.new + mine, after.accepted - before.accepted)
            figures.append(_figure(waits, rate, result.rate))
            rows.append(_row(waits, rate, result.rate, result.unsent))
    head = (
        "offered events/s",
        "taken",
        "not taken in time",
        "p50 s",
        "p90",
        "p99",
        "most",
        "probes",
    )
    return Found(figures=figures, tables=[Table(title="Waits", head=head, rows=tuple(rows))])


def _check(wanted: int, found: int) -> None:
    assert wanted == found, f"{found:,} events accepted, {wanted:,} were sent"


def _figure(waits: Sequence[float], rate: float, taken: float) -> Figure:
    p99 = percentile(waits, 99)
    followed = taken > 0.95 * rate
    return Figure(
        name=f"freshness p99: from the 204 until a query sees it, {rate:,.0f} events/s offered",
        spread=spread([p99]),
        unit="s",
        target=f"< {TARGET_SECONDS:g} s",
        reached=p99 < TARGET_SECONDS and followed,
        less_is_better=True,
        note=f"{len(waits)} probes; {taken:,.0f} events/s were taken",
        headline=True,
    )


def _row(waits: Sequence[float], rate: float, taken: float, unsent: int) -> tuple[str, ...]:
    shares = [number(percentile(waits, share)) for share in (50, 90, 99, 100)]
    return (f"{rate:,.0f}", f"{taken:,.0f}", f"{unsent:,}", *shares, str(len(waits)))
