"""What this machine takes for good: the rate at which lake and senders keep pace."""

import time

from bench.generator.process import sent
from bench.runs.common import against
from bench.watch.totals import check_totals, totals
from tests.e2e.server import Server


def sustained(server: Server, seconds: float, run: str = "capacity") -> float:
    """Return events a second from the first request until the lake has the last; checked."""
    before, started = totals(server), time.perf_counter()
    result = sent(against(server, run, seconds=seconds))
    server.caught_up(1800)
    spent = time.perf_counter() - started
    check_totals(server, before, result.sent)
    return result.sent.events / spent
