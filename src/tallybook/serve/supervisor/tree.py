"""The process tree: API workers, pump, job runner, post; kept alive, stopped in order.

Source: DECISIONS 1.
"""

import http.client
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO
from urllib.parse import urlsplit

import msgspec

from tallybook import __version__
from tallybook.kernel.errors import Unavailable
from tallybook.serve.supervisor import folder, port
from tallybook.serve.supervisor.child import Kind, Role, Running
from tallybook.serve.supervisor.forked import preload, set_up_routes
from tallybook.serve.supervisor.memory import share_heaps
from tallybook.serve.supervisor.orphans import reap
from tallybook.settings import Settings, api_workers

TICK_SECONDS = 0.05
LOOK_SECONDS = 0.01
"""Pause between two looks at whether the server answers."""
DEATHS_MAX = 5
DEATHS_WINDOW_SECONDS = 30
BACKOFF_SECONDS_MAX = 5.0
STOP_SECONDS_MAX = 15.0

DOORS = frozenset({"api", "tls"})
"""Children that take requests."""

BEHIND: tuple[Kind, ...] = ("pump", "jobs", "post")
"""Children that every server has behind its doors."""

ROUTER = Role("router", 0)
"""Started when the file of streams is there: who has no rule pays for no process."""

Say = Callable[[str], None]


class Restart(msgspec.Struct, frozen=True):
    """A dead child to start again at `due` (monotonic seconds)."""

    role: Role
    due: float


class Tree:
    """The children of one server.

    Args:
        settings: with the port that was reserved.
        lock_fd: descriptor of the folder lock, handed to every child.
        url: where the server will answer.
        say: prints a line about a restart.
        log: where children write; None is standard error.
    """

    def __init__(
        self, settings: Settings, lock_fd: int, url: str, say: Say, log: IO[bytes] | None = None
    ) -> None:
        """Nothing is started yet."""
        self._settings = settings
        self._lock_fd = lock_fd
        self._log = log
        self._say = say
        self._children: dict[Role, Running] = {}
        self._restarts: dict[Role, int] = {}
        self._waiting: list[Restart] = []
        self._deaths: deque[float] = deque()
        self._stopping = False
        self._routing = False
        self._started_us = time.time_ns() // 1000
        self.url = url
        self.tls_url = _tls_url(settings)

    def start(self) -> None:
        """Start the doors; the processes behind them follow once the doors are open."""
        share_heaps()
        set_up_routes(self._settings)
        for index in range(api_workers(self._settings)):
            self._spawn(Role("api", index))
        if self.tls_url is not None:
            self._spawn(Role("tls", 0))

    def wait_ready(self) -> bool:
        """Wait until the server answers, start the rest, and tell of the server.

        Returns:
            False where a stop came first.

        Raises:
            Unavailable: it did not become ready in time, or its processes die repeatedly.
        """
        deadline = time.monotonic() + self._settings.server.ready_seconds_max
        for kind in BEHIND:  # while the doors open, on another core
            preload(kind)
        while not self._stopping:
            self._check_children()
            if answers(self.url) and (self.tls_url is None or listens(self.tls_url)):
                for kind in BEHIND:
                    self._spawn(Role(kind, 0))
                if self._settings.kafka.servers:
                    self._spawn(Role("kafka", 0))
                self._tell()
                return True
            if time.monotonic() > deadline:
                raise Unavailable("the server did not become ready in time", code="not-ready")
            time.sleep(LOOK_SECONDS)
        return False

    def run(self) -> None:
        """Keep the children alive until a stop is asked for.

        Raises:
            Unavailable: children die again and again; the reason is in their output.
        """
        while not self._stopping:
            self._check_children()
            if not self._routing and self._settings.streams_db.exists():
                self._routing = True
                self._spawn(ROUTER)
                self._tell_if_possible()
            time.sleep(TICK_SECONDS)

    def ask_stop(self) -> None:
        """Let `run` and `wait_ready` return; safe in a signal handler."""
        self._stopping = True

    def stop(self) -> None:
        """Stop the doors first, then the workers behind them; kill what does not finish."""
        deadline = time.monotonic() + STOP_SECONDS_MAX
        doors = [c for c in self._children.values() if c.role.kind in DOORS]
        others = [c for c in self._children.values() if c.role.kind not in DOORS]
        for group in (doors, others):
            for child in group:
                child.stop()
            for child in group:
                if not child.wait(max(0.1, deadline - time.monotonic())):
                    self._say(f"{child.role.kind} process {child.pid} did not stop in time; killed")
                    child.kill()
                    child.wait(5)
        self._children.clear()

    def _spawn(self, role: Role) -> None:
        self._children[role] = Running(role, self._settings, self._lock_fd, self._log)

    def _check_children(self) -> None:
        dead = [child for child in self._children.values() if child.exit_code() is not None]
        for child in dead:
            self._bury(child)
        now = time.monotonic()
        due = [restart for restart in self._waiting if restart.due <= now]
        for restart in due:
            self._waiting.remove(restart)
            self._spawn(restart.role)
        if dead or due:
            self._tell_if_possible()
        reap({child.pid for child in self._children.values()})

    def _bury(self, child: Running) -> None:
        code, now = child.exit_code(), time.monotonic()
        child.wait(0.1)
        del self._children[child.role]
        self._deaths.append(now)
        while self._deaths and self._deaths[0] < now - DEATHS_WINDOW_SECONDS:
            self._deaths.popleft()
        if len(self._deaths) >= DEATHS_MAX:
            raise Unavailable(
                f"{len(self._deaths)} processes died within {DEATHS_WINDOW_SECONDS} seconds,"
                f" the last was {child.role.kind} ({_ending(code)}); giving up."
                f" Read their messages; `tallybook doctor --data {self._settings.data_dir}`"
                " says what may be wrong",
                code="gave-up",
            )
        count = self._restarts[child.role] = self._restarts.get(child.role, 0) + 1
        pause = min(0.1 * 2 ** (len(self._deaths) - 1), BACKOFF_SECONDS_MAX)
        self._say(f"{child.role.kind} process {child.pid} died ({_ending(code)}); restart {count}")
        self._waiting.append(Restart(child.role, now + pause))

    def _tell_if_possible(self) -> None:
        """Tell of a restart; a full disk must not end a server that can wait for room."""
        try:
            self._tell()
        except Unavailable as error:
            self._say(f"server.json is not up to date: {error.message}")

    def _tell(self) -> None:
        info = folder.ServerInfo(
            url=self.url,
            tls_url=self.tls_url,
            pid=os.getpid(),
            version=__version__,
            started_us=self._started_us,
            children=[
                folder.Child(
                    kind=role.kind,
                    index=role.index,
                    pid=child.pid,
                    restarts=self._restarts.get(role, 0),
                )
                for role, child in self._children.items()
            ],
        )
        folder.write_info(self._settings.data_dir, info)


def _tls_url(settings: Settings) -> str | None:
    tls = settings.tls
    if tls.port is None:
        return None
    shown = port.url(tls.host or settings.server.host, tls.port)
    return "https" + shown.removeprefix("http")


def _ending(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def answers(url: str) -> bool:
    """Whether the server at `url` is ready."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False  # not yet: this is the question, not a failure
    finally:
        connection.close()


def listens(url: str) -> bool:
    """Whether somebody takes connections at `url`."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout=5).close()
    except OSError:
        return False  # not yet: this is the question, not a failure
    return True


@contextmanager
def signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at SIGTERM, SIGINT and SIGHUP, for the duration of the block."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {n: signal.signal(n, lambda _number, _frame: stop()) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
