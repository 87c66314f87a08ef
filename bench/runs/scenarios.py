"""Accepting events over HTTP, and the lake that follows, in all the shapes that events come in.

Each round has a server of its own, warmed up, and runs every scenario once; after each the totals
are checked to the event. Figures are medians of the rounds.
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from bench.bare.http import Bare, bare_http
from bench.bare.steps import Step, steps
from bench.figures.numbers import spread
from bench.figures.page import number
from bench.figures.report import Bound, Figure, Found, Table
from bench.generator.plan import Plan, Result
from bench.generator.process import sent
from bench.runs.common import against, measured_server
from bench.watch.totals import check_totals, totals
from bench.watch.tree import Use, between, folder_bytes, forget_peaks, uses
from tests.e2e.server import Server


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One shape of load.

    Attributes:
        plan: what differs from the plainest plan.
        alone: the processes behind the log are held meanwhile, so that accepting is alone, and
            then the lake is.
    """

    name: str
    title: str
    plan: dict[str, Any]
    alone: bool = False


WARM_SECONDS = 2.0
"""Load before the first scenario of a round: a server's first second is spent on being new."""
WARM_QUERIES = 8
"""So many, so that each worker has answered one."""
WORST = {"kinds": 4, "random_ids": True, "duplicate_percent": 10, "subjects": 1_000_000}
SINGLE = {"batch": 1, "connections": 32}
SCENARIOS = (
    Scenario(name="batches", title="1,000 events a request", plan={}),
    Scenario(name="many", title="the same, 32 connections", plan={"connections": 32}),
    Scenario(name="random", title="the same, ids in no order", plan={"random_ids": True}),
    Scenario(name="mixed", title="the same, four types mixed", plan={"kinds": 4}),
    Scenario(name="again", title="the same, 10 % duplicates", plan={"duplicate_percent": 10}),
    Scenario(name="subjects", title="the same, 1,000,000 subjects", plan={"subjects": 1_000_000}),
    Scenario(
        name="worst",
        title="all of that at once, and 1 % quarantined",
        plan={**WORST, "bad_percent": 1},
    ),
    Scenario(name="alone", title="1,000 events a request, lake held", plan={}, alone=True),
    Scenario(name="singles", title="one event a request, 32 connections", plan=SINGLE),
    Scenario(
        name="singles-many",
        title="the same, 128 connections",
        plan={**SINGLE, "connections": 128},
    ),
    Scenario(
        name="single-worst",
        title="32 connections, mixed types, random ids, 10 % duplicates",
        plan={**SINGLE, **WORST},
    ),
)


class Measured(msgspec.Struct, kw_only=True):
    """One scenario of one round.

    Attributes:
        result: of the generator.
        followed: events a second, from the first request until the lake had them all.
        drained: events a second of the lake alone; 0 where it was not held.
        used: by kind of process, until the lake had all.
        stored_bytes: that the data folder grew by.
        http: the bare server under the same plan.
    """

    result: Result
    followed: float
    drained: float
    used: dict[str, Use]
    stored_bytes: int
    http: Bare


def run(
    rounds: int = 3, seconds: float = 8.0, only: Sequence[str] = (), bare_seconds: float = 3.0
) -> Found:
    """Measure every scenario, or only some, in several rounds."""
    chosen = [one for one in SCENARIOS if not only or one.name in only]
    found: dict[str, list[Measured]] = {one.name: [] for one in chosen}
    for number_ in range(rounds):
        with measured_server() as server:
            _warmed_up(server, number_)
            for scenario in chosen:
                run_id = f"{scenario.name[:8]}{number_}"
                plan = against(server, run_id, seconds=seconds, **scenario.plan)
                found[scenario.name].append(_measured(server, scenario, plan, bare_seconds))
    bare = steps(Plan(), bare_seconds / 3)
    figures = [figure for one in chosen for figure in _figures(one, found[one.name], bare)]
    return Found(figures=figures, tables=[_details(chosen, found), _bare(bare)])


def _warmed_up(server: Server, number_: int) -> None:
    sent(against(server, f"warm{number_}", seconds=WARM_SECONDS))
    server.caught_up(1800)
    for _ in range(WARM_QUERIES):
        totals(server)


def _measured(server: Server, scenario: Scenario, plan: Plan, bare_seconds: float) -> Measured:
    http = bare_http(msgspec.structs.replace(plan, seconds=bare_seconds))
    before, size = totals(server), folder_bytes(server.folder)
    forget_peaks(server)
    used, started = uses(server), time.perf_counter()
    with _held(server, hold=scenario.alone):
        result = sent(plan)
    draining = time.perf_counter()
    server.caught_up(1800)
    ended = time.perf_counter()
    spent = between(used, uses(server))
    check_totals(server, before, result.sent)
    events = result.sent.events
    return Measured(
        result=result,
        followed=events / (ended - started),
        drained=events / (ended - draining) if scenario.alone else 0.0,
        used=spent,
        stored_bytes=folder_bytes(server.folder) - size,
        http=http,
    )


@contextmanager
def _held(server: Server, *, hold: bool) -> Iterator[None]:
    """Hold the processes behind the log for as long as the block runs."""
    pids = [child["pid"] for child in server.children() if child["kind"] != "api"] if hold else []
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


# ---------------------------------------------------------------- what is said of it


