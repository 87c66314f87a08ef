"""What it costs to decide whether a request may go on, beside the bare minimum.

Microseconds of a processor, medians.
*Bare* is what no exact count shared by processes can do without: lock a byte of a file, read and
write one record in a mapped page, unlock. *Wrapper* is what a request pays at the door altogether:
whose key it is, its limits, the decision, the headers; *no plan* where no limit applies to anybody.
"""

import mmap
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tallybook.adapters.mapped.counts import MappedCounts, put_aside
from tallybook.adapters.mapped.locks import ByteLocks
from tallybook.adapters.sql.access.usage_plans import EveryPlan
from tallybook.admit.key import Grant
from tallybook.admit.plan.bind import bind, built_in
from tallybook.admit.plan.decide import Bound, Tell
from tallybook.admit.plan.flow import let_through
from tallybook.admit.plan.limit import Concurrency, Quota, Rate
from tallybook.admit.plan.plan import UsagePlan
from tallybook.serve.api.admission.made import protecting
from tallybook.serve.api.admission.ticket import Told
from tallybook.serve.api.admission.watch import PlanWatch
from tallybook.serve.api.admission.wrapper import Admission, Parts
from tallybook.settings import GateSettings

ROUNDS, TIMES = 9, 4_000
MANY = 10**9
GRANT = Grant("default", "key_1", frozenset({"ingest"}))
PLAN = UsagePlan(
    key="p",
    zone="Europe/Berlin",
    limits=(
        Rate(key="rate", rate=MANY, warn=(80, 95)),
        Quota(key="month", limit=MANY, window="month", warn=(80, 95)),
        Quota(key="tenant", limit=MANY, window="day", per="tenant"),
        Concurrency(key="at-once", limit=MANY),
    ),
)
TARGET_US = 50


def timed(step: Callable[[], object]) -> float:
    """Return the median microseconds of a processor that a step takes."""
    rounds = []
    for _ in range(ROUNDS):
        begun = time.thread_time()
        for _ in range(TIMES):
            step()
        rounds.append((time.thread_time() - begun) / TIMES * 1e6)
    return round(statistics.median(rounds), 2)


def bare(folder: Path) -> Callable[[], object]:
    """Return the least that an exact, shared count needs."""
    locks = ByteLocks(folder / "bare.lock")
    path = folder / "bare.bin"
    path.write_bytes(bytes(4096))
    file = os.open(path, os.O_RDWR)
    page = mmap.mmap(file, 4096)

    def step() -> None:
        locks.take(1)
        page[64:128] = page[64:128]
        locks.drop(1)

    return step


class Kept:
    """Plans that never change."""

    def __init__(self, *plans: UsagePlan) -> None:
        """Of the tenant of the key."""
        self._plans = {(GRANT.tenant, plan.key): plan for plan in plans}

    def version(self) -> int:
        """Return one version."""
        return 1

    def every(self) -> EveryPlan:
        """Return them."""
        return EveryPlan(self._plans, {})


class Keys:
    """Knows one key, at no cost; the gate's own cost is paid with and without limits."""

    def grant(self, key: str) -> Grant | None:
        """Return what it grants."""
        del key
        return GRANT


def asked(counts: MappedCounts, *plans: UsagePlan, use: bool = False) -> Callable[[], object]:
    """Return one request through the wrapper to an application that answers at once."""

    def tell(_tells: Sequence[Tell]) -> None:
        return None

    parts = Parts(
        keys=Keys(),
        plans=PlanWatch(Kept(*plans)),
        told=Told(counts, tell),
        built_in=built_in(protecting(GateSettings())),
        access=lambda *_: True,
        use=use,
    )
    return through(Admission(parts))


def through(admission: Admission | None) -> Callable[[], object]:
    """Return one request, through the wrapper where there is one."""
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/events",
        "headers": [(b"authorization", b"Bearer tb_0123456789")],
    }

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Any:
        return {}

    async def send(_message: Any) -> None:
        return None

    def step() -> None:
        answer = (
            app(scope, receive, send)
            if admission is None
            else admission(app, scope, receive, send, door=True)
        )
        try:
            answer.send(None)
        except StopIteration:
            return
        raise AssertionError("it waits for nothing")

    return step


def measure(folder: Path) -> dict[str, float]:
    """Return all figures."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = MappedCounts(folder / "counts" / "limits.bin", put_aside)
    bounds: Sequence[Bound] = bind(PLAN, GRANT).counting
    sound = [bound for bound in bounds if not isinstance(bound.limit, Concurrency)]

    def decision(of: Sequence[Bound]) -> float:
        return timed(lambda: let_through(counts, of, time.time_ns()))

    direct = timed(through(None))
    return {
        "bare_us": timed(bare(folder)),
        "rate_us": decision(sound[:1]),
        "quota_us": decision(sound[1:2]),
        "rate_and_quota_us": decision(sound[:2]),
        "with_a_tenant_quota_us": decision(sound),
        "concurrency_too_us": decision(bounds),
        "wrapper_no_plan_us": round(timed(asked(counts)) - direct, 2),
        "wrapper_rate_and_quota_us": round(
            timed(asked(counts, _default(PLAN.limits[:2]))) - direct, 2
        ),
        "wrapper_use_alone_us": round(timed(asked(counts, use=True)) - direct, 2),
        "target_us": TARGET_US,
    }


def _default(limits: Any) -> UsagePlan:
    return UsagePlan(key="d", zone=PLAN.zone, default=True, limits=limits)
