"""What tests of the front doors share: free ports, the lake's events, Prometheus as it is run."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from tallybook.adapters.delta.event_table import DeltaEventTable
from tests.support.databases import absent

Series = tuple[str, tuple[tuple[str, str], ...]]


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def lake_events(folder: Path) -> list[dict[str, Any]]:
    """Return every event of a data folder's lake, its data decoded with exact numbers."""
    table = DeltaEventTable(folder / "lake" / "events")
    files = [file.path for file in table.files()]
    if not files:
        return []
    columns = ["source", "id", "type", "subject", "time_us", "data", "problem"]
    with duckdb.connect() as db:
        rows = db.execute(f"SELECT {', '.join(columns)} FROM read_parquet(?)", [files]).fetchall()
    events = [dict(zip(columns, row, strict=True)) for row in rows]
    for event in events:
        if event["problem"] is None:
            event["data"] = json.loads(event["data"], parse_float=Decimal, parse_int=Decimal)
    return events


def growths(folder: Path, door: str) -> dict[Series, Decimal]:
    """Return what each series of a door grew by, from the lake; levels are left out."""
    found: dict[Series, Decimal] = defaultdict(Decimal)
    for event in lake_events(folder):
        if event["source"] != f"door:{door}" or event["problem"] is not None:
            continue
        data = dict(event["data"])
        if "since" not in data:
            continue
        value = data.pop("value")
        del data["since"]
        found[event["type"], tuple(sorted((n, str(v)) for n, v in data.items()))] += value
    return dict(found)


class Prometheus:
    """Debian's Prometheus, scraping itself each second and writing to one address."""

    def __init__(self, folder: Path, url: str, key: str) -> None:
        """Nothing runs yet."""
        self.folder, self._url, self._key = folder, url, key
        self.port = free_port()
        self._config = folder / "prometheus.yml"
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self) -> Iterator["Prometheus"]:
        """Run until the block ends."""
        program = shutil.which("prometheus")
        if program is None:
            absent("prometheus")
        self._configure([f"127.0.0.1:{self.port}"])
        command = [
            str(program),
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self.folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with (self.folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield self
        finally:
            self._process.kill()
            self._process.wait(10)

    def stop_scraping(self) -> None:
        """Let it read no more; what it has read it goes on sending."""
        assert self._process is not None
        self._configure([])
        os.kill(self._process.pid, signal.SIGHUP)

    def counted(self, minutes: int) -> dict[Series, Decimal]:
        """Return what each of its counters grew by, from its own samples."""
        query = '{__name__=~".+(_total|_sum|_count)",job="self"}'
        text = urllib.parse.urlencode({"query": f"{query}[{minutes}m]"})
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}/api/v1/query?{text}", timeout=60
        ) as answer:
            found = json.load(answer)["data"]["result"]
        counted: dict[Series, Decimal] = {}
        for one in found:
            labels = dict(one["metric"])
            name = labels.pop("__name__")
            numbers = [Decimal(value) for _, value in one["values"] if value != "NaN"]
            values = [number.quantize(Decimal("1e-12")) for number in numbers]
            if values and values[-1] != values[0]:
                assert values == sorted(values), f"{name} fell"
                counted[name, tuple(sorted(labels.items()))] = values[-1] - values[0]
        return counted

    def scraped(self) -> int:
        """Return how many times it has read itself so far."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/api/v1/query?query=count_over_time(up[10m])",
                timeout=60,
            ) as answer:
                result = json.load(answer)["data"]["result"]
        except OSError:
            return 0
        return int(result[0]["value"][1]) if result else 0

    def _configure(self, targets: list[str]) -> None:
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "self", "static_configs": [{"targets": targets}]}],
            "remote_write": [
                {
                    "url": self._url,
                    "authorization": {"credentials": self._key},
                    "remote_timeout": "5s",
                    "queue_config": {
                        "batch_send_deadline": "500ms",
                        "max_backoff": "300ms",
                        "min_shards": 2,
                        "max_samples_per_send": 100,
                    },
                }
            ],
        }
        self._config.write_bytes(msgspec.json.encode(config))


def await_equal(read: Callable[[], tuple[Any, Any]], seconds: float) -> tuple[Any, Any]:
    """Return two readings once they are the same twice, or as they are at the last moment."""
    deadline = time.monotonic() + seconds
    before: Any = None
    while time.monotonic() < deadline:
        left, right = read()
        if left == right == before:
            return left, right
        before = left if left == right else None
        time.sleep(0.5)
    return read()
