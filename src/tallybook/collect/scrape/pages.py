"""Servers' status pages as points, under the names of OpenTelemetry's receivers.

- nginx `stub_status`: counters `nginx.connections_accepted`, `nginx.connections_handled` and
  `nginx.requests`; levels `nginx.connections_current` by `state`.
- nginx Plus API: `nginx.connections_accepted`, `nginx.connections_dropped`, `nginx.requests`, and
  of each zone `nginx.zone.requests`, `nginx.zone.responses` by `status_range`, `nginx.zone.io` by
  `direction`; levels as above.
- Apache `?auto`: counters `apache.requests`, `apache.traffic` (bytes, in whole KiB) and
  `apache.request.time` (ms); levels `apache.workers` by `state`, `apache.current_connections`.

Evidence of a restart: nginx's master process (its pid file, from outside), the load time of nginx
Plus, Apache's uptime in whole seconds. A start reckoned from those is put a little early where a
higher value would be believed because of it, so that nothing is ever counted twice.

Source: nginx ngx_http_stub_status_module and ngx_http_api_module; Apache mod_status.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from tallybook.collect.doors.point import Kind, Point
from tallybook.collect.scrape.exposition import PROCESS_START
from tallybook.kernel.errors import Unavailable
from tallybook.kernel.timestamps import SECOND_US, parse_rfc3339

EARLY_US = 2 * SECOND_US
PLUS_PATHS = (
    "nginx", "connections", "http/requests", "http/server_zones", "http/location_zones",
)  # fmt: skip
"""What is asked of the nginx Plus API, below its version."""
_STUB = re.compile(
    r"\s*Active connections:\s*(?P<active>\d+)\s*\n"
    r"\s*server accepts handled requests(?: request_time)?\s*\n"
    r"\s*(?P<accepts>\d+)\s+(?P<handled>\d+)\s+(?P<requests>\d+)(?:\s+\d+)?\s*\n"
    r"\s*Reading:\s*(?P<reading>\d+)\s+Writing:\s*(?P<writing>\d+)"
    r"\s+Waiting:\s*(?P<waiting>\d+)\s*",
    re.ASCII,
)
_ZONES = {"http/server_zones": "server", "http/location_zones": "location"}


class _Page:
    """Makes the points of one reading."""

    def __init__(self, now_us: int, labels: Mapping[str, str], start_us: int) -> None:
        self._now_us = now_us
        self._labels = dict(labels)
        self._start_us = start_us

    def point(self, name: str, value: object, kind: Kind = "counter", **more: str) -> Point:
        early = self._start_us - EARLY_US if self._start_us and kind == "counter" else 0
        return Point(
            name=name,
            labels={**self._labels, **more},
            kind=kind,
            time_us=self._now_us,
            value=value if isinstance(value, Decimal) else Decimal(str(value)),
            start_us=max(0, early),
        )

    def evidence(self, start_us: int) -> Iterator[Point]:
        """Yield when the server began, where that is known."""
        if start_us > 0:
            yield self.point(PROCESS_START, Decimal(start_us) / SECOND_US, "evidence")


def nginx_stub(
    page: str, now_us: int, labels: Mapping[str, str], started_us: int = 0
) -> list[Point]:
    """Return the points of nginx's `stub_status`.

    Args:
        page: its text.
        now_us: when it was asked for.
        labels: put to every series.
        started_us: when nginx's master process started, 0 where nobody knows.

    Raises:
        Unavailable: it is no such page.
    """
    match = _STUB.fullmatch(page)
    if match is None:
        raise Unavailable("the page is not nginx's stub_status")
    made = _Page(now_us, labels, started_us)
    found = [*made.evidence(started_us)]
    found.append(made.point("nginx.connections_accepted", match["accepts"]))
    found.append(made.point("nginx.connections_handled", match["handled"]))
    found.append(made.point("nginx.requests", match["requests"]))
    states = ("active", "reading", "writing", "waiting")
    return found + [
        made.point("nginx.connections_current", match[state], "level", state=state)
        for state in states
    ]


def nginx_plus(answers: Mapping[str, Any], now_us: int, labels: Mapping[str, str]) -> list[Point]:
    """Return the points of nginx Plus.

    Args:
        answers: path of `PLUS_PATHS` -> its JSON; a path that is not there may be absent.
        now_us: when it was asked for.
        labels: put to every series.

    Raises:
        Unavailable: the answers are not nginx Plus's.
    """
    try:
        return list(_plus(answers, now_us, labels))
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise Unavailable(f"the answers are not those of the nginx Plus API: {error}") from error


def _plus(answers: Mapping[str, Any], now_us: int, labels: Mapping[str, str]) -> Iterator[Point]:
    loaded = parse_rfc3339(answers["nginx"]["load_timestamp"]) or 0
    made = _Page(now_us, labels, 0)  # a reload keeps the counters: it explains a fall, no rise
    yield from made.evidence(loaded)
    connections = answers["connections"]
    yield made.point("nginx.connections_accepted", connections["accepted"])
    yield made.point("nginx.connections_dropped", connections["dropped"])
    for state in ("active", "idle"):
        yield made.point("nginx.connections_current", connections[state], "level", state=state)
    yield made.point("nginx.requests", answers["http/requests"]["total"])
    for path, kind in _ZONES.items():
        for name, zone in answers.get(path, {}).items():
            where = {"zone": name, "zone_type": kind}
            yield made.point("nginx.zone.requests", zone["requests"], **where)
            for status in ("1xx", "2xx", "3xx", "4xx", "5xx"):
                count = zone["responses"][status]
                yield made.point("nginx.zone.responses", count, status_range=status, **where)
            for direction, field in (("receive", "received"), ("transmit", "sent")):
                yield made.point("nginx.zone.io", zone[field], direction=direction, **where)


def apache_auto(page: str, now_us: int, labels: Mapping[str, str]) -> list[Point]:
    """Return the points of Apache's `mod_status` with `?auto`.

    Raises:
        Unavailable: it is no such page, or `ExtendedStatus` is off.
    """
    said = dict(line.split(": ", 1) for line in page.splitlines() if ": " in line)
    if "BusyWorkers" not in said:
        raise Unavailable("the page is not Apache's server status; ask for it with ?auto")
    if "Total Accesses" not in said:
        raise Unavailable("Apache does not count: put `ExtendedStatus On` into its configuration")
    try:
        return list(_apache(said, now_us, labels))
    except ArithmeticError as error:
        raise Unavailable("Apache's server status has a field that is no number") from error


def _apache(said: Mapping[str, str], now_us: int, labels: Mapping[str, str]) -> Iterator[Point]:
    uptime = said.get("ServerUptimeSeconds") or said.get("Uptime")
    started_us = now_us - int(uptime) * SECOND_US if uptime and uptime.isdigit() else 0
    made = _Page(now_us, labels, started_us)
    yield from made.evidence(started_us)
    yield made.point("apache.requests", said["Total Accesses"])
    if "Total kBytes" in said:
        yield made.point("apache.traffic", Decimal(said["Total kBytes"]) * 1024)
    if "Total Duration" in said:
        yield made.point("apache.request.time", said["Total Duration"])
    for state, field in (("busy", "BusyWorkers"), ("idle", "IdleWorkers")):
        if field in said:
            yield made.point("apache.workers", said[field], "level", state=state)
    if "ConnsTotal" in said:
        yield made.point("apache.current_connections", said["ConnsTotal"], "level")
