"""How long a check takes over HTTP: 10,000 customers, each with a metered entitlement, events on.

Run alone with `python -m bench.checks_http`; prints JSON. One check is in flight at a time, over
four connections that stay open, of a customer at random; meanwhile a generator sends 500 events a
second. Waiting times depend on what else the machine does, so the CPU of the API processes for a
check is told beside them, and the load.
"""

import http.client
import json
import os
import random
import tempfile
import time
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from bench.load import Plan
from bench.processes import finished, generator
from tests.e2e.server import KEY, Server

CUSTOMERS = 10_000
CONNECTIONS = 4
EVENTS_A_SECOND = 500.0
SECONDS = 20.0
PAUSE_SECONDS = 0.001
WARM_ROUNDS_MAX = 60
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
        f'subjects = ["customer-{n}"]\n'
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
    numbers = random.Random(8)
    begun = time.perf_counter()
    _warm(asking)
    warmed = time.perf_counter() - begun
    background = generator(
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
    used, spent = _api_seconds(server), []
    for connection in cycle(asking):
        spent.append(_asked(connection, numbers.randrange(CUSTOMERS)))
        time.sleep(PAUSE_SECONDS)
        if background.poll() is not None:
            break
    cpu = _api_seconds(server) - used
    sent = finished(background)
    assert sent.refused == 0, sent
    spent.sort()
    return {
        "checks": len(spent),
        "events meanwhile": sent.events,
        "seconds to warm": round(warmed, 2),
        **{
            f"p{share} ms": round(1000 * spent[int(len(spent) * share / 100)], 3)
            for share in (50, 90, 99, 99.9)
        },
        "longest ms": round(1000 * spent[-1], 3),
        "CPU of the API processes a check, events included, ms": round(1000 * cpu / len(spent), 3),
        "load": round(os.getloadavg()[0], 1),
    }


def _warm(asking: list[http.client.HTTPConnection]) -> None:
    """Ask every process until it knows everybody: a second of answers without a slow one."""
    for _ in range(WARM_ROUNDS_MAX):
        begun = time.perf_counter()
        slow = 0
        while time.perf_counter() - begun < 1:
            slow += sum(_asked(connection, 0) > 0.1 for connection in asking)
        if not slow:
            return
    raise AssertionError("checks stay slow")


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


if __name__ == "__main__":
    print(json.dumps(measured(), indent=2), flush=True)
