"""Real HTTP with keep-alive over a few sockets, one loop; every answer is read and judged.

Answers 429 and 503 are kept promises: nothing was stored, and the same bytes are sent again after
`Retry-After`. Any other answer that is not a 2xx is refused, which no bench accepts.
"""

import heapq
import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator

from bench.figures.numbers import percentile
from bench.generator.bodies import Bodies, Body
from bench.generator.plan import Plan, Result

AGAIN = frozenset({429, 503})
DONE = frozenset({200, 204})
BUFFER_BYTES = 1 << 20
ANSWER_SECONDS_MAX = 60.0
SILENT_SECONDS_MAX = 20.0
"""After which a plan that sends again does, on a new connection."""
CONNECT_PAUSE_SECONDS = 0.05
NOTHING = Body(b"", 0, (0, 0, 0))
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)


class Answer:
    """A whole answer: its status, its body, and how long to wait before the same is sent again."""

    def __init__(self, head: bytes, body: bytes) -> None:
        """Read the head."""
        self.status = int(head[9:12])
        self.body = body
        self.wait_seconds = float(_header(head, b"retry-after") or 0)


class Connection:
    """One socket with at most one request in flight."""

    def __init__(self, plan: Plan) -> None:
        """Connect."""
        self._address = (plan.host, plan.port)
        self._patient = plan.resend
        self.socket = self._connected()
        self.due = 0.0
        self.body = NOTHING
        self._head = _request_head(plan)
        self._read = b""

    def _connected(self) -> socket.socket:
        """Connect; where connections may break, wait until somebody listens."""
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while True:
            try:
                made = socket.create_connection(self._address, timeout=ANSWER_SECONDS_MAX)
            except OSError:
                if not self._patient or time.monotonic() > deadline:
                    raise
                time.sleep(CONNECT_PAUSE_SECONDS)
            else:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
                return made

    def connect_again(self) -> None:
        """Connect anew; what was read of an answer is forgotten."""
        self.socket.close()
        self._read = b""
        self.socket = self._connected()

    def send(self, body: Body, due: float) -> None:
        """Send one request; its answer is awaited since `due`."""
        self.body, self.due = body, due
        self.socket.sendall(self._head % len(body.content) + body.content)

    def answer(self) -> Answer | None:
        """Read what is there; return the answer once it is whole."""
        chunk = self.socket.recv(65536)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        self._read += chunk
        head, separator, rest = self._read.partition(b"\r\n\r\n")
        if not separator or len(rest) < int(_header(head, b"content-length") or 0):
            return None
        self._read = b""
        return Answer(head, rest)


def _header(head: bytes, name: bytes) -> bytes:
    """Return a header's value; b'' where there is none."""
    _, _, after = head.lower().partition(b"\r\n" + name + b":")
    return after.partition(b"\r\n")[0].strip()


def _request_head(plan: Plan) -> bytes:
    kind = "cloudevents-batch+json" if plan.batch > 1 else "cloudevents+json"
    query = "?partial=true" if plan.bad_percent else ""
    return (
        f"POST /api/v1/events{query} HTTP/1.1\r\nHost: {plan.host}\r\n"
        f"Authorization: Bearer {plan.key}\r\nContent-Type: application/{kind}\r\n"
        "Content-Length: %d\r\n\r\n"
    ).encode()


