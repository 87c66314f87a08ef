"""Metrics endpoints and status pages as sources: fetch, read, judge, hand over."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from tallybook.adapters.http.fetch import PageFetch
from tallybook.collect.doors.point import Point
from tallybook.collect.doors.rules import DoorRules
from tallybook.collect.flow import decoded, encoded
from tallybook.collect.scrape.exposition import is_open_metrics, points
from tallybook.collect.scrape.pages import PLUS_PATHS, apache_auto, nginx_plus, nginx_stub
from tallybook.collect.scrape.target import TargetState, Told, target_round
from tallybook.collect.spool import encode_event
from tallybook.kernel.errors import Unavailable
from tallybook.serve.agent.sources.plug import Surroundings
from tallybook.serve.agent.sources.tables import Prometheus, StatusPage

_ACCEPT = (
    "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
_STARTTIME = 19
"""Place of the start time in /proc/PID/stat, counted after the name in brackets."""
Read = Callable[[PageFetch, int], list[Point]]


class ScrapedSource:
    """`Source` of one page of numbers.

    Args:
        told: its table of the settings.
        edge: this edge's name, part of the events' source: what two edges read is two readings.
    """

    measures_growth = True

    def __init__(self, told: Prometheus | StatusPage, edge: str) -> None:
        """Ask nothing yet."""
        self.told = (told, edge)
        self.name = f"{told.name} {told.url}"
        self.interval_seconds = told.interval_seconds
        ca_file = str(told.ca_file) if told.ca_file else None
        self._fetch = PageFetch(told.url, told.headers, ca_file)
        self._read, self._judged = _scrape(told) if isinstance(told, Prometheus) else _page(told)
        self._judged = msgspec.structs.replace(self._judged, source=f"scrape:{edge}")
        self._cursor = f"scrape:{self.name}"

    def read(self, around: Surroundings) -> int:
        """Read the page once."""
        now_us = time.time_ns() // 1000
        found = self._read(self._fetch, now_us)
        known = around.intake.cursor(self._cursor)
        state = decoded(known, TargetState) if known is not None else None
        done = target_round(found, state, self._judged, now_us)
        for note in done.notes:
            around.voice.say(f"{self.name}: {note}")
        pieces = [encode_event(event) for event in done.events]
        return around.intake.take(pieces, {self._cursor: encoded(done.state)})

    def close(self) -> None:
        """Close the connection."""
        self._fetch.close()


def _scrape(told: Prometheus) -> tuple[Read, Told]:
    labels = {**told.labels, "job": told.name, "instance": told.instance or _place(told.url)}

    def read(fetch: PageFetch, now_us: int) -> list[Point]:
        kind, text = fetch.page(_ACCEPT)
        return points(text, now_us, labels, open_metrics=is_open_metrics(kind))

    judged = Told(source="", rules=told.rules(), new_series_from_zero=told.new_series_from_zero)
    return read, judged


def _page(told: StatusPage) -> tuple[Read, Told]:
    labels = {"job": told.name, "instance": told.instance or _place(told.url)}

    def read(fetch: PageFetch, now_us: int) -> list[Point]:
        if told.kind == "apache":
            return apache_auto(fetch.page("text/plain")[1], now_us, labels)
        if told.kind == "nginx":
            started_us = _started_us(told.pid_file) if told.pid_file else 0
            return nginx_stub(fetch.page("text/plain")[1], now_us, labels, started_us)
        return nginx_plus(_answers(fetch), now_us, labels)

    return read, Told(source="", rules=DoorRules(ignore=[]))


def _answers(fetch: PageFetch) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in PLUS_PATHS:
        try:
            text = fetch.page("application/json", path)[1]
            found[path] = msgspec.json.decode(text)
        except Unavailable:
            if path == PLUS_PATHS[0]:
                raise
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{fetch.url}/{path} does not send JSON") from error
    return found


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _started_us(pid_file: Path) -> int:
    """Return when a process started, to a tick of the kernel; 0 where that cannot be told."""
    try:
        stat = Path(f"/proc/{int(pid_file.read_text())}/stat").read_text()
        ticks = int(stat.rpartition(")")[2].split()[_STARTTIME])
    except (OSError, ValueError, IndexError):
        return 0
    since_boot_us = ticks * 1_000_000 // os.sysconf("SC_CLK_TCK")
    age_us = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000 - since_boot_us
    return time.time_ns() // 1000 - age_us
