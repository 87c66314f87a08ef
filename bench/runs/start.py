"""From the command until the server answers, on a folder that exists."""

import tempfile
import time
from pathlib import Path

import msgspec

from bench.bare.steps import python_start
from bench.figures.numbers import spread
from bench.figures.report import Bound, Figure, Found
from bench.runs.common import SETTINGS
from bench.watch.tree import total_cpu, uses
from tests.e2e.server import Server

TARGET_SECONDS = 1.0
SETTLE_SECONDS, SETTLE_SHARE, SETTLE_LOOKS_MAX = 0.5, 0.1, 40


class Start(msgspec.Struct, frozen=True):
    """One start: seconds until it answered, CPU seconds of the tree until all have settled."""

    seconds: float
    cpu_seconds: float


def starts(folder: Path, times: int) -> list[Start]:
    """Start and stop a server several times; the first, which makes the folder, is left out."""
    found = []
    for _ in range(times + 1):
        server = Server(folder, SETTINGS)
        started = time.perf_counter()
        with server:
            found.append(Start(time.perf_counter() - started, _settled(server)))
    return found[1:]


def _settled(server: Server) -> float:
    """Return the CPU seconds of all processes, once they do little but wait."""
    used = total_cpu(uses(server))
    for _ in range(SETTLE_LOOKS_MAX):
        time.sleep(SETTLE_SECONDS)
        before, used = used, total_cpu(uses(server))
        if used - before < SETTLE_SHARE * SETTLE_SECONDS:
            break
    return used


def run(times: int = 7) -> Found:
    """Measure starts beside an interpreter that does nothing, and the imports of a function."""
    bare = python_start()
    with tempfile.TemporaryDirectory() as name:
        found = starts(Path(name) / "data", times)
    seconds, cpu = (
        spread([getattr(one, of) for one in found]) for of in ("seconds", "cpu_seconds")
    )
    imports = python_start("import tallybook.transport.accept", times)
    clock = (Bound(name="`python -c pass`", value=bare.seconds),)
    processor = (Bound(name="`python -c pass`", value=bare.cpu_seconds),)
    return Found(
        figures=[
            Figure(
                name="start to ready, whole process tree",
                spread=seconds,
                unit="s",
                target=f"< {TARGET_SECONDS:g} s",
                reached=seconds.median < TARGET_SECONDS,
                less_is_better=True,
                bounds=clock,
                note="from the command until /health/ready answers 200",
                headline=True,
            ),
            Figure(
                name="start: CPU of all processes until they wait for work",
                spread=cpu,
                unit="s",
                less_is_better=True,
                bounds=processor,
            ),
            Figure(
                name="cold start of our own code in a function: CPU of importing the accept path",
                spread=spread([imports.cpu_seconds]),
                unit="s",
                target="< 0.2 s",
                reached=imports.cpu_seconds < 0.2,
                less_is_better=True,
                bounds=processor,
                note="interpreter included, the least of several",
            ),
        ]
    )
