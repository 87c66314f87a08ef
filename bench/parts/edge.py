"""The agent following a log that grows by 500 lines a second: its share of a core."""

import http.server
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import psutil

LINES_A_SECOND = 500
WARM_SECONDS = 5
RUN_SECONDS = 20.0
LINE = (
    '10.{}.{}.{} - - [17/May/2015:10:05:03 +0000] "GET /images/{}.png?size={} HTTP/1.1" 200 {} '
    '"http://www.example.com/page/{}" "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101"\n'
)


class Following(msgspec.Struct, kw_only=True):
    """What following a log cost.

    Attributes:
        lines_a_second: written, and read to the last.
        core_share: processor time a second; 0.01 is one percent of a core.
        rss_mb: largest resident memory, MiB.
        lag_seconds: from the last line written until the server had all.
    """

    lines_a_second: float
    core_share: float
    rss_mb: float
    lag_seconds: float


class _Sink(http.server.BaseHTTPRequestHandler):
    """Acknowledges everything and counts events by the line that names them."""

    events = 0

    def do_POST(self) -> None:
        """Count a batch."""
        import zstandard

        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        plain = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        count = len(msgspec.json.decode(plain, type=list[msgspec.Raw]))
        type(self).events += count
        answer = b'{"stored":%d,"quarantined":[]}' % count
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self) -> None:
        """Know of no rules."""
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def following(folder: Path, seconds: float = RUN_SECONDS) -> Following:
    """Run the agent against a server that acknowledges everything, and write its log."""
    sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "access.log"
    log.touch()
    command = [sys.executable, "-m", "tallybook", "edge", "run", "--state", str(folder / "state")]
    command += ["--url", f"http://127.0.0.1:{sink.server_port}", "--key", "tb_bench_key_0123456789"]
    command += ["--no-host", "--access-log", f"{log}:combined", "--interval", "10s"]
    agent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return _measured(psutil.Process(agent.pid), log, seconds)
    finally:
        agent.terminate()
        agent.wait()
        sink.shutdown()


def _measured(process: psutil.Process, log: Path, seconds: float) -> Following:
    written, rss = 0, 0
    begin = time.perf_counter()
    before, from_line, since = process.cpu_times(), 0, begin
    with log.open("a") as file:
        while (spent := time.perf_counter() - begin) < WARM_SECONDS + seconds:
            if not from_line and spent >= WARM_SECONDS:
                before, from_line, since = process.cpu_times(), written, time.perf_counter()
            due = int(spent * LINES_A_SECOND)
            for n in range(written, due):
                a, b, c = n >> 16 & 255, n >> 8 & 255, n & 255
                file.write(LINE.format(a, b, c, n % 977, n % 13, n % 9973, n % 101))
            file.flush()
            written = due
            rss = max(rss, process.memory_info().rss)
            time.sleep(0.05)
    ended = time.perf_counter()
    while _Sink.events < written:
        assert time.perf_counter() - ended < 60, f"{_Sink.events} of {written} lines arrived"
        time.sleep(0.05)
    now = process.cpu_times()
    used = now.user + now.system - before.user - before.system
    return Following(
        lines_a_second=(written - from_line) / (ended - since),
        core_share=used / (ended - since),
        rss_mb=rss / 2**20,
        lag_seconds=time.perf_counter() - ended,
    )
