"""A child made by forking this process, with everything it needs imported already.

Importing the server takes longer than anything else at its start, and every kind of child imports
nearly the same. So the supervisor imports once and forks: a child starts in milliseconds, also
when it takes the place of one that died, and all share the pages of what was imported.

A fork takes along what must not be shared: descriptors (closed but for the ones handed over),
signal handlers (set back), and buffered output (written first). It is safe because the supervisor
has no connection open and runs no thread that holds a lock when it forks.
"""

import gc
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

from tallybook.settings import Settings

POLL_SECONDS = 0.01
BUG = 70
"""Exit code of a child that ended by an exception."""
UNKNOWN = 71
"""Exit code of a child of which the machine keeps none: where SIGCHLD is ignored, say."""
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

MODULES: Mapping[str, Sequence[str]] = {
    "api": ("tallybook.serve.api.child",),
    "tls": ("tallybook.serve.api.tls.child",),
    "pump": ("tallybook.serve.worker.pump",),
    "jobs": (
        "tallybook.serve.worker.jobs",
        "tallybook.serve.worker.maintain",
        "tallybook.serve.worker.billing",
        "tallybook.serve.worker.prepaid",
        "tallybook.serve.worker.use",
        "tallybook.serve.worker.watching",
    ),
    "post": ("tallybook.serve.worker.post.run",),
    "router": ("tallybook.serve.worker.router",),
    "kafka": ("tallybook.serve.worker.kafka",),
}
"""What each kind of child works with."""
ROUTES = "tallybook.serve.api.child:set_up"
"""What sets up the routes of the API: a function of settings."""


def preload(kind: str) -> None:
    """Import what a kind of child works with, so that forks find it done."""
    names = [name for name in MODULES[kind] if name not in sys.modules]
    if names:
        with _lasting():
            for name in names:
                importlib.import_module(name)


def set_up_routes(settings: Settings) -> None:
    """Set up the routes of the API, so that forks find it done."""
    preload("api")
    with _lasting():
        module, _, name = ROUTES.partition(":")
        getattr(importlib.import_module(module), name)(settings)


@contextmanager
def _lasting() -> Iterator[None]:
    """Look for no garbage while what is made in the block is made, and never at what was made."""
    gc.disable()  # imports make no garbage, and looking for it takes a tenth of their time
    try:
        yield
    finally:
        gc.enable()
    gc.freeze()  # a child that looks for garbage does not touch, and so copy, what all share


class Forked:
    """A forked child: what `subprocess.Popen` offers, as far as a supervisor needs it.

    Args:
        work: run in the child; its result is the exit code.
        output: descriptor that becomes standard output and standard error.
        kept: descriptor that stays open.

    Attributes:
        pid: its process id.
        stdin: descriptor of the pipe that is its standard input; -1 once it is closed.

    Raises:
        OSError: the machine refuses.
    """

    def __init__(self, work: Callable[[], int], output: int, kept: int) -> None:
        """Fork."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # what cannot be written now will be told later
                stream.flush()
        there, self.stdin = os.pipe()
        held = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _be(work, there, output, kept, held)
        except OSError:
            os.close(self.stdin)
            raise
        finally:
            os.close(there)
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return how it ended (minus the signal's number for a signal), None while it runs."""
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self._code = UNKNOWN
                return self._code
            if pid == self.pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def send(self, number: signal.Signals) -> None:
        """Send a signal; to nobody where it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; return whether it came in time."""
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def close(self) -> None:
        """Close the pipe to it."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1


def _be(
    work: Callable[[], int], stdin: int, output: int, kept: int, mask: Iterable[int]
) -> NoReturn:
    """Be the child, and never return into the supervisor's code."""
    code = BUG
    try:
        os.setsid()  # Ctrl-C reaches the supervisor only, which stops in order
        for number in HANDLED:
            signal.signal(number, signal.SIG_DFL)
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, kept)
        os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = work()
    except BaseException:  # noqa: BLE001 - whatever it is, it ends here and is told
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
