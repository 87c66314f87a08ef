"""Taking a profile: samples of processor time from a running process, memory at its highest.

`accept`, `singles` and `pump` are taken from the processes of a real server under load, the others
from a process that does nothing else. Memory is always that of one process doing the work once.

The first part of a file in bench/profiles, above its mark, is written by people and kept.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bench.figures.stacks import parse, top_text, tree, tree_text
from bench.generator.process import Generator, sent
from bench.runs.common import SETTINGS, against, measured_server
from bench.watch.machine import commit, load, machine
from tests.e2e.server import Server

if TYPE_CHECKING:
    from memray import AllocationRecord

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "bench" / "profiles"
MARK = "======== taken by `python -m bench profile"
RATE = 250
START_RATE = 500
START_SECONDS = 6
MEMORY_TOP = 12
ARENA_BYTES = 1 << 30
WARM_EVENTS = 10_000
FRAMES = 4
ON_SERVER = {"accept": "api", "singles": "api", "pump": "pump"}
NAMES = ("accept", "singles", "pump", "query", "recompute", "billing", "start")
MEMORY = frozenset({"accept", "pump", "query", "recompute", "billing"})


def take(name: str, seconds: float) -> Path:
    """Take a profile and write it; what people wrote above the mark stays."""
    if name not in NAMES:
        raise SystemExit(f"no profile '{name}'; there are {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory() as folder:
        samples = _samples(name, seconds, Path(folder) / "samples.txt")
        stacks = parse(samples)
        text = [*_head(name, seconds, len(stacks)), *top_text(stacks), ""]
        text += [*tree_text(tree(stacks)), ""]
        if name in MEMORY:
            text += _memory(name, Path(folder) / "memory.bin")
    path = FOLDER / f"{name}.txt"
    path.write_text(_words(path) + "\n".join(text).rstrip() + "\n")
    return path


def _words(path: Path) -> str:
    """Return what people wrote, and the empty line after it; '' where nobody has yet."""
    words = path.read_text().partition(MARK)[0].rstrip() if path.exists() else ""
    return f"{words}\n\n" if words else ""


def _head(name: str, seconds: float, stacks: int) -> Iterator[str]:
    now = datetime.now(UTC)
    yield f"{MARK} {name}`, {now:%Y-%m-%d %H:%M} UTC, commit {commit()}"
    yield f"{machine()}, load {load():.1f}; {seconds:g} s, {stacks} different stacks; no sleep"
    yield ""


def _samples(name: str, seconds: float, path: Path) -> str:
    if name in ON_SERVER:
        _on_server(name, seconds, path)
    elif name == "start":
        _starting(path)
    else:
        _on_work(name, seconds, path)
    return path.read_text().replace(f"{ROOT}/", "")


def _on_server(name: str, seconds: float, path: Path) -> None:
    batch = {"batch": 1, "connections": 32} if name == "singles" else {}
    with measured_server() as server:
        sent(against(server, "warm", seconds=60, events_max=WARM_EVENTS, batch=100))
        server.caught_up(600)
        generator = Generator(against(server, "profile", seconds=seconds + 4, **batch))
        time.sleep(2)
        kind = ON_SERVER[name]
        pid = next(child["pid"] for child in server.children() if child["kind"] == kind)
        _spy(["--pid", str(pid), "--duration", str(int(seconds))], path)
        generator.result()
        server.caught_up(600)


def _on_work(name: str, seconds: float, path: Path) -> None:
    command = [sys.executable, "-m", "bench.profiling.work", name, str(seconds + 1)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready", "the work did not begin"
        _spy(["--pid", str(process.pid), "--duration", str(int(seconds))], path)
        process.wait()


def _starting(path: Path) -> None:
    """Sample every process of a tree from its first instruction."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "data"
        with Server(folder, SETTINGS):
            pass  # the folder is made: what is sampled is a start on one that exists
        command = [sys.executable, "-m", "tallybook", "serve", "--data", str(folder), "--port", "0"]
        duration = ["--duration", str(START_SECONDS), "--subprocesses"]
        _spy([*duration, "--", *command], path, START_RATE)
        _wait_for_end(folder)


def _wait_for_end(folder: Path) -> None:
    """The supervisor ended with its sampler; its children follow when its pipe closes."""
    from tallybook.serve.supervisor.folder import is_locked

    deadline = time.monotonic() + 30
    while is_locked(folder) and time.monotonic() < deadline:
        time.sleep(0.1)


def _spy(options: list[str], path: Path, rate: int = RATE) -> None:
    command = ["py-spy", "record", "--rate", str(rate), "--format", "raw", "--output", str(path)]
    found = Path(sys.executable).with_name("py-spy")
    command[0] = str(found) if found.exists() else command[0]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if not path.exists():
        raise SystemExit(f"py-spy took nothing (it needs the right to trace): {done.stderr}")


def _memory(name: str, path: Path) -> list[str]:
    """Return what is allocated when the work holds most.

    Address space that allocators reserve in one piece (a GiB by one of them) is no memory yet.
    """
    command = [sys.executable, "-m", "memray", "run", "--quiet", "--output", str(path)]
    work = ["-m", "bench.profiling.work", name, "0"]
    subprocess.run([*command, *work], check=True, stdout=subprocess.DEVNULL)
    from memray import FileReader

    reader = FileReader(str(path))
    every = reader.get_high_watermark_allocation_records(merge_threads=True)
    records = sorted(every, key=_held, reverse=True)
    whole = sum(map(_held, records))
    lines = [
        f"Memory at its highest: {whole / 2**20:,.0f} MiB with all modules; who holds most:",
        "",
    ]
    for record in records[:MEMORY_TOP]:
        stack = [_frame(frame) for frame in record.stack_trace(max_stacks=FRAMES)]
        lines.append(
            f"{_held(record) / 2**20:8.1f} MiB  {' < '.join(stack) or 'no Python function'}"
        )
    return lines


def _held(record: "AllocationRecord") -> int:
    """Return the bytes of a record without the address space that an allocator set aside."""
    return int(record.size) - (ARENA_BYTES if record.size >= ARENA_BYTES else 0)


def _frame(frame: tuple[str, str, int]) -> str:
    name, file, line = frame
    parts = file.split("/")
    where = "/".join(parts[-2:])
    return f"{name} ({where}:{line})"
