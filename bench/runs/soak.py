"""Half an hour at 70 % of what the machine takes: memory and lag must stay where they are.

Flat is computed, not looked at: the median slope of all pairs of samples, after the first fifth,
times the length of the soak, must not exceed what is allowed.
"""

import sys
import time
from collections import defaultdict

from bench.figures.flat import Flatness, Point, flatness
from bench.figures.numbers import percentile, spread
from bench.figures.page import number
from bench.figures.report import Figure, Found, Table, Verdict
from bench.generator.process import Generator
from bench.runs.capacity import sustained
from bench.runs.common import against, behind, measured_server
from bench.runs.freshness import Probes
from bench.watch.totals import totals
from bench.watch.tree import between, resident_mb, uses, whole_mb
from tests.e2e.server import Server

SAMPLES = 360
SHARE = 0.7
MEMORY_SHARE = 0.05
MEMORY_MB = 16.0
"""What memory may gain over a soak: so much, and a twentieth of its level."""
LAG_SECONDS = 1.0
"""What the lag may gain: the events of so many seconds."""


def run(minutes: float = 30.0, share: float = SHARE, calibrate_seconds: float = 60.0) -> Found:
    """Measure what the machine takes for good, then load it with a share of that."""
    with measured_server() as server:
        usual = sustained(server, calibrate_seconds)
        rate = share * usual
        probes, before = Probes(server), totals(server)
        load = Generator(against(server, "soak", seconds=minutes * 60, rate=rate, connections=16))
        series = _watched(server, load, probes, minutes * 60 / SAMPLES)
        result = load.result()
        server.caught_up(1800)
        accepted = totals(server).accepted - before.accepted
    wanted = result.sent.new + len(probes.waits)
    assert accepted == wanted, f"{accepted:,} events accepted, {wanted:,} were sent"
    judged = [
        flatness(name, points, *_allowed(name, rate)) for name, points in sorted(series.items())
    ]
    fresh = percentile(probes.waits, 99)
    figure = Figure(
        name=f"freshness p99 over {minutes:g} minutes at {rate:,.0f} events/s",
        spread=spread([fresh]),
        unit="s",
        target="< 2 s",
        reached=fresh < 2,
        less_is_better=True,
        note=f"{share:.0%} of {usual:,.0f} events/s; {len(probes.waits)} probes;"
        f" {result.sent.events:,} events, totals agree; {result.retried:,} answers 429 or 503;"
        f" {result.unsent:,} events not taken in time",
        headline=True,
    )
    return Found(
        figures=[figure],
        verdicts=[_kept_pace(result.rate, rate), *map(_verdict, judged)],
        tables=[_table(judged)],
    )


def _watched(
    server: Server, load: Generator, probes: Probes, pause: float
) -> dict[str, list[Point]]:
    series: dict[str, list[Point]] = defaultdict(list)
    started, used = time.perf_counter(), uses(server)
    while load.running:
        at = time.perf_counter() - started
        for kind, resident in resident_mb(server).items():
            series[f"memory of {kind}, MiB"].append(Point(at, resident))
        whole, lag = whole_mb(server), behind(server)
        series["memory of all, shared pages once, MiB"].append(Point(at, whole))
        series["lag, events"].append(Point(at, lag))
        fresh = probes.one()
        time.sleep(max(0.0, at + pause - (time.perf_counter() - started)))
        before, used = used, uses(server)
        took = time.perf_counter() - started - at
        shares = (f"{k} {u.cpu_seconds / took:.2f}" for k, u in between(before, used).items())
        line = f"{at:5.0f} s, {lag:9,} events behind, fresh in {fresh:5.2f} s, {whole:,.0f} MiB"
        sys.stderr.write(f"{line}, cores: {', '.join(shares)}\n")
    return series


def _allowed(name: str, rate: float) -> tuple[float, float]:
    """Return what a series may gain, in its unit and as a share of its level."""
    return (LAG_SECONDS * rate, 0.0) if name.startswith("lag") else (MEMORY_MB, MEMORY_SHARE)


def _kept_pace(taken: float, rate: float) -> Verdict:
    return Verdict(
        demand="what was offered was taken in time",
        held=taken > 0.98 * rate,
        found=f"{taken:,.0f} of {rate:,.0f} events/s",
    )


def _verdict(judged: Flatness) -> Verdict:
    return Verdict(
        demand=f"{judged.name}: flat",
        held=judged.flat,
        found=f"gained {number(judged.grown)}, {number(judged.allowed)} allowed;"
        f" {number(judged.level)} in the middle, {number(judged.highest)} at most",
    )


def _table(judged: list[Flatness]) -> Table:
    head = ("series", "slope an hour", "median", "most", "gained", "allowed")
    rows = tuple(
        (
            one.name,
            *(number(n) for n in (one.an_hour, one.level, one.highest, one.grown, one.allowed)),
        )
        for one in judged
    )
    return Table(title="Samples after the first fifth", head=head, rows=rows)
