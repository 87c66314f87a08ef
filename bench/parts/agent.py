"""The footprint of the edge agent: memory, processor share, bytes sent an hour."""

import http.server
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import psutil
import zstandard

SETTLE_SECONDS = 4
MIB = 1 << 20
LINE = '10.{}.{}.{} - - [{}] "GET /item/{} HTTP/1.1" {} {} "-" "Mozilla/5.0 (X11; Linux x86_64)"\n'
RULES = msgspec.json.encode(
    {
        "version": "1",
        "rules": [
            {
                "name": "requests",
                "match": "http.server.request",
                "group_by": {"status": "$.status"},
                "value": "$.bytes",
            }
        ],
    }
)


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent is given to do.

    Attributes:
        seconds: how long; the first few are not counted.
        interval_seconds: between readings.
        lines_per_second: of an access log, from so many clients; 0 is none.
        aggregated: whether the server declares a rule that adds them up.
    """

    seconds: int
    interval_seconds: int
    lines_per_second: int = 0
    clients: int = 500
    aggregated: bool = False


HOST = Load(seconds=20, interval_seconds=2)
"""This host's readings, five times as often as usual; the figures are scaled."""
RAW = Load(seconds=45, interval_seconds=10, lines_per_second=500)
AGGREGATED = Load(seconds=130, interval_seconds=10, lines_per_second=500, aggregated=True)
"""Two minutes, so that windows of a minute close within it."""


class Footprint(msgspec.Struct, kw_only=True):
    """What the agent used.

    Attributes:
        rss_mb: largest resident memory, MiB.
        core_share: processor time a second, after the start; 0.01 is one percent of a core.
        mb_an_hour: sent, MiB.
    """

    rss_mb: float
    core_share: float
    mb_an_hour: float

    def scaled(self, slower: float) -> "Footprint":
        """Return the same at readings that are so much rarer."""
        return Footprint(
            rss_mb=self.rss_mb,
            core_share=self.core_share * slower,
            mb_an_hour=self.mb_an_hour * slower,
        )


class Sink(http.server.ThreadingHTTPServer):
    """A server that acknowledges everything, counts bytes and declares rules."""

    def __init__(self, *, aggregated: bool) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), _Answers)
        self.aggregated = aggregated
        self.received = 0
        self.events = 0
        self.daemon_threads = True
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Sink

    def do_POST(self) -> None:
        """Count a batch."""
        size = int(self.headers.get("Content-Length", "0"))
        body = zstandard.ZstdDecompressor().decompressobj().decompress(self.rfile.read(size))
        events = len(msgspec.json.decode(body, type=list[msgspec.Raw]))
        self._count(size)
        self.server.events += events
        self._answer(200, b'{"stored":%d,"quarantined":[]}' % events)

    def do_GET(self) -> None:
        """Tell the rules."""
        self._count(0)
        self._answer(200 if self.server.aggregated else 404, RULES)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _count(self, size: int) -> None:
        self.server.received += size + sum(len(k) + len(v) + 4 for k, v in self.headers.items())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Writer(threading.Thread):
    """Writes an access log at a steady rate."""

    def __init__(self, path: Path, load: Load) -> None:
        """Write nothing yet."""
        super().__init__(daemon=True)
        self._path = path
        self._load = load
        self.ended = threading.Event()
        path.touch()

    def run(self) -> None:
        """Write a tenth of a second's lines ten times a second."""
        number = 0
        with self._path.open("a") as file:
            while not self.ended.wait(0.1):
                stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
                for _ in range(self._load.lines_per_second // 10):
                    number += 1
                    client = number * 7919 % self._load.clients
                    parts = (client >> 8, client & 255, 1, stamp)
                    file.write(LINE.format(*parts, number % 977, 200 + number % 3, number % 4096))
                file.flush()


def footprint(folder: Path, load: Load = HOST) -> Footprint:
    """Run the agent against a server that acknowledges everything."""
    folder.mkdir(parents=True, exist_ok=True)
    sink = Sink(aggregated=load.aggregated)
    command = [sys.executable, "-m", "tallybook", "edge", "run", "--state", str(folder / "state")]
    command += ["--url", f"http://127.0.0.1:{sink.server_port}", "--key", "tb_bench_key_0123456789"]
    command += ["--interval", f"{load.interval_seconds}s", "--for", f"{load.seconds}s"]
    writer = Writer(folder / "access.log", load)
    if load.lines_per_second:
        command += ["--no-host", "--access-log", str(folder / "access.log")]
        writer.start()
    agent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = _measured(agent, sink, load)
    writer.ended.set()
    assert agent.wait() == 0, "everything was sent"
    sink.shutdown()
    return found


def _measured(agent: "subprocess.Popen[bytes]", sink: Sink, load: Load) -> Footprint:
    process = psutil.Process(agent.pid)
    time.sleep(SETTLE_SECONDS)
    before, started, sent_before = process.cpu_times(), time.perf_counter(), sink.received
    rss, used, spent, sent = 0, 0.0, 0.0, 0
    while agent.poll() is None and spent < load.seconds - SETTLE_SECONDS - 2:
        rss = max(rss, process.memory_info().rss)
        now = process.cpu_times()
        used = now.user + now.system - before.user - before.system
        spent = time.perf_counter() - started
        sent = sink.received - sent_before
        time.sleep(0.25)
    return Footprint(
        rss_mb=rss / MIB, core_share=used / spent, mb_an_hour=sent / spent * 3600 / MIB
    )


def report(folder: Path, seconds_max: int = 1_000) -> list[tuple[str, Footprint]]:
    """Measure every load; return names and figures at readings every 10 seconds.

    Args:
        folder: for logs and states.
        seconds_max: of each load; below 130 no window of a minute closes, so nothing is added up.
    """

    def measured(name: str, load: Load) -> Footprint:
        shorter = msgspec.structs.replace(load, seconds=min(load.seconds, seconds_max))
        return footprint(folder / name, shorter)

    return [
        (
            "edge agent at readings every 10 s",
            measured("host", HOST).scaled(HOST.interval_seconds / 10),
        ),
        ("edge agent at 500 log lines/s, each line an event", measured("raw", RAW)),
        ("edge agent at 500 log lines/s, added up by the minute", measured("added", AGGREGATED)),
    ]
