"""A child process, from both sides: how it is started, and how it notices that it is alone.

Standard input is a pipe from the supervisor: its first line is the settings as JSON, its end
means that the supervisor is gone, however that happened (DECISIONS 1).
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, Literal

import msgspec

from tallybook.kernel.errors import Unavailable
from tallybook.serve.supervisor.forked import Forked, preload
from tallybook.settings import Settings, decode, encode

Kind = Literal["api", "tls", "pump", "jobs", "router", "post", "kafka"]

ORPHANED = 75
"""Exit code of a child whose supervisor is gone."""


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
        command = ["_child", role.kind, str(role.index)]
        preload(role.kind)
        try:
            self._process = Forked(lambda: _command(command), output, lock_fd)
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


def _command(command: Sequence[str]) -> int:
    """Do in a fork what `python -m tallybook` does with a command line."""
    from tallybook.serve.cli.main import run

    return run(command)


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
