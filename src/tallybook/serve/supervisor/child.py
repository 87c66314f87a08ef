"""A child process, from both sides: how it is started, and how it notices that it is alone.

Standard input is a pipe from the supervisor: its first line is the settings as JSON, its end
means that the supervisor is gone, however that happened (DECISIONS 1).
"""

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal

import msgspec

from tallybook.kernel.errors import TallybookError, Unavailable
from tallybook.serve.supervisor.forked import Forked, preload
from tallybook.settings import Settings, decode, encode

Kind = Literal["api", "tls", "pump", "jobs", "router", "post", "kafka"]

REFUSED = 1
"""Exit code of a child that cannot work; it has said why."""
ORPHANED = 75
"""Exit code of a child whose supervisor is gone."""
NAME_CHARS_MAX = 15
"""What the kernel keeps of a process's name."""

ENTRIES: Mapping[Kind, str] = {
    "api": "tallybook.serve.api.child:run_api",
    "tls": "tallybook.serve.api.tls.child:run_tls",
    "pump": "tallybook.serve.worker.child:run_pump_child",
    "jobs": "tallybook.serve.worker.child:run_jobs_child",
    "post": "tallybook.serve.worker.child:run_post_child",
    "router": "tallybook.serve.worker.child:run_router_child",
    "kafka": "tallybook.serve.worker.child:run_kafka_child",
}
"""What each kind of child does: a function from settings to an exit code."""


class Role(msgspec.Struct, frozen=True):
    """What a child does; `index` counts children of one kind from 0."""

    kind: Kind
    index: int


class Running:
    """A started child.

    Attributes:
        role: what it does.
        pid: its process id.
        started: monotonic seconds.
    """

    def __init__(self, role: Role, settings: Settings, lock_fd: int, log: IO[bytes] | None) -> None:
        """Start the process; raises Unavailable where the machine refuses."""
        output = (log or sys.stderr).fileno()
        preload(role.kind)
        try:
            self._process = Forked(lambda: _work(role.kind), output, lock_fd)
            with suppress(BrokenPipeError):  # it has died already, and is buried as others are
                os.write(self._process.stdin, encode(settings) + b"\n")
        except OSError as error:
            raise Unavailable(f"a {role.kind} process cannot be started: {error}") from error
        self.role = role
        self.pid = self._process.pid
        self.started = time.monotonic()

    def exit_code(self) -> int | None:
        """Return how it ended, None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to finish what it does and exit."""
        self._process.send(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._process.send(signal.SIGKILL)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; return whether it came in time."""
        ended = self._process.wait(seconds)
        if ended:
            self._process.close()
        return ended


def _work(kind: Kind) -> int:
    """Be a child from its settings to its exit code."""
    with suppress(OSError):  # only Linux lets a process name itself so
        Path("/proc/self/comm").write_text(f"tallybook-{kind}"[:NAME_CHARS_MAX])
    settings = inherit()
    importlib.import_module("tallybook.serve.logs").configure()  # not of the base install
    module, _, name = ENTRIES[kind].partition(":")
    run: Callable[[Settings], int] = getattr(importlib.import_module(module), name)
    try:
        return run(settings)
    except TallybookError as error:
        sys.stderr.write(f"error: {error.message} ({error.code})\n")
        return REFUSED


def inherit() -> Settings:
    """In a child: read the settings from the pipe, and exit the moment the pipe ends."""
    pipe = os.fdopen(os.dup(0), "rb", buffering=0)
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = pipe.read(1)
        if not byte:
            os._exit(ORPHANED)
        line += byte
    threading.Thread(target=_watch, args=(pipe,), name="supervisor-watch", daemon=True).start()
    return decode(bytes(line))


def _watch(pipe: IO[bytes]) -> None:
    while pipe.read(64):
        pass
    os._exit(ORPHANED)  # at once: what was acknowledged is on disk, and nobody may write after us


def on_stop(action: Callable[[], None]) -> None:
    """Run `action` when this process is asked to stop; Ctrl-C is the supervisor's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: action())
