"""What a server says that it has: its counters and its meters, read as anybody reads them."""

from decimal import Decimal

from bench.catalog import METER_KEYS
from bench.figures.totals import Totals, check
from bench.generator.plan import Sent
from tests.e2e.server import Server

EMPTY_SECONDS = 600.0


def totals(server: Server) -> Totals:
    """Return what it has now."""
    counters = server.get("/api/v1/status")["counters"]
    return Totals(
        received=counters["received"],
        accepted=counters["accepted"],
        duplicate=counters["duplicate"],
        quarantined=counters["quarantined"],
        meters={key: _meter(server, key) for key in METER_KEYS},
    )


def check_totals(server: Server, before: Totals, sent: Sent, *, resent: bool = False) -> Totals:
    """Wait for the lake, raise Mismatch where a total differs, and return what it has now."""
    server.caught_up(EMPTY_SECONDS)
    after = totals(server)
    check(sent, before, after, resent=resent)
    return after


def _meter(server: Server, key: str) -> Decimal:
    data = server.get(f"/api/v1/meters/{key}/query?numbers=string")["data"]
    return Decimal(str(data[0]["value"])) if data else Decimal(0)
