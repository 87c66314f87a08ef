"""`make bench`: measures this machine and writes bench/REPORT.md and bench/REPORT.json.

Server and load generator run on the same cores; the generator's CPU is reported. Every figure
stands beside its target of CONTRACTS §7 as it is, reached or not.
"""

import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psutil

from bench.agent import report as footprints
from bench.bounds import bounds
from bench.checks_http import measured as checks_over_http
from bench.doors import report as doors
from bench.edge import following
from bench.limits import measure as limits
from bench.load import Plan
from bench.processes import finished, generator
from tallybook.adapters.delta.event_table import DeltaEventTable
from tallybook.adapters.duckdb.usage_reader import LakeUsageReader
from tallybook.catalog.meter import MeterSpec, check_meter
from tallybook.kernel.timestamps import DAY_US
from tallybook.meter.usage import UsageQuery
from tallybook.meter.window import bounds as bounds_of
from tests.e2e.server import KEY, Server

HERE = Path(__file__).parent
CATALOG = """
[[meters]]
key = "requests"
event_type = "http.server.request"
aggregation = "COUNT"
group_by = { status = "$.status" }

[[meters]]
key = "bytes"
event_type = "http.server.request"
aggregation = "SUM"
value = "$.bytes"
group_by = { region = "$.region", status = "$.status" }

[[plans]]
key = "bench"
currency = "USD"
""" + "".join(
    f"""
[[plans.charges]]
key = "c{i}"
meter = "{meter}"
[plans.charges.price]
type = "graduated"
tiers = [{{ up_to = "1000", unit_amount = "0.001" }}, {{ unit_amount = "0.0005" }}]
"""
    for i, meter in enumerate(["requests", "bytes", "requests", "bytes", "requests"])
)
CUSTOMERS = 1000
START_US = 1_793_491_200_000_000
"""2026-11-01T00:00:00Z, where the generator's event times begin."""


class Figure(msgspec.Struct, kw_only=True):
    """One line of the report."""

    name: str
    value: str
    target: str
    note: str = ""


def plan_for(server: Server, run: str, **more: Any) -> Plan:
    """Return a plan against a server."""
    parts = urlsplit(server.url)
    return Plan(
        host=parts.hostname or "",
        port=parts.port or 0,
        key=KEY,
        run=run,
        subjects=CUSTOMERS,
        **more,
    )


def memory_mb(server: Server) -> float:
    """Return the resident memory of the whole process tree."""
    pids = [server.pid, *(child["pid"] for child in server.children())]
    return sum(psutil.Process(pid).memory_info().rss for pid in pids) / 2**20


def counted(server: Server) -> int:
    """Return how many requests the meter counts now."""
    answer = server.get("/api/v1/meters/requests/query")["data"]
    return int(answer[0]["value"]) if answer else 0


def batches(server: Server, seconds: float) -> list[Figure]:
    """Measure accepting in batches, and how long the lake takes to follow."""
    before = counted(server)
    rates, shares = [], []
    sent = 0
    started = time.perf_counter()
    for i in range(3):
        result = finished(generator(plan_for(server, f"b{i}", seconds=seconds / 3)))
        assert result.refused == 0, result
        rates.append(result.events / result.seconds)
        shares.append(result.cpu_seconds / result.seconds)
        sent += result.events
    server.caught_up(600)
    spent = time.perf_counter() - started
    found = counted(server) - before
    assert found == sent, f"{found} counted of {sent} acknowledged"
    return [
        Figure(
            name="durable accept over HTTP, 1,000 events a request",
            value=f"{statistics.median(rates):,.0f} events/s",
            target="1,000,000 events/s",
            note=f"generator used {statistics.median(shares):.2f} of a core;"
            f" {sent:,} events, all counted",
        ),
        Figure(
            name="accepted, in the lake and queryable, sustained",
            value=f"{sent / spent:,.0f} events/s",
            target="400,000 events/s",
            note="from the first request until the lake held all of them;"
            f" peak memory {memory_mb(server):,.0f} MiB",
        ),
    ]


def accept_alone(server: Server, seconds: float) -> list[Figure]:
    """Measure accepting with the processes behind the log paused, and then how they catch up."""
    behind = [child["pid"] for child in server.children() if child["kind"] != "api"]
    accepted, drained = [], []
    for i in range(3):
        for pid in behind:
            os.kill(pid, signal.SIGSTOP)
        try:
            result = finished(generator(plan_for(server, f"a{i}", seconds=seconds / 3)))
        finally:
            for pid in behind:
                os.kill(pid, signal.SIGCONT)
        assert result.refused == 0, result
        accepted.append(result.events / result.seconds)
        started = time.perf_counter()
        server.caught_up(600)
        drained.append(result.events / (time.perf_counter() - started))
    return [
        Figure(
            name="the accept path alone, 1,000 events a request",
            value=f"{statistics.median(accepted):,.0f} events/s (best {max(accepted):,.0f})",
            target="1,000,000 events/s",
            note="durable in the log; pump and job runner paused, generator on the same cores",
        ),
        Figure(
            name="log to lake alone, while nothing comes in",
            value=f"{statistics.median(drained):,.0f} events/s",
            target="400,000 events/s",
            note="the backlog of the line above: read, judged for duplicates, committed",
        ),
    ]


