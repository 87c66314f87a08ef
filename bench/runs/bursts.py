"""Ten times as much as usual for half a minute: what happens to senders, and how the lake follows.

Two bursts. The first is ten times an ordinary load that is a tenth of what the machine takes for
good: all of it should be taken. The second is ten times what the machine takes for good, which
nobody can take: what does not fit waits at the senders, nothing acknowledged is lost, and the lake
catches up afterwards at its usual rate. Answers 429 and 503 promise nothing; they are counted, and
the same is sent again.
"""

import time

import msgspec

from bench.figures.numbers import spread
from bench.figures.page import number
from bench.figures.report import Figure, Found, Table, Verdict
from bench.generator.plan import Result
from bench.generator.process import Generator
from bench.runs.capacity import sustained
from bench.runs.common import against, behind, measured_server
from bench.watch.totals import check_totals, totals
from bench.watch.tree import Highest
from tests.e2e.server import Server

LOOK_SECONDS = 0.5
DRAIN_SECONDS_MAX = 1800.0
TIMES = 10
SLACK = 0.9
"""Draining counts as at the sustained rate from this share of it on: the ends are not sharp."""


class Burst(msgspec.Struct, frozen=True, kw_only=True):
    """One burst as it went.

    Attributes:
        result: of its generator. offered: events a second it asked for.
        lag_max: events acknowledged and not in the lake, at most.
        drain_seconds: from its end until the lake had everything.
        drained: events a second meanwhile; 0 where nothing was left to drain.
        whole_mb: memory of the whole process tree, at most.
    """

    name: str
    result: Result
    offered: float
    lag_max: int
    drain_seconds: float
    drained: float
    whole_mb: float


def run(seconds: float = 30.0, calm_seconds: float = 10.0, base: float = 0.0) -> Found:
    """Measure both bursts, each after a calm time at a tenth of it.

    Args:
        seconds: of a burst.
        calm_seconds: of ordinary load before it, and of the measurement of what the machine takes.
        base: ordinary load, events a second; 0 is a tenth of what the machine takes for good.
    """
    with measured_server() as server:
        usual = sustained(server, calm_seconds)
        ordinary = base or usual / TIMES
        bursts = [
            _burst(server, "ten times an ordinary load", ordinary, seconds, calm_seconds),
            _burst(server, "ten times what it takes for good", usual, seconds, calm_seconds),
        ]
    return Found(
        figures=[_latency(burst) for burst in bursts],
        verdicts=[verdict for burst in bursts for verdict in _verdicts(burst, usual)],
        tables=[_table(bursts, usual)],
    )


def _burst(server: Server, name: str, usually: float, seconds: float, calm_seconds: float) -> Burst:
    before, run_id = totals(server), f"b{usually:.0f}"
    calm = Generator(
        against(server, f"{run_id}c", seconds=calm_seconds, rate=usually, batch=100)
    ).result()
    rate = TIMES * usually
    lags: list[int] = []
    with Highest(server) as highest:
        load = Generator(against(server, run_id, seconds=seconds, rate=rate, connections=32))
        while load.running:
            lags.append(behind(server))
            time.sleep(LOOK_SECONDS)
        result = load.result()
        left, started = behind(server), time.perf_counter()
        server.caught_up(DRAIN_SECONDS_MAX)
        drain_seconds = time.perf_counter() - started
    check_totals(server, before, calm.sent + result.sent)
    return Burst(
        name=name,
        result=result,
        offered=rate,
        lag_max=max([*lags, left]),
        drain_seconds=drain_seconds,
        drained=left / drain_seconds if left else 0.0,
        whole_mb=highest.whole_mb,
    )


def _latency(burst: Burst) -> Figure:
    return Figure(
        name=f"{burst.name}: p99 from when a request was due until its 204",
        spread=spread([burst.result.latency_ms["99"]]),
        unit="ms",
        less_is_better=True,
        note="waiting at the sender is in it",
    )


def _verdicts(burst: Burst, usual: float) -> list[Verdict]:
    enough = not burst.drained or burst.drained >= SLACK * usual or burst.drain_seconds < 2
    return [
        Verdict(
            demand=f"{burst.name}: nothing that was acknowledged is lost, nothing counted twice",
            held=True,  # otherwise check_totals had ended the run
            found=f"{burst.result.sent.events:,} events acknowledged, all totals agree;"
            f" {burst.result.retried:,} answers 429 or 503, sent again",
        ),
        Verdict(
            demand=f"{burst.name}: the lag drains at the sustained rate",
            held=enough,
            found=f"{burst.lag_max:,} events behind at most, {_gone(burst, usual)}",
        ),
    ]


def _gone(burst: Burst, usual: float) -> str:
    if not burst.drained:
        return "none when the burst had ended"
    return (
        f"gone {burst.drain_seconds:.1f} s after the burst, at {burst.drained:,.0f} events/s where"
        f" {usual:,.0f} come in for good"
    )


def _table(bursts: list[Burst], usual: float) -> Table:
    head = (
        "burst", "offered events/s", "taken", "left waiting at the senders", "429 and 503",
        "most behind", "p50 ms", "p90", "p99", "p99.9", "most", "whole tree at most MiB",
    )  # fmt: skip
    return Table(
        title=f"What the machine takes for good: {usual:,.0f} events/s",
        head=head,
        rows=tuple(
            (
                burst.name,
                f"{burst.offered:,.0f}",
                f"{burst.result.rate:,.0f}",
                f"{burst.result.unsent:,}",
                f"{burst.result.retried:,}",
                f"{burst.lag_max:,}",
                *(number(burst.result.latency_ms[p]) for p in ("50", "90", "99", "99.9", "100")),
                number(burst.whole_mb),
            )
            for burst in bursts
        ),
    )