def _figures(
    scenario: Scenario, rounds: Sequence[Measured], bare: dict[str, Step]
) -> Iterator[Figure]:
    single = scenario.plan.get("batch") == 1
    yield _single(scenario, rounds) if single else _batched(scenario, rounds, bare)
    if single:
        yield _latency(scenario, rounds)
    else:
        yield _followed(scenario, rounds, bare)


def _batched(scenario: Scenario, rounds: Sequence[Measured], bare: dict[str, Step]) -> Figure:
    values = spread([one.result.rate for one in rounds])
    target = 1_000_000
    return Figure(
        name=f"durable accept over HTTP: {scenario.title}",
        spread=values,
        unit="events/s",
        target=f"{target:,} events/s",
        reached=values.median >= target,
        bounds=(
            _http_bound(rounds),
            Bound(name="fsync'd append of the same bytes", value=bare["fsync'd append"].rate),
            Bound(name="JSON decode", value=bare["JSON decode"].rate),
        ),
        note=_generator(rounds),
        headline=scenario.name in {"batches", "worst", "alone"},
    )


def _followed(scenario: Scenario, rounds: Sequence[Measured], bare: dict[str, Step]) -> Figure:
    alone = scenario.alone
    values = spread([one.drained if alone else one.followed for one in rounds])
    target = 400_000
    what = "log to lake, while nothing comes in" if alone else "accepted until queryable"
    return Figure(
        name=f"{what}: {scenario.title}",
        spread=values,
        unit="events/s",
        target=f"{target:,} events/s",
        reached=values.median >= target,
        bounds=(Bound(name="Parquet write", value=bare["Parquet write"].rate),),
        note="from the first request until the lake had the last event",
        headline=scenario.name in {"batches", "worst"},
    )


def _single(scenario: Scenario, rounds: Sequence[Measured]) -> Figure:
    values = spread([one.result.rate for one in rounds])
    target = 10_000
    return Figure(
        name=f"durable accept over HTTP: {scenario.title}",
        spread=values,
        unit="requests/s",
        target=f"{target:,} requests/s",
        reached=values.median >= target,
        bounds=(_http_bound(rounds),),
        note=_generator(rounds),
        headline=scenario.name == "singles",
    )


def _latency(scenario: Scenario, rounds: Sequence[Measured]) -> Figure:
    values = spread([one.result.latency_ms["99"] for one in rounds])
    bare = spread([one.http.result.latency_ms["99"] for one in rounds])
    return Figure(
        name=f"p99 until the 204: {scenario.title}",
        spread=values,
        unit="ms",
        target="< 25 ms",
        reached=values.median < 25,
        bounds=(Bound(name="HTTP server that answers 204", value=bare.median),),
        less_is_better=True,
        note=f"every core is busy: {scenario.plan['connections']} requests are always in flight",
        headline=scenario.name == "singles",
    )


def _http_bound(rounds: Sequence[Measured]) -> Bound:
    values = spread([one.http.result.rate for one in rounds])
    return Bound(name="HTTP server that answers 204", value=values.median)


def _generator(rounds: Sequence[Measured]) -> str:
    shares = spread([one.result.cpu_seconds / one.result.seconds for one in rounds])
    events = sum(one.result.sent.events for one in rounds)
    return f"generator {shares.median:.2f} of a core; {events:,} events, totals agree"


def _details(chosen: Sequence[Scenario], found: dict[str, list[Measured]]) -> Table:
    head = (
        "scenario", "CPU µs an event: api", "pump", "jobs", "generator", "bare HTTP",
        "bytes written an event: log", "lake", "stored", "peak MiB: api", "pump", "jobs", "post",
        "p50 / p99 / most ms",
    )  # fmt: skip
    rows = [_detail(one, found[one.name]) for one in chosen]
    return Table(title="What it took, medians of the rounds", head=head, rows=tuple(rows))


def _detail(scenario: Scenario, rounds: Sequence[Measured]) -> tuple[str, ...]:
    def an_event(kind: str, of: str, scale: float) -> str:
        values = [
            getattr(one.used.get(kind, Use()), of) * scale / one.result.sent.events
            for one in rounds
        ]
        return number(spread(values).median)

    def peak(kind: str) -> str:
        return number(spread([one.used.get(kind, Use()).peak_mb for one in rounds]).median)

    last = rounds[-1].result.latency_ms
    made = [one.result.cpu_seconds / one.result.sent.events * 1e6 for one in rounds]
    stored = [one.stored_bytes / one.result.sent.events for one in rounds]
    return (
        scenario.title,
        *(an_event(kind, "cpu_seconds", 1e6) for kind in ("api", "pump", "jobs")),
        number(spread(made).median),
        number(spread([one.http.cpu_us for one in rounds]).median),
        an_event("api", "written_bytes", 1),
        an_event("pump", "written_bytes", 1),
        number(spread(stored).median),
        *(peak(kind) for kind in ("api", "pump", "jobs", "post")),
        " / ".join(number(last[share]) for share in ("50", "99", "100")),
    )


def _bare(bare: dict[str, Step]) -> Table:
    rows = tuple((name, f"{one.rate:,.0f}", number(one.cpu_us)) for name, one in bare.items())
    return Table(
        title="The bare minimum in the same run, one thread, nothing else done",
        head=("step", "events/s", "CPU µs an event"),
        rows=rows,
    )