def singles(server: Server, seconds: float) -> Figure:
    """Measure one event a request."""
    result = finished(generator(plan_for(server, "s", seconds=seconds, batch=1, connections=32)))
    assert result.refused == 0, result
    return Figure(
        name="durable accept over HTTP, one event a request",
        value=f"{result.requests / result.seconds:,.0f} requests/s,"
        f" p99 {result.latency_p99_ms:.1f} ms",
        target="10,000 requests/s, p99 < 25 ms",
        note=f"32 connections; generator used {result.cpu_seconds / result.seconds:.2f} of a core",
    )


def freshness(server: Server) -> Figure:
    """Measure how long an acknowledged event takes to be counted, at a moderate rate."""
    background = generator(plan_for(server, "f", seconds=12.0, rate=50_000.0))
    waits = []
    for i in range(40):
        body = {
            "specversion": "1.0",
            "id": f"fresh-{i}",
            "source": "/bench",
            "type": "fresh",
            "data": {},
        }
        server.post("/api/v1/events", json.dumps(body), kind="application/cloudevents+json")
        started = time.perf_counter()
        while not server.get(f"/api/v1/events?type=fresh&id=fresh-{i}")["items"]:
            time.sleep(0.02)
        waits.append(time.perf_counter() - started)
    finished(background)
    waits.sort()
    return Figure(
        name="freshness: acknowledged until a query sees it",
        value=f"p50 {waits[len(waits) // 2]:.2f} s, p99 {waits[-1]:.2f} s",
        target="p99 < 2 s",
        note="while 50,000 events/s come in; 40 probes",
    )


def queries(server: Server) -> Figure:
    """Measure one customer's month by hour."""
    path = (
        "/api/v1/meters/bytes/query?subject=customer-7&windowSize=HOUR"
        "&from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z"
    )
    times = []
    for _ in range(20):
        started = time.perf_counter()
        server.get(path)
        times.append((time.perf_counter() - started) * 1000)
    stored = server.get("/api/v1/status")["counters"]["accepted"]
    return Figure(
        name="meter query, one customer, one month by hour",
        value=f"median {statistics.median(times):.0f} ms",
        target="< 50 ms at 100 M events stored",
        note=f"{stored:,} events stored",
    )


def invoices(server: Server) -> Figure:
    """Measure a billing run of five lines an invoice."""
    customers = "".join(
        f'\n[[customers]]\nkey = "customer-{i}"\ncurrency = "USD"\nsubjects = ["customer-{i}"]\n'
        f'\n[[subscriptions]]\nkey = "s{i}"\ncustomer = "customer-{i}"\n'
        'plan = "bench"\nstart = "2026-11-01"\n'
        for i in range(CUSTOMERS)
    )
    server.post("/api/v1/catalog/apply", CATALOG + customers, kind="application/toml")
    started = time.perf_counter()
    made = server.bill_until_now()
    spent = time.perf_counter() - started
    return Figure(
        name="invoice run, without documents",
        value=f"{CUSTOMERS / spent:,.0f} invoices/s of 5 lines",
        target="10,000 invoices/s",
        note=f"{len(made)} invoices, from the request until the run says done",
    )


def entitlement_checks(seconds: float) -> Figure:
    """Measure asking whether a customer may use something, on a server of its own."""
    found = checks_over_http(seconds)
    cpu = found["CPU of the API processes a check, no events, ms"]
    return Figure(
        name="entitlement check over HTTP, 10,000 customers",
        value=f"p50 {found['p50 ms']:.1f} ms, p99 {found['p99 ms']:.1f} ms",
        target="p99 < 5 ms",
        note=f"{found['checks']:,.0f} checks, one in flight, while 500 events/s come in;"
        f" a check costs {cpu:.2f} ms of CPU while nothing comes in; load {found['load']}",
    )


def recompute(folder: Path) -> Figure:
    """Measure one meter's month from raw rows, without any roll-up."""
    table = DeltaEventTable(folder / "lake" / "events")
    reader = LakeUsageReader(table, folder / "no-rollups", threads=2)
    spec = MeterSpec(
        key="bytes", event_type="http.server.request", aggregation="SUM", value="$.bytes",
        group_by={"region": "$.region", "status": "$.status"},
    )  # fmt: skip
    month = bounds_of(START_US, START_US + 30 * DAY_US, "HOUR")
    query = UsageQuery(
        tenant="default", meter=check_meter(spec), bounds=month, cut=reader.head(), by_subject=True
    )
    started = time.perf_counter()
    rows = reader.usage(query)
    spent = time.perf_counter() - started
    events = sum(row.events for row in rows)
    return Figure(
        name="recompute one month of one meter from raw",
        value=f"{spent:.2f} s for {events:,} events ({events / spent:,.0f} events/s)",
        target="< 60 s for 100 M events (1,670,000 events/s)",
        note=f"{len(rows):,} groups of subject and hour",
    )


