"""The small bench that CI runs: ratios of processor time, each against its bound in guard.toml.

Every group of ratios is measured in one round; those above their bounds are measured again, a few
times, because a machine may have been busy with something else. The best round counts.
"""

import gc
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from bench.bare.http import bare_http
from bench.bare.steps import Step, decode, parquet, python_start, scan, sqlite_insert
from bench.figures.guard import (
    Judgement,
    Limit,
    Watched,
    judge,
    limit_of,
    read_limits,
    written_limits,
)
from bench.generator.bodies import Bodies
from bench.generator.plan import Plan
from bench.generator.process import sent
from bench.parts import billing
from bench.runs.common import against, measured_server
from bench.runs.recompute import BYTES, month_query
from bench.runs.start import starts
from bench.watch.totals import check_totals, totals
from bench.watch.tree import between, uses
from tallybook.catalog.meter import check_meter
from tallybook.meter.usage import UsageQuery
from tests.e2e.server import Server
from tests.sim.road import Road

FILE = Path(__file__).resolve().parents[1] / "guard.toml"
ROUNDS_MAX = 4
BATCH_EVENTS = 200_000
SINGLE_EVENTS = 4_000
LAKE_EVENTS = 60_000
CUSTOMERS = 300
STARTS = 3
BARE_SECONDS = 0.5

ACCEPT = Watched(
    name="accept",
    over="CPU of the API processes an event, 1,000 a request, over decoding the same JSON",
)
SINGLES = Watched(
    name="singles",
    over="CPU of the API processes a request of one event, over a server that answers 204",
)
PUMP = Watched(
    name="pump",
    over="CPU of the pump an event, over writing the same events to Parquet",
)
RECOMPUTE = Watched(
    name="recompute",
    over="CPU of a month by customer and hour from raw rows, over DuckDB's scan of the columns",
)
QUERY = Watched(
    name="query",
    over="CPU of one customer's month by hour from roll-ups, over DuckDB's scan of the columns",
)
BILLING = Watched(
    name="billing",
    over="CPU of an invoice of five lines, over inserting the same JSON into SQLite",
)
START = Watched(
    name="start",
    over="CPU of all processes until the server is ready, over `python -c pass`",
)
WATCHED = (ACCEPT, SINGLES, PUMP, RECOMPUTE, QUERY, BILLING, START)


def over_http() -> dict[str, float]:
    """Return the ratios of accepting and of the pump, on a real server; totals checked."""
    with measured_server() as server:
        _send(server, "warm", batch=1000, events_max=20_000)
        _send(server, "warm1", batch=1, connections=8, events_max=200)
        bodies = [body.content for body in islice(Bodies(Plan()), 8)]
        bare = decode(bodies, BARE_SECONDS)
        api, pump = _send(server, "guard", batch=1000, events_max=BATCH_EVENTS)
        bare_again = decode(bodies, BARE_SECONDS)
        with tempfile.TemporaryDirectory() as name:
            columns = parquet(bodies, Path(name), BARE_SECONDS)
        single, _ = _send(server, "one", batch=1, connections=8, events_max=SINGLE_EVENTS)
    http = bare_http(Plan(batch=1, connections=8, events_max=SINGLE_EVENTS, seconds=60))
    return {
        ACCEPT.name: api / ((bare.cpu_us + bare_again.cpu_us) / 2),
        PUMP.name: pump / columns.cpu_us,
        SINGLES.name: single / http.cpu_us,
    }


def _send(server: Server, run: str, **more: int) -> tuple[float, float]:
    """Return CPU microseconds an event of the API processes and of the pump; totals checked."""
    before, used = totals(server), uses(server)
    result = sent(against(server, run, seconds=300.0, **more))
    accepting = between(used, uses(server))["api"]  # before asking, which costs the API too
    after = check_totals(server, before, result.sent)
    assert after.accepted - before.accepted == result.sent.new
    pumping = between(used, uses(server))["pump"]
    events = result.sent.events
    return accepting.cpu_seconds / events * 1e6, pumping.cpu_seconds / events * 1e6


