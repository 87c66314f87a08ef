"""The same figures at 1, 10 and 100 million events stored: what history costs.

One server is filled over HTTP, every total checked. At each mark: accepting and following, the
queries of a meter, a month from raw rows, memory. Accepting must not slow, a query must cost what
its answer costs, memory must not follow history.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.bare.steps import scan, steps
from bench.figures.numbers import Spread, percentile, spread
from bench.figures.page import number
from bench.figures.report import Bound, Figure, Found, Table, Verdict
from bench.generator.plan import Plan
from bench.generator.process import sent
from bench.runs.common import against, last_month, measured_server, quiet
from bench.watch.totals import check_totals, totals
from bench.watch.tree import Highest, between, folder_bytes, forget_peaks, uses
from tests.e2e.server import Server

MARKS = (1_000_000, 10_000_000, 100_000_000)
INGEST_EVENTS = 1_000_000
MONTH_SECONDS = 28 * 86_400
SLOWER_MAX = 0.15
MEMORY_MAX_MB = 1024
QUERIES = {
    "one customer, the month by hour": "subject=customer-0000007&windowSize=HOUR",
    "everybody, the month by day": "windowSize=DAY",
    "everybody by region, one number": "groupBy=region",
}


class Mark(msgspec.Struct, kw_only=True):
    """What was measured with so many events stored.

    Attributes:
        stored: events.
        accepted, followed: events a second of each round.
        cpu_us: of all server processes an event, of each round.
        query_ms: name -> milliseconds of each asking; query_cpu_ms: CPU of the API processes each.
        recompute_seconds, recompute_mb: one meter's month from raw rows, in a process of its own.
        scan_seconds: DuckDB's bare scan of the same files.
        peak_mb: largest resident memory by kind of process since the mark before.
        whole_mb: of the whole tree, shared pages counted once.
        stored_bytes: of the lake's folder.
    """

    stored: int
    accepted: list[float]
    followed: list[float]
    cpu_us: list[float]
    query_ms: dict[str, list[float]]
    query_cpu_ms: dict[str, float]
    recompute_seconds: float
    recompute_mb: float
    scan_seconds: float
    peak_mb: dict[str, float]
    whole_mb: float
    stored_bytes: int


def run(
    marks: Sequence[int] = MARKS,
    rounds: int = 3,
    times: int = 20,
    events: int = INGEST_EVENTS,
    folder: Path | None = None,
) -> Found:
    """Fill a server to each mark and measure there.

    Args:
        marks: events stored. rounds: of accepting. times: each query is asked.
        events: that a round sends.
        folder: data folder to use; one that vanishes where none is given.
    """
    bare = steps(Plan())["Parquet write"].rate
    found = []
    with measured_server(folder) as server:
        for mark in marks:
            found.append(_at(server, mark, rounds, times, events))
            print(f"growth: {mark:,} events measured", flush=True)
    return Found(
        figures=[figure for mark in found for figure in _figures(mark, bare)],
        verdicts=_verdicts(found),
        tables=[_table(found)],
    )


# ---------------------------------------------------------------- measuring


def _at(server: Server, mark: int, rounds: int, times: int, events: int) -> Mark:
    forget_peaks(server)
    with Highest(server) as highest:
        _fill(server, mark - rounds * events)
        quiet(server)
        ingest = [_ingest(server, f"g{mark}r{number_}", events) for number_ in range(rounds)]
        quiet(server)
        asked = {name: _asked(server, query, times) for name, query in QUERIES.items()}
        peaks = {kind: use.peak_mb for kind, use in uses(server).items()}
    recompute = _recomputed(server.folder)
    files = [str(path) for path in (server.folder / "lake" / "events").glob("**/*.parquet")]
    bare = scan(files, 0.1, threads=2)
    stored = totals(server).accepted
    return Mark(
        stored=stored,
        accepted=[one[0] for one in ingest],
        followed=[one[1] for one in ingest],
        cpu_us=[one[2] for one in ingest],
        query_ms={name: one[0] for name, one in asked.items()},
        query_cpu_ms={name: one[1] for name, one in asked.items()},
        recompute_seconds=recompute["seconds"],
        recompute_mb=recompute["peak_mb"],
        scan_seconds=stored / bare.rate,
        peak_mb=peaks,
        whole_mb=highest.whole_mb,
        stored_bytes=folder_bytes(server.folder / "lake"),
    )


def _fill(server: Server, upto: int) -> None:
    """Send what is missing, event times running through the month; checked."""
    before = totals(server)
    missing = (upto - before.accepted) // 1000 * 1000
    if missing <= 0:
        return
    plan = against(
        server, f"fill{upto}", seconds=1e9, events_max=missing,
        block_seconds=MONTH_SECONDS / (missing / 1000), spread_seconds=MONTH_SECONDS,
    )  # fmt: skip
    check_totals(server, before, sent(plan).sent)


def _ingest(server: Server, run_id: str, events: int) -> tuple[float, float, float]:
    """Return events a second accepted and followed, and CPU microseconds an event."""
    before, used, started = totals(server), uses(server), time.perf_counter()
    result = sent(
        against(
            server,
            run_id,
            seconds=1e9,
            events_max=events,
            block_seconds=MONTH_SECONDS / (events / 1000),
            spread_seconds=MONTH_SECONDS,
        )
    )
    server.caught_up(1800)
    spent = time.perf_counter() - started
    spent_cpu = between(used, uses(server))
    check_totals(server, before, result.sent)
    cpu = sum(spent_cpu[kind].cpu_seconds for kind in ("api", "pump"))
    return result.rate, events / spent, cpu / events * 1e6


def _asked(server: Server, query: str, times: int) -> tuple[list[float], float]:
    """Return milliseconds of each asking, and CPU milliseconds of the API processes each."""
    start, end = last_month()
    path = f"/api/v1/meters/bytes/query?{query}&from={_text(start)}&to={_text(end)}"
    server.get(path)
    used, found = uses(server), []
    for _ in range(times):
        started = time.perf_counter()
        server.get(path)
        found.append((time.perf_counter() - started) * 1000)
    cpu = between(used, uses(server))["api"].cpu_seconds
    return found, cpu / times * 1000


def _text(moment: object) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _recomputed(folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.runs.recompute", str(folder)]
    done = subprocess.run(command, capture_output=True, check=True)
    return {key: float(value) for key, value in json.loads(done.stdout).items()}


# ---------------------------------------------------------------- what is said of it


def _figures(mark: Mark, parquet: float) -> list[Figure]:
    at, whole = f"with {mark.stored / 1e6:,.3g} M events stored", mark.stored >= MARKS[-1]
    hour = mark.query_ms["one customer, the month by hour"]
    middle = statistics.median(hour)
    rate = spread(mark.followed)
    return [
        Figure(
            name=f"accepted until queryable, 1,000 events a request, {at}",
            spread=rate,
            unit="events/s",
            target="400,000 events/s",
            reached=rate.median >= 400_000,
            bounds=(Bound(name="Parquet write", value=parquet),),
            note=f"accepted at {statistics.median(mark.accepted):,.0f} events/s; totals agree",
            headline=whole,
        ),
        Figure(
            name=f"meter query, one customer, one month by hour, {at}",
            spread=Spread(middle, min(hour), max(hour), len(hour)),
            unit="ms",
            target="< 50 ms with 100 M events",
            reached=middle < 50 if whole else None,
            less_is_better=True,
            bounds=(Bound(name="DuckDB scan of the columns", value=mark.scan_seconds * 1000),),
            note=f"p99 {percentile(hour, 99):.0f} ms; over HTTP",
            headline=whole,
        ),
        Figure(
            name=f"one month of one meter recomputed from raw, {at}",
            spread=spread([mark.recompute_seconds]),
            unit="s",
            target="< 60 s for 100 M events",
            reached=mark.recompute_seconds < 60 if whole else None,
            less_is_better=True,
            bounds=(Bound(name="DuckDB scan of the columns", value=mark.scan_seconds),),
            note=f"two threads, {mark.recompute_mb:,.0f} MiB at most",
            headline=whole,
        ),
    ]


def _verdicts(marks: Sequence[Mark]) -> list[Verdict]:
    first, last = marks[0], marks[-1]
    slower = 1 - statistics.median(last.followed) / statistics.median(first.followed)
    dearer = statistics.median(last.cpu_us) / statistics.median(first.cpu_us) - 1
    grown = f"{first.stored:,} to {last.stored:,} events"
    whole = max(mark.whole_mb for mark in marks)
    return [
        Verdict(
            demand=f"from {grown}, following slows by at most {SLOWER_MAX:.0%}",
            held=slower <= SLOWER_MAX,
            found=f"{slower:+.1%} by the clock, {dearer:+.1%} CPU an event",
        ),
        *(_query_verdict(name, first, last) for name in QUERIES),
        Verdict(
            demand=f"the whole process tree stays under {MEMORY_MAX_MB:,} MiB",
            held=whole < MEMORY_MAX_MB,
            found=f"{whole:,.0f} MiB at most, pages that processes share counted once",
        ),
    ]


def _query_verdict(name: str, first: Mark, last: Mark) -> Verdict:
    """Judge a query whose answer is as long at both marks: its cost may double, not follow."""
    early, late = (statistics.median(mark.query_ms[name]) for mark in (first, last))
    return Verdict(
        demand=f"the query “{name}” costs what its answer costs",
        held=late <= max(2 * early, early + 10),
        found=f"{early:.0f} ms, then {late:.0f} ms with {last.stored / first.stored:,.0f} times the"
        f" events; CPU {first.query_cpu_ms[name]:.0f} and {last.query_cpu_ms[name]:.0f} ms",
    )


def _table(marks: Sequence[Mark]) -> Table:
    head = ("", *(f"{mark.stored:,} events" for mark in marks))
    rows: list[tuple[str, ...]] = [
        ("accepted, events/s", *(_median(mark.accepted) for mark in marks)),
        ("until queryable, events/s", *(_median(mark.followed) for mark in marks)),
        ("API and pump, CPU µs an event", *(_median(mark.cpu_us) for mark in marks)),
        *(
            (f"query “{name}”, ms (CPU)", *(_query(mark, name) for mark in marks))
            for name in QUERIES
        ),
        ("recomputed from raw, s", *(number(mark.recompute_seconds) for mark in marks)),
        ("bare scan, s", *(number(mark.scan_seconds) for mark in marks)),
        ("lake, bytes an event", *(number(mark.stored_bytes / mark.stored) for mark in marks)),
        *(
            (f"peak of {kind}, MiB", *(number(mark.peak_mb.get(kind, 0)) for mark in marks))
            for kind in marks[0].peak_mb
        ),
        ("peak of all, shared pages once, MiB", *(number(mark.whole_mb) for mark in marks)),
    ]
    return Table(title="What history costs", head=head, rows=tuple(rows))


def _median(values: Sequence[float]) -> str:
    return number(statistics.median(values))


def _query(mark: Mark, name: str) -> str:
    return f"{_median(mark.query_ms[name])} ({number(mark.query_cpu_ms[name])})"
