"""The agent beside Debian's prometheus-node-exporter on this host: they measured the same."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.test_edge_agent import DEADLINE_SECONDS, agent, wait_for
from tests.support.edge_server import EdgeServer

EXPORTER = shutil.which("prometheus-node-exporter")
Figures = dict[tuple[str, str, str], Decimal]

_SAMPLE = re.compile(r"(node_\w+)\{(.*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_MODES = {"irq": "interrupt"}
_BYTES = {
    "node_network_receive_bytes_total": ("system.network.io", "receive"),
    "node_network_transmit_bytes_total": ("system.network.io", "transmit"),
    "node_disk_read_bytes_total": ("system.disk.io", "read"),
    "node_disk_written_bytes_total": ("system.disk.io", "write"),
}
JITTER_SECONDS = Decimal("0.2")
"""Idle and iowait step back and forth by some ticks; neither side counts that the same way."""


@pytest.fixture
def exporter() -> Iterator[str]:
    if EXPORTER is None:
        message = "prometheus-node-exporter is not installed; `make engines` does that"
        assert not os.environ.get("CI"), message
        pytest.skip(message)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        EXPORTER, f"--web.listen-address=127.0.0.1:{port}", "--collector.disable-defaults",
        "--collector.cpu", "--collector.netdev", "--collector.diskstats",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}/metrics"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until_it_answers(url)
            yield url
        finally:
            process.kill()


def wait_until_it_answers(url: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=60).close()
        except urllib.error.URLError:
            assert time.monotonic() < deadline, "the exporter does not start"
            time.sleep(0.05)
        else:
            return


def scraped(url: str) -> Figures:
    """CPU seconds by mode, bytes by interface, disk and direction, as the exporter tells them."""
    found: Figures = defaultdict(Decimal)
    with urllib.request.urlopen(url, timeout=60) as answer:
        text = answer.read().decode()
    for name, labels_text, value in _SAMPLE.findall(text):
        labels: dict[str, str] = dict(_LABEL.findall(labels_text))
        if name == "node_cpu_seconds_total":
            mode = str(_MODES.get(labels["mode"], labels["mode"]))
            found["system.cpu.time", mode, ""] += Decimal(value)
        elif name in _BYTES:
            metric, direction = _BYTES[name]
            found[metric, labels["device"], direction] = Decimal(value)
    return found


def sent(server: EdgeServer) -> Figures:
    """The same from the agent's events."""
    found: Figures = defaultdict(Decimal)
    for event in server.stored.values():
        data, value = event["data"], event["data"].get("value")
        if event["type"] == "system.cpu.time":
            found[event["type"], data["mode"], ""] += Decimal(str(value))
        elif event["type"] in {"system.network.io", "system.disk.io"}:
            device = data.get("interface") or data["device"]
            found[event["type"], device, data["direction"]] += Decimal(str(value))
    return found


@pytest.mark.parametrize("seconds", [3, pytest.param(600, marks=pytest.mark.slow(600))])
def test_cpu_network_and_disk_agree_with_the_exporter(
    tmp_path: Path, exporter: str, seconds: int
) -> None:
    """Scrapes just outside and just inside the agent's readings are bounds from both sides."""
    interval = "1" if seconds < 60 else "10"
    with EdgeServer() as server:
        outside_begin = scraped(exporter)
        with agent(server, tmp_path / "state", "--interval", interval) as process:
            wait_for(lambda: server.stored, process)
            inside_begin = scraped(exporter)
            with tempfile.TemporaryDirectory(dir="/var/tmp") as disk:
                work(Path(disk), exporter, seconds)
            inside_end = scraped(exporter)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=DEADLINE_SECONDS)
            assert process.returncode == 0, said
        outside_end = scraped(exporter)
        ours = sent(server)
    compared = set()
    for series in outside_begin:
        least = inside_end[series] - inside_begin[series]
        most = outside_end[series] - outside_begin[series]
        slack = JITTER_SECONDS if series[0] == "system.cpu.time" else Decimal(0)
        if is_counted(series):
            assert least - slack <= ours[series] <= most + slack, (series, least, most)
            compared.add(series[0])
    assert compared >= {"system.cpu.time", "system.network.io"}
    user = ours["system.cpu.time", "user", ""]
    assert user > 0
    assert ours["system.network.io", "lo", "receive"] > 0


def work(folder: Path, exporter: str, seconds: int) -> None:
    """Use some of everything for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        scraped(exporter)
        with (folder / "noise").open("wb") as file:
            file.write(os.urandom(1 << 20))
            os.fsync(file.fileno())
        time.sleep(min(0.5, max(0, end - time.monotonic())))


def is_counted(series: tuple[str, str, str]) -> bool:
    """Partitions and layered devices are inside their disks: the agent counts them once."""
    metric, device, _ = series
    if metric != "system.disk.io":
        return True
    layered = device.startswith(("loop", "ram", "zram", "dm-", "md", "sr", "fd"))
    return Path(f"/sys/block/{device}").exists() and not layered
