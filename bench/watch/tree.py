"""What a server's processes use, by kind: read from the system, at no cost to them."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import msgspec
import psutil

from tests.e2e.server import Server

MIB = 1 << 20


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """What the processes of one kind have used so far.

    Attributes:
        cpu_seconds: user and system, of them and of children that have ended.
        written_bytes: that they caused to be sent to storage.
        peak_mb: largest resident memory of each, added up, since peaks were forgotten.
    """

    cpu_seconds: float = 0.0
    written_bytes: int = 0
    peak_mb: float = 0.0

    def __add__(self, other: "Use") -> "Use":
        """Return both."""
        return Use(
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            written_bytes=self.written_bytes + other.written_bytes,
            peak_mb=self.peak_mb + other.peak_mb,
        )

    def since(self, before: "Use") -> "Use":
        """Return what was used since; the peak is the one since peaks were forgotten."""
        return Use(
            cpu_seconds=self.cpu_seconds - before.cpu_seconds,
            written_bytes=self.written_bytes - before.written_bytes,
            peak_mb=self.peak_mb,
        )


Uses = Mapping[str, Use]


def uses(server: Server) -> dict[str, Use]:
    """Return what each kind of process has used so far."""
    found: dict[str, Use] = {}
    for kind, pid in processes(server):
        with contextlib.suppress(psutil.NoSuchProcess):
            found[kind] = found.get(kind, Use()) + _use(psutil.Process(pid))
    return found


def between(before: Uses, after: Uses) -> dict[str, Use]:
    """Return what each kind used between two readings."""
    return {kind: use.since(before.get(kind, Use())) for kind, use in after.items()}


def total_cpu(found: Uses) -> float:
    """Return the processor seconds of all kinds."""
    return sum(use.cpu_seconds for use in found.values())


def processes(server: Server) -> list[tuple[str, int]]:
    """Return kind and process id of the supervisor and its children."""
    children = [(str(child["kind"]), int(child["pid"])) for child in server.children()]
    return [("supervisor", server.pid), *children]


def forget_peaks(server: Server) -> None:
    """Let the largest resident memory begin anew, where the system can (Linux)."""
    for _, pid in processes(server):
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def resident_mb(server: Server) -> dict[str, float]:
    """Return the resident memory of each kind of process now."""
    found: dict[str, float] = {}
    for kind, pid in processes(server):
        with contextlib.suppress(psutil.NoSuchProcess):
            found[kind] = found.get(kind, 0.0) + psutil.Process(pid).memory_info().rss / MIB
    return found


def whole_mb(server: Server) -> float:
    """Return the memory of the whole tree, pages that processes share counted once."""
    return sum(_proportional_mb(pid) for _, pid in processes(server))


class Highest:
    """The memory of the whole tree, looked at every second of a block.

    Attributes:
        whole_mb: the highest seen, shared pages counted once.
    """

    def __init__(self, server: Server) -> None:
        """Nothing is seen yet."""
        self.whole_mb = 0.0
        self._server = server
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError, psutil.Error):
                self.whole_mb = max(self.whole_mb, whole_mb(self._server))
            self._ended.wait(1.0)


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder; files may vanish meanwhile."""
    return sum(_size(path) for path in folder.rglob("*"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def _use(process: psutil.Process) -> Use:
    times = process.cpu_times()
    cpu = times.user + times.system + times.children_user + times.children_system
    return Use(cpu_seconds=cpu, written_bytes=_written(process), peak_mb=_peak_mb(process))


def _written(process: psutil.Process) -> int:
    counters = getattr(process, "io_counters", None)  # macOS tells nobody
    try:
        return int(counters().write_bytes) if counters is not None else 0
    except (psutil.AccessDenied, OSError):
        return 0


def _peak_mb(process: psutil.Process) -> float:
    for key, value in _lines(Path(f"/proc/{process.pid}/status")):
        if key == "VmHWM":
            return int(value.split()[0]) / 1024
    return float(process.memory_info().rss) / MIB


def _proportional_mb(pid: int) -> float:
    for key, value in _lines(Path(f"/proc/{pid}/smaps_rollup")):
        if key == "Pss":
            return int(value.split()[0]) / 1024
    try:
        return float(psutil.Process(pid).memory_info().rss) / MIB
    except psutil.NoSuchProcess:
        return 0.0


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        text = path.read_text()
    except OSError:
        return
    for line in text.splitlines():
        key, _, value = line.partition(":")
        yield key, value.strip()
