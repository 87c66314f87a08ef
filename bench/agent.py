"""The footprint of the edge agent: memory, processor share, bytes sent an hour."""

import http.server
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import psutil

INTERVAL_SECONDS = 2
RUN_SECONDS = 20
TARGET_INTERVAL_SECONDS = 10


class Footprint(msgspec.Struct, kw_only=True):
    """What the agent used, as at readings every 10 seconds.

    Attributes:
        rss_mb: largest resident memory, MiB.
        core_share: processor time a second, after the start; 0.01 is one percent of a core.
        mb_an_hour: sent, MiB.
    """

    rss_mb: float
    core_share: float
    mb_an_hour: float


class _Sink(http.server.BaseHTTPRequestHandler):
    """Acknowledges everything and counts bytes."""

    received = 0

    def do_POST(self) -> None:
        """Count a batch."""
        size = int(self.headers.get("Content-Length", "0"))
        self.rfile.read(size)
        type(self).received += size + sum(len(k) + len(v) + 4 for k, v in self.headers.items())
        body = b'{"stored":1,"quarantined":[]}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def footprint(folder: Path) -> Footprint:
    """Run the agent against a server that acknowledges everything."""
    sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    command = [sys.executable, "-m", "tallybook", "edge", "run", "--state", str(folder)]
    command += ["--url", f"http://127.0.0.1:{sink.server_port}", "--key", "tb_bench_key_0123456789"]
    command += ["--interval", f"{INTERVAL_SECONDS}s", "--for", f"{RUN_SECONDS}s"]
    agent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process = psutil.Process(agent.pid)
    time.sleep(4)
    before, started = process.cpu_times(), time.perf_counter()
    sent_before = _Sink.received
    rss = 0
    used = spent = sent = 0.0
    while agent.poll() is None and spent < RUN_SECONDS - 6:
        rss = max(rss, process.memory_info().rss)
        now = process.cpu_times()
        used = now.user + now.system - before.user - before.system
        spent = time.perf_counter() - started
        sent = _Sink.received - sent_before
        time.sleep(0.25)
    agent.wait()
    sink.shutdown()
    slower = INTERVAL_SECONDS / TARGET_INTERVAL_SECONDS
    return Footprint(
        rss_mb=rss / 2**20,
        core_share=used / spent * slower,
        mb_an_hour=sent / spent * 3600 / 2**20 * slower,
    )
