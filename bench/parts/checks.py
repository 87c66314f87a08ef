"""How long a check takes: 10,000 customers with a metered entitlement each, while events come in.

Run alone with `python -m bench.parts.checks`; prints JSON. The checks of one process are called
directly, as an API process does for each request, so HTTP is not in the figure; the balances are
followed in the same process, events are pumped into the lake by another.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import msgspec

from tallybook.catalog.catalog import Entry
from tallybook.catalog.customer import Customer, SubjectSpan
from tallybook.catalog.entitlement import EntitlementSpec, check_entitlement
from tallybook.catalog.flow import put
from tallybook.catalog.meter import MeterSpec, check_meter
from tallybook.compose import TENANT, World
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.checks import Checks, parts_of
from tallybook.settings import Settings
from tests.sim.road import NOW_US, Road, event

CUSTOMERS = 10_000
EVENTS_A_COMMIT = 500
COMMIT_SECONDS = 1.0
SWITCH_SECONDS = 0.0005
"""As an API process sets it."""
SECONDS = 20
REQUEST_EVENTS = 10_000
METER = check_meter(MeterSpec(key="m", event_type="t", aggregation="SUM", value="$.v"))


class RoadClock:
    """The world's clock, beginning where the events of the road are."""

    def __init__(self) -> None:
        """Begin now."""
        self._begun = time.monotonic_ns()

    def now_us(self) -> int:
        """Return the present instant of the road."""
        return NOW_US + (time.monotonic_ns() - self._begun) // 1000


def pump(folder: Path, seconds: float, name: str, count: int, back_us: int) -> None:
    """Bring events of random customers into the lake, a commit a second."""
    road, numbers = Road(folder), random.Random(7)
    road.meters = [METER]
    begun, sent = time.monotonic(), 0
    while True:
        now_us = NOW_US + int((time.monotonic() - begun) * 1e6)
        events = []
        for _ in range(count):
            sent += 1
            when = format_us(now_us - numbers.randrange(1 + back_us))
            subject = f"s{numbers.randrange(CUSTOMERS)}"
            events.append(event(f"{name}{sent}", when, subject, {"v": numbers.randrange(9)}))
        for start in range(0, count, REQUEST_EVENTS):
            road.send(events[start : start + REQUEST_EVENTS])
        while road.pump() is not None:
            pass
        if time.monotonic() - begun > seconds:
            break
        time.sleep(max(0.0, COMMIT_SECONDS - (time.monotonic() - begun) % COMMIT_SECONDS))
    road.close()


def catalog() -> list[Entry]:
    """Return the meter, and customers with an entitlement each."""
    entries: list[Entry] = [METER]
    for number in range(CUSTOMERS):
        spec = EntitlementSpec(
            customer=f"c{number}",
            feature="f",
            type="metered",
            meter="m",
            period="P1M",
            start="2026-11-01T00:00:00Z",
            included=Decimal(200),
        )
        spans = (SubjectSpan(f"s{number}"),)
        customer = Customer(key=f"c{number}", name="c", currency="USD", subjects=spans)
        entries += [customer, check_entitlement(spec, "UTC")]
    return entries


def checks() -> dict[str, float]:
    """Return percentiles of a check in milliseconds, and what went on meanwhile."""
    sys.setswitchinterval(SWITCH_SECONDS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pump(folder, 0, "old", 10 * CUSTOMERS, 10 * 24 * 3600 * 1_000_000)
        world = World(Settings(data_dir=folder))
        put(world.catalog, TENANT, catalog())
        parts = msgspec.structs.replace(parts_of(world), clock=RoadClock())
        with closing(Checks(parts)) as made:
            begun = time.perf_counter()
            made.value(TENANT, "c0", "f")
            while len(made) < CUSTOMERS:
                time.sleep(0.05)
            warmed = time.perf_counter() - begun
            return {"seconds to warm": round(warmed, 2)} | _measured(made, folder)


def _measured(made: Checks, folder: Path) -> dict[str, float]:
    code = (
        "from pathlib import Path; from bench.parts.checks import pump; "
        f"pump(Path({str(folder)!r}), {SECONDS}, 'new', {EVENTS_A_COMMIT}, 0)"
    )
    numbers, spent, lag = random.Random(8), [], set()
    child = subprocess.Popen([sys.executable, "-c", code])
    first = made.value(TENANT, "c0", "f").cut
    try:
        while child.poll() is None:
            begun = time.perf_counter()
            checked = made.value(TENANT, f"c{numbers.randrange(CUSTOMERS)}", "f")
            spent.append(time.perf_counter() - begun)
            lag.add(checked.cut)
            time.sleep(0.001)
    finally:
        child.wait()
    spent.sort()
    assert first is not None
    return {
        "checks": len(spent),
        "snapshots seen": len(lag),
        **{
            f"p{share} ms": round(1000 * spent[int(len(spent) * share / 100)], 3)
            for share in (50, 90, 99, 99.9)
        },
        "longest ms": round(1000 * spent[-1], 3),
    }


if __name__ == "__main__":
    print(json.dumps(checks(), indent=2), flush=True)
    os._exit(0)  # the thread that follows the lake lives as long as its process