def in_lake() -> dict[str, float]:
    """Return the ratios of queries, in this process."""
    with tempfile.TemporaryDirectory() as name:
        road = Road(Path(name))
        query = filled(road, LAKE_EVENTS)
        files = [str(path) for path in (road.folder / "lake" / "events").glob("*.parquet")]
        bare = _each(scan(files, BARE_SECONDS), LAKE_EVENTS)
        raw = _cpu_of(lambda: road.reader.usage(query), 3)
        road.roll(road.meters)
        one = msgspec.structs.replace(query, by_subject=False, subjects=("customer-0000007",))
        rolled = _cpu_of(lambda: road.reader.usage(one), 5)
        road.close()
    return {RECOMPUTE.name: raw / bare, QUERY.name: rolled / bare}


def filled(road: Road, events: int) -> UsageQuery:
    """Put generated events into the lake of a road; return the month's query at its head."""
    road.meters = [check_meter(BYTES)]
    begin = month_query(0).bounds[0]
    plan = Plan(start_us=begin, block_seconds=43_200, spread_seconds=28 * 86_400)
    bodies = Bodies(plan)
    for body in islice(bodies, events // 1000):
        road.send(msgspec.json.decode(body.content))
    while road.pump() is not None:
        pass
    return month_query(road.reader.head())


def of_billing() -> dict[str, float]:
    """Return the ratio of a billing run, in this process."""
    with tempfile.TemporaryDirectory() as name:
        bare = sqlite_insert(billing.documents(50), Path(name))
    run = billing.measured(CUSTOMERS, 0)
    return {BILLING.name: run.cpu_seconds / CUSTOMERS * 1e6 / bare.cpu_us}


def of_start() -> dict[str, float]:
    """Return the ratio of starting a server."""
    with tempfile.TemporaryDirectory() as name:
        least = min(one.cpu_seconds for one in starts(Path(name) / "data", STARTS))
    return {START.name: least / python_start().cpu_seconds}


GROUPS: dict[Callable[[], dict[str, float]], tuple[str, ...]] = {
    over_http: (ACCEPT.name, SINGLES.name, PUMP.name),
    in_lake: (RECOMPUTE.name, QUERY.name),
    of_billing: (BILLING.name,),
    of_start: (START.name,),
}


def run(names: Sequence[str] = (), rounds_max: int = ROUNDS_MAX) -> list[Judgement]:
    """Measure what is watched, or only some; again where a ratio is above its bound."""
    limits = read_limits(FILE.read_text())
    watched = [one for one in WATCHED if not names or one.name in names]
    measured: dict[str, list[float]] = defaultdict(list)
    wanted = {one.name for one in watched}
    for _ in range(rounds_max):
        _measure(wanted, measured)
        judged = judge(watched, measured, limits)
        wanted = {one.watched.name for one in judged if not one.held and one.limit is not None}
        if not wanted:
            break
    return judge(watched, measured, limits)


def set_limits(names: Sequence[str] = (), rounds: int = 3) -> Mapping[str, Limit]:
    """Measure several rounds and write new bounds, of all or some."""
    measured: dict[str, list[float]] = defaultdict(list)
    wanted = {one.name for one in WATCHED if not names or one.name in names}
    for _ in range(rounds):
        _measure(wanted, measured)
    limits = read_limits(FILE.read_text()) if FILE.exists() else {}
    limits.update({name: limit_of(measured[name]) for name in sorted(wanted)})
    FILE.write_text(written_limits(limits))
    return limits


def _measure(wanted: set[str], measured: dict[str, list[float]]) -> None:
    """Measure the groups of what is wanted once."""
    for group, names in GROUPS.items():
        if wanted & set(names):
            started = time.perf_counter()
            for name, value in group().items():
                measured[name].append(value)
                print(f"  {name} {value:.2f}", flush=True)
            print(f"  ({time.perf_counter() - started:.0f} s)", flush=True)


def _each(step: Step, events: int) -> float:
    """Return CPU seconds of one turn of a step over so many events."""
    return step.cpu_us * events / 1e6


def _cpu_of(work: Callable[[], object], times: int) -> float:
    """Return the CPU seconds of a piece of work, the least of several; threads included."""
    least = float("inf")
    for _ in range(times):
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF)
        work()
        after = resource.getrusage(resource.RUSAGE_SELF)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        least = min(least, used)
    return least
