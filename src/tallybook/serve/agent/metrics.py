"""The agent about itself, for Prometheus: `/metrics` on loopback, where that is asked for."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from tallybook.collect.sending.parcel import Waiting
from tallybook.kernel.errors import Unavailable
from tallybook.serve.agent.status import AgentStatus

_PREFIX = "tallybook_edge_"
_CONTENT = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(status: AgentStatus, waiting: Waiting, now_us: int) -> str:
    """Return the figures in the text format of Prometheus."""
    return "".join(f"{line}\n" for line in _lines(status, waiting, now_us))


class MetricsDoor:
    """Answers `GET /metrics` until it is closed.

    Args:
        address: host and port, from `settings.listen_address`; port 0 takes any.
        text: gives the figures of the moment.

    Raises:
        Unavailable: the address is taken.
    """

    def __init__(self, address: tuple[str, int], text: Callable[[], str]) -> None:
        """Listen."""
        try:
            self._server = ThreadingHTTPServer(address, _handler(text))
        except OSError as error:
            raise Unavailable(f"metrics_listen: {error.strerror or error}") from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _handler(text: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            found = self.path.partition("?")[0] == "/metrics"
            body = text().encode() if found else b"see /metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", _CONTENT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: scrapes are not worth a line."""

    return Handler


def _lines(status: AgentStatus, waiting: Waiting, now_us: int) -> Iterator[str]:
    plain: tuple[tuple[str, str, object], ...] = (
        ("events_stored_total", "counter", status.stored),
        ("events_quarantined_total", "counter", status.quarantined),
        ("events_parked_total", "counter", status.parked),
        ("rounds_total", "counter", status.rounds),
        ("spool_batches", "gauge", waiting.batches),
        ("spool_events", "gauge", waiting.events),
        ("spool_bytes", "gauge", waiting.bytes),
        ("spool_oldest_seconds", "gauge", _age(waiting.oldest_us, now_us)),
        ("acknowledged_seconds", "gauge", _age(status.acked_us or None, now_us)),
        ("windows_open", "gauge", status.windows),
        ("circuit_open", "gauge", int(status.circuit != "closed")),
        ("problem", "gauge", int(status.complaint is not None)),
    )
    for name, kind, value in plain:
        yield f"# TYPE {_PREFIX}{name} {kind}"
        yield f"{_PREFIX}{name} {value}"
    yield f"# TYPE {_PREFIX}events_read_total counter"
    for source in status.sources:
        yield f'{_PREFIX}events_read_total{{source="{_escaped(source.name)}"}} {source.events}'
    yield f"# TYPE {_PREFIX}source_failing gauge"
    for source in status.sources:
        failing = int(source.problem is not None)
        yield f'{_PREFIX}source_failing{{source="{_escaped(source.name)}"}} {failing}'
    yield from (
        "# TYPE process_cpu_seconds_total counter",
        f"process_cpu_seconds_total {status.cpu_seconds}",
        "# TYPE process_resident_memory_bytes gauge",
        f"process_resident_memory_bytes {status.rss_bytes}",
        "# TYPE process_start_time_seconds gauge",
        f"process_start_time_seconds {status.started_us / 1e6}",
    )


def _age(since_us: int | None, now_us: int) -> float:
    return 0.0 if since_us is None else max(0, now_us - since_us) / 1e6


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
