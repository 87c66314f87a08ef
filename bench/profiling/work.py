"""`python -m bench.profiling.work NAME SECONDS`: one piece of work again and again, to be watched.

Prepares, prints `ready`, and then works for so many seconds; with 0 seconds it works once.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import msgspec

from bench.generator.bodies import Bodies
from bench.generator.plan import Plan
from bench.parts import billing
from bench.runs.guard import filled
from bench.runs.recompute import BYTES
from tallybook.catalog.meter import check_meter
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill
from tallybook.transport.accept import AcceptLimits, accept
from tallybook.transport.codec import encode
from tallybook.transport.ports import Batch
from tests.sim.road import NOW_US, Road

Work = Callable[[], object]
LAKE_EVENTS = 200_000
CUSTOMERS = 2_000


def accepting(folder: Path) -> Work:
    """Return reading, checking and logging 50 requests of 1,000 events."""
    road = Road(folder)
    road.meters = [check_meter(BYTES)]
    bodies = [body.content for body in islice(Bodies(Plan()), 50)]

    def work() -> None:
        for body in bodies:
            rows, _ = accept("default", body, NOW_US, road.columns(), AcceptLimits())
            road.logs[0].append([Batch(len(rows), encode(rows))])

    return work


def pumping(folder: Path) -> Work:
    """Return moving a backlog of events from the log to the lake."""
    road = Road(folder)
    road.meters = [check_meter(BYTES)]
    made = iter(Bodies(Plan()))

    def work() -> None:
        for body in islice(made, LAKE_EVENTS // 1000):
            rows, _ = accept("default", body.content, NOW_US, road.columns(), AcceptLimits())
            road.logs[0].append([Batch(len(rows), encode(rows))])
        while road.pump() is not None:
            pass

    return work


def querying(folder: Path) -> Work:
    """Return asking for one customer's month by hour, from roll-ups."""
    road = Road(folder)
    query = filled(road, LAKE_EVENTS)
    road.roll(road.meters)
    one = msgspec.structs.replace(query, by_subject=False, subjects=("customer-0000007",))
    return lambda: road.reader.usage(one)


def recomputing(folder: Path) -> Work:
    """Return asking for everybody's month by hour, from raw rows."""
    road = Road(folder)
    query = filled(road, LAKE_EVENTS)
    return lambda: road.reader.usage(query)


def invoicing(folder: Path) -> Work:
    """Return billing everybody: one month a turn, as long as there are months."""
    world = billing.world(folder, CUSTOMERS)
    months = iter(zip(billing.MONTHS, billing.MONTHS[1:], strict=False))

    def work() -> None:
        month, following = next(months)
        clock = billing.clock_at(f"{following}-02")
        bill(msgspec.structs.replace(world, clock=clock), BillRequest(period=month))

    return work


WORKS: dict[str, Callable[[Path], Work]] = {
    "accept": accepting,
    "pump": pumping,
    "query": querying,
    "recompute": recomputing,
    "billing": invoicing,
}


def main(name: str, seconds: float) -> None:
    """Prepare, say so, work."""
    with tempfile.TemporaryDirectory() as folder:
        work = WORKS[name](Path(folder))
        print("ready", flush=True)
        until = time.monotonic() + seconds
        try:
            work()
            while time.monotonic() < until:
                work()
        except StopIteration:
            return


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
