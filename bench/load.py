"""A load generator in a process of its own: keep-alive HTTP over a few sockets, one epoll loop.

Run as `python -m bench.load`, with a JSON plan on standard input; prints a JSON result. Events
have unique ids unless `duplicate_percent` says otherwise; every answer is checked.
"""

import json
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec


class Plan(msgspec.Struct, kw_only=True):
    """What to send.

    Attributes:
        host, port, key: the server.
        seconds: how long, at most.
        events_max: how many events, at most; 0 is no bound.
        batch: events a request.
        connections: requests in flight.
        run: distinguishes the ids of two runs.
        subjects: how many different ones.
        rate: events a second to hold; 0 is as fast as it goes.
        start: RFC 3339 time of the first event; events are a millisecond apart.
        spread_seconds: event times run over this span, again and again.
    """

    host: str
    port: int
    key: str
    seconds: float = 10.0
    events_max: int = 0
    batch: int = 1000
    connections: int = 8
    run: str = "r"
    subjects: int = 1000
    rate: float = 0.0
    start: str = "2026-11-01T00:00:00Z"
    spread_seconds: int = 3600


class Result(msgspec.Struct, kw_only=True):
    """What came of it; latencies in milliseconds, CPU in seconds of this process."""

    events: int
    requests: int
    seconds: float
    refused: int
    cpu_seconds: float
    latency_p50_ms: float
    latency_p99_ms: float
    latency_max_ms: float
    bytes_sent: int


def bodies(plan: Plan) -> Iterator[tuple[bytes, int]]:
    """Yield request bodies without end: (JSON, events)."""
    base = datetime.fromisoformat(plan.start).astimezone(UTC)
    times = [
        (base + timedelta(milliseconds=i * plan.spread_seconds)).strftime("%Y-%m-%dT%H:%M:%S.%f")[
            :-3
        ]
        + "Z"
        for i in range(1000)
    ]
    number = 0
    while True:
        parts = []
        for _ in range(plan.batch):
            parts.append(
                f'{{"specversion":"1.0","id":"{plan.run}-{number:012d}","source":"/bench/edge-1",'
                f'"type":"http.server.request","subject":"customer-{number % plan.subjects}",'
                f'"time":"{times[number % 1000]}","data":{{"method":"GET",'
                f'"path":"/api/items/{number % 97}",'
                f'"status":200,"bytes":{number % 5000},"region":"eu"}}}}'
            )
            number += 1
        text = ",".join(parts)
        yield (f"[{text}]" if plan.batch > 1 else text).encode(), plan.batch


class Connection:
    """One socket with one request in flight."""

    def __init__(self, plan: Plan) -> None:
        """Connect."""
        self.socket = socket.create_connection((plan.host, plan.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self.events = 0
        self.buffer = b""

    def send(self, head: bytes, body: bytes, events: int) -> None:
        """Send one request."""
        self.sent_at = time.perf_counter()
        self.events = events
        self.socket.sendall(head + str(len(body)).encode() + b"\r\n\r\n" + body)

    def answer(self) -> int | None:
        """Read what is there; return the status once the answer is whole."""
        chunk = self.socket.recv(65536)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        self.buffer += chunk
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return None
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        if len(rest) < length:
            return None
        self.buffer = b""
        return int(head[9:12])


def request_head(plan: Plan) -> bytes:
    """Return a request up to its length, which follows."""
    kind = "cloudevents-batch+json" if plan.batch > 1 else "cloudevents+json"
    return (
        f"POST /api/v1/events HTTP/1.1\r\nHost: {plan.host}\r\nAuthorization: Bearer {plan.key}\r\n"
        f"Content-Type: application/{kind}\r\nContent-Length: "
    ).encode()


def hold(rate: float, sent: int, started: float) -> None:
    """Sleep where more was sent than the rate allows; 0 is no rate."""
    if rate:
        time.sleep(max(0.0, sent / rate - (time.perf_counter() - started)))


def run(plan: Plan) -> Result:
    """Send until time or events are used up; every request is awaited."""
    head = request_head(plan)
    selector = selectors.DefaultSelector()
    source = bodies(plan)
    latencies: list[float] = []
    sent = done = refused = bytes_sent = 0
    started, cpu = time.perf_counter(), time.process_time()

    def more() -> bool:
        elapsed = time.perf_counter() - started
        return elapsed < plan.seconds and (not plan.events_max or sent < plan.events_max)

    def fire(connection: Connection) -> None:
        nonlocal sent, bytes_sent
        hold(plan.rate, sent, started)
        body, events = next(source)
        connection.send(head, body, events)
        sent += events
        bytes_sent += len(body)

    for _ in range(plan.connections):
        connection = Connection(plan)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        fire(connection)
    waiting = plan.connections
    while waiting:
        for key, _ in selector.select(30):
            connection = key.data
            status = connection.answer()
            if status is None:
                continue
            latencies.append((time.perf_counter() - connection.sent_at) * 1000)
            if status in {200, 204}:
                done += connection.events
            else:
                refused += connection.events
            if more():
                fire(connection)
            else:
                selector.unregister(connection.socket)
                waiting -= 1
    seconds = time.perf_counter() - started
    latencies.sort()
    return Result(
        events=done, requests=len(latencies), seconds=seconds, refused=refused,
        cpu_seconds=time.process_time() - cpu, latency_p50_ms=latencies[len(latencies) // 2],
        latency_p99_ms=latencies[int(len(latencies) * 0.99)], latency_max_ms=latencies[-1],
        bytes_sent=bytes_sent,
    )  # fmt: skip


def main() -> None:
    """Run the plan on standard input."""
    plan: Any = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    json.dump(msgspec.to_builtins(run(plan)), sys.stdout)


if __name__ == "__main__":
    main()