class Sending:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        """Connect, and make the bodies ahead."""
        self._plan = plan
        self._bodies = Bodies(plan)
        self._next: Iterator[Body] = iter(self._bodies)
        self._selector = selectors.DefaultSelector()
        self._idle = deque(Connection(plan) for _ in range(plan.connections))
        """Taken in turn: a server closes what nothing comes over for half a minute."""
        for connection in self._idle:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._again: list[tuple[float, int, Body, float]] = []
        self._acknowledged: Counter[tuple[int, int, int]] = Counter()
        self._latencies: list[float] = []
        self._begun = self._retried = self._resent = self._refused = self._bytes = 0
        self._refusals: list[str] = []
        self._started = 0.0

    def run(self) -> Result:
        """Send until time or events are used up, and everything begun has its answer."""
        self._started, cpu = time.perf_counter(), time.process_time()
        while self._more() or self._in_flight() or self._again:
            self._begin()
            self._wait()
        seconds = time.perf_counter() - self._started
        return self._result(seconds, time.process_time() - cpu)

    def _in_flight(self) -> int:
        return self._plan.connections - len(self._idle)

    def _more(self) -> bool:
        left = not self._plan.events_max or self._begun * self._plan.batch < self._plan.events_max
        return left and time.perf_counter() - self._started < self._plan.seconds

    def _due(self) -> float:
        """Return when the next new request is due."""
        if not self._plan.rate:
            return 0.0
        return self._started + self._begun * self._plan.batch / self._plan.rate

    def _begin(self) -> None:
        """Send on every idle connection what is due."""
        while self._idle:
            now = time.perf_counter()
            if self._again and self._again[0][0] <= now:
                _, _, body, due = heapq.heappop(self._again)
            elif self._more() and (due := self._due()) <= now:
                body, due = next(self._next), due or now
                self._begun += 1
            else:
                return
            connection = self._idle.popleft()
            try:
                connection.send(body, due)
            except OSError:
                self._broke(connection)

    def _wait(self) -> None:
        """Take answers, until the next request is due."""
        wait = most = SILENT_SECONDS_MAX if self._plan.resend else ANSWER_SECONDS_MAX
        if self._idle:
            times = [self._again[0][0]] if self._again else []
            times += [self._due()] if self._more() else []
            if times:
                wait = max(0.0, min(times) - time.perf_counter())
            elif not self._in_flight():
                return
        ready = self._selector.select(wait)
        if not ready and wait == most:
            self._silent()
        for key, _ in ready:
            try:
                answer = key.data.answer()
            except OSError:
                self._broke(key.data)
            else:
                if answer is not None:
                    self._take(key.data, answer)

    def _silent(self) -> None:
        """Nobody answers: a connection may be one that a killed process never took."""
        if not self._plan.resend:
            raise TimeoutError(f"no answer for {ANSWER_SECONDS_MAX:.0f} s")
        waiting = [key.data for key in self._selector.get_map().values()]
        for connection in waiting:
            if connection not in self._idle:
                self._broke(connection)

    def _broke(self, connection: Connection) -> None:
        """Send what was in flight again: the events' identities keep it from counting twice."""
        if not self._plan.resend:
            raise  # noqa: PLE0704 - called where an error is handled
        self._selector.unregister(connection.socket)
        connection.connect_again()
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        if connection not in self._idle:  # one that had nothing in flight may break too
            self._idle.append(connection)
        if connection.body.events:
            self._resent += 1
            entry = (time.perf_counter(), -self._resent, connection.body, connection.due)
            heapq.heappush(self._again, entry)
            connection.body = NOTHING

    def _take(self, connection: Connection, answer: Answer) -> None:
        body, now = connection.body, time.perf_counter()
        connection.body = NOTHING
        self._idle.append(connection)
        if answer.status in DONE:
            self._latencies.append((now - connection.due) * 1000)
            self._acknowledged[body.key] += 1
            self._bytes += len(body.content)
        elif answer.status in AGAIN:
            self._retried += 1
            entry = (now + answer.wait_seconds, self._retried, body, connection.due)
            heapq.heappush(self._again, entry)
        else:
            self._refused += body.events
            if len(self._refusals) < 3:
                self._refusals.append(f"{answer.status} {answer.body[:300]!r}")

    def _result(self, seconds: float, cpu_seconds: float) -> Result:
        asked = int(self._plan.rate * min(seconds, self._plan.seconds))
        return Result(
            sent=self._bodies.sent(self._acknowledged),
            requests=len(self._latencies),
            seconds=seconds,
            retried=self._retried,
            resent=self._resent,
            refused=self._refused,
            refusals=self._refusals,
            unsent=max(0, asked - self._begun * self._plan.batch),
            cpu_seconds=cpu_seconds,
            latency_ms={
                f"{share:g}": round(percentile(self._latencies, share), 3) for share in PERCENTILES
            },
            bytes_sent=self._bytes,
        )