AGENT_TARGETS = {
    "edge agent at readings every 10 s": (
        "< 40 MiB, < 1 % of a core, < 1 MiB an hour",
        "this host's readings, measured at five times the rate and scaled",
    ),
    "edge agent at 500 log lines/s, each line an event": (
        "< 5 % of a core",
        "500 clients; raw lines do not compress to much less",
    ),
    "edge agent at 500 log lines/s, added up by the minute": (
        "< 5 % of a core",
        "one window a minute, client and status",
    ),
}


def agents(folder: Path) -> list[Figure]:
    """Measure the edge agent under its loads."""
    found = []
    for name, used in footprints(folder):
        target, note = AGENT_TARGETS[name]
        value = (
            f"{used.rss_mb:.0f} MiB, {used.core_share:.2%} of a core,"
            f" {used.mb_an_hour:.2f} MiB an hour"
        )
        found.append(Figure(name=name, value=value, target=target, note=note))
    return found


def front_doors(folder: Path) -> list[Figure]:
    """Measure reading, judging and storing what other people's agents send."""
    return [
        Figure(
            name=f"front door {speed.name}, requests of 1,000 points",
            value=f"{speed.points:,.0f} points/s of a core",
            target="none set",
            note=f"read alone {speed.read:,.0f}; protobuf's bare decoding of the same bytes"
            f" {speed.decode:,.0f}",
        )
        for speed in doors(folder)
    ]


def decisions(folder: Path) -> list[Figure]:
    """Measure what a usage plan costs a request."""
    cost = limits(folder)
    note = f"lock, read, write and unlock alone {cost['bare_us']:g} µs"
    names = {
        "rate_and_quota_us": "limits: a decision under a rate and a quota",
        "concurrency_too_us": "limits: under four of them",
        "wrapper_rate_and_quota_us": "limits: everything at the door, a rate and a quota",
        "wrapper_use_alone_us": "limits: counting the use of keys",
        "wrapper_no_plan_us": "limits: at the door where no plan applies",
    }
    target = f"< {cost['target_us']:g} µs"
    return [
        Figure(name=name, value=f"{cost[key]:g} µs of a core", target=target, note=note)
        for key, name in names.items()
    ]


def access_log(folder: Path) -> Figure:
    """Measure the edge agent on a log that grows."""
    used = following(folder)
    return Figure(
        name="edge agent on an access log",
        value=f"{used.core_share:.2%} of a core at {used.lines_a_second:,.0f} lines/s,"
        f" {used.rss_mb:.0f} MiB",
        target="5 % of a core at 500 lines/s",
        note=f"every line sent as an event; the last had arrived {used.lag_seconds:.1f} s later",
    )


def start_time(folder: Path) -> Figure:
    """Measure start to ready on a folder that exists."""
    times = []
    for _ in range(3):
        server = Server(folder)
        started = time.perf_counter()
        with server:
            times.append(time.perf_counter() - started)
    return Figure(
        name="start to ready",
        value=f"median {statistics.median(times):.2f} s",
        target="< 1 s",
        note="whole process tree: supervisor, two API workers, pump, job runner",
    )


def report(figures: list[Figure], bare: dict[str, float]) -> str:
    """Return the report as Markdown."""
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    machine = f"{os.cpu_count()} cores, {memory}, {platform.platform()}"
    versions = ", ".join(
        f"{n} {version(n)}" for n in ("granian", "msgspec", "pyarrow", "duckdb", "deltalake")
    )
    lines = [
        "# Benchmark report",
        "",
        f"Machine: {machine}. Python {platform.python_version()}; {versions}.",
        "Server and load generator share the cores. Figures vary with the machine: compare ratios.",
        "",
        "| figure | measured | target | how |",
        "|---|---|---|---|",
        *(f"| {f.name} | {f.value} | {f.target} | {f.note} |" for f in figures),
        "",
        "The bare minimum in the same run, one thread, nothing else done:",
        "",
        "| step | events/s |",
        "|---|---|",
        *(f"| {name} | {value:,.0f} |" for name, value in bare.items()),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure everything; `--quick` for a tenth of the time."""
    seconds = 6.0 if "--quick" in sys.argv else 30.0
    bare = bounds()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "data"
        with Server(folder, {"TALLYBOOK__SERVER__ACCESS_LOG": "false"}) as server:
            server.post("/api/v1/catalog/apply", CATALOG, kind="application/toml")
            time.sleep(2)  # until the last worker listens too, so that connections spread
            figures = batches(server, seconds)
            figures += accept_alone(server, seconds)
            figures += [
                singles(server, seconds / 3),
                freshness(server),
                queries(server),
                invoices(server),
            ]
        figures.append(entitlement_checks(seconds / 2))
        figures += [recompute(folder), start_time(folder), *agents(Path(name) / "edge")]
        figures.append(access_log(Path(name) / "log"))
        figures += front_doors(Path(name) / "doors")
        figures += decisions(Path(name) / "limits")
    text = report(figures, bare)
    (HERE / "REPORT.md").write_text(text)
    (HERE / "REPORT.json").write_text(
        json.dumps([msgspec.to_builtins(f) for f in figures], indent=1)
    )
    print(text)


if __name__ == "__main__":
    main()
