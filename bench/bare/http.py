"""A web server that does nothing, under the same load: what HTTP alone costs on this machine."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import psutil

from bench.generator.plan import Plan, Result
from bench.generator.process import sent

START_SECONDS_MAX = 30.0
WORKERS = 2


class Bare(msgspec.Struct, frozen=True, kw_only=True):
    """What the bare server did.

    Attributes:
        result: of the generator.
        cpu_us: processor microseconds of the server an event.
    """

    result: Result
    cpu_us: float


def bare_http(plan: Plan) -> Bare:
    """Send a plan to a server that answers 204 and does nothing."""
    with _server() as (port, process):
        here = msgspec.structs.replace(plan, host="127.0.0.1", port=port, key="none")
        before = _cpu(process)
        result = sent(here)
        return Bare(result=result, cpu_us=(_cpu(process) - before) / result.sent.events * 1e6)


@contextmanager
def _server() -> "Iterator[tuple[int, psutil.Process]]":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "granian", "bench.bare.answer:app", "--interface", "asginl"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(WORKERS)]
    command += ["--no-ws", "--no-access-log", "--log-level", "error"]
    running = subprocess.Popen(command)
    try:
        _wait(port, running)
        yield port, psutil.Process(running.pid)
    finally:
        running.terminate()
        running.wait(30)


def _wait(port: int, running: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and running.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            time.sleep(0.5)  # until the other workers listen too, so that connections spread
            return
    raise AssertionError("the bare server does not start")


def _cpu(process: psutil.Process) -> float:
    times = [each.cpu_times() for each in [process, *process.children(recursive=True)]]
    return sum(one.user + one.system for one in times)
