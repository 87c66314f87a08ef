"""How long a check takes over HTTP: 10,000 customers, each with a metered entitlement, events on.

One check is in flight at a time, over
four connections that stay open, of a customer at random; first alone, then while a generator sends
500 events a second. Waiting times depend on what else the machine does, so the CPU that a check
alone costs the API processes is told beside them, and the load.
"""

import http.client
import os
import random
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from bench.generator.plan import Plan
from bench.generator.process import Generator
from tests.e2e.server import KEY, Server

CUSTOMERS = 10_000
CONNECTIONS = 4
EVENTS_A_SECOND = 500.0
SECONDS = 20.0
PAUSE_SECONDS = 0.001
WARM_ROUNDS_MAX = 120
SHARES = (50, 90, 99, 99.9)
IDLE_SECONDS = 0.15
"""CPU of processes that only wait for work, in a second."""
METER = """
[[meters]]
key = "calls"
event_type = "http.server.request"
aggregation = "COUNT"
"""


def catalog() -> str:
    """Return the meter, and customers with an entitlement each."""
    return METER + "".join(
        f'\n[[customers]]\nkey = "c{n}"\nname = "c"\ncurrency = "USD"\n'
        f'subjects = ["customer-{n:07d}"]\n'
        f'\n[[entitlements]]\ncustomer = "c{n}"\nfeature = "f"\ntype = "metered"\n'
        'meter = "calls"\nperiod = "P1M"\nincluded = 200\nstart = 2026-11-01\n'
        for n in range(CUSTOMERS)
    )


def checks(server: Server, seconds: float = SECONDS) -> dict[str, float]:
    """Return percentiles of a check in milliseconds, and what it costs the API processes.

    Args:
        server: without a catalog, or with one that has none of these names.
        seconds: how long to ask.
    """
    server.post("/api/v1/catalog/apply", catalog(), kind="application/toml")
    parts = urlsplit(server.url)
    asking = [http.client.HTTPConnection(parts.netloc) for _ in range(CONNECTIONS)]
    begun = time.perf_counter()
    _warm(server, asking)
    warmed = time.perf_counter() - begun
    alone, cpu_seconds = _alone(server, asking, seconds / 2)
    background = Generator(
        Plan(
            host=parts.hostname or "",
            port=parts.port or 0,
            key=KEY,
            run="checks",
            seconds=seconds,
            batch=100,
            connections=2,
            subjects=CUSTOMERS,
            rate=EVENTS_A_SECOND,
        )
    )
    spent = _asked_while(asking, lambda: background.running)
    sent = background.result().sent
    return {
        "checks": len(spent),
        "checks alone": len(alone),
        "events meanwhile": sent.events,
        "seconds to warm": round(warmed, 2),
        **{f"p{share} ms": _percentile(spent, share) for share in SHARES},
        **{f"p{share} ms alone": _percentile(alone, share) for share in SHARES},
        "longest ms": round(1000 * spent[-1], 3),
        "CPU of the API processes a check alone, ms": round(1000 * cpu_seconds, 3),
        "load": round(os.getloadavg()[0], 1),
    }


def _percentile(spent: list[float], share: float) -> float:
    return round(1000 * spent[int(len(spent) * share / 100)], 3)


def _alone(
    server: Server, asking: list[http.client.HTTPConnection], seconds: float
) -> tuple[list[float], float]:
    """Ask while nothing comes in; return the seconds each took, and of CPU in the API processes."""
    until = time.perf_counter() + seconds
    used = _api_seconds(server)
    spent = _asked_while(asking, lambda: time.perf_counter() < until)
    return spent, (_api_seconds(server) - used) / len(spent)


def _asked_while(
    asking: list[http.client.HTTPConnection], going: Callable[[], bool]
) -> list[float]:
    """Ask about customers at random for a while; return the seconds each took, sorted."""
    numbers = random.Random(8)
    spent = []
    for connection in cycle(asking):
        if not going():
            break
        spent.append(_asked(connection, numbers.randrange(CUSTOMERS)))
        time.sleep(PAUSE_SECONDS)
    return sorted(spent)


def _warm(server: Server, asking: list[http.client.HTTPConnection]) -> None:
    """Ask every process, and wait until all of them have worked out everybody's balances."""
    for _ in range(WARM_ROUNDS_MAX):
        for connection in asking:
            _asked(connection, 0)
        used = _api_seconds(server)
        time.sleep(1)
        if _api_seconds(server) - used < IDLE_SECONDS:
            return
    raise AssertionError("the API processes never rest")


def _asked(connection: http.client.HTTPConnection, customer: int) -> float:
    """Ask once; return the seconds until the answer was whole."""
    began = time.perf_counter()
    headers = {"Authorization": f"Bearer {KEY}"}
    connection.request("GET", f"/api/v1/entitlements/c{customer}:f/value", headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    took = time.perf_counter() - began
    assert answer.status == 200, body
    return took


def _api_seconds(server: Server) -> float:
    """Return the CPU seconds of the API processes so far."""
    spent = 0.0
    for child in server.children():
        if child["kind"] == "api":
            times = psutil.Process(child["pid"]).cpu_times()
            spent += times.user + times.system
    return spent


def measured(seconds: float = SECONDS) -> dict[str, float]:
    """Return the figures of a server of its own."""
    with tempfile.TemporaryDirectory() as name:
        settings = {"TALLYBOOK__SERVER__ACCESS_LOG": "false"}
        with Server(Path(name) / "data", settings) as server:
            return checks(server, seconds)
