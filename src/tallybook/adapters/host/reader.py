"""Reads CPU, memory, swap, network, disk and filesystems of this host.

Decided so that each second and byte is counted once: guest time is part of user time already and
left out; a disk is counted as a whole device, not again by its partitions or by the layers above
(device mapper, RAID, loop); a filesystem mounted twice is read once.
"""

import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Protocol

import psutil

from tallybook.adapters.host.files import text_of
from tallybook.collect.host import HostSample, Reading
from tallybook.kernel.errors import Unavailable

_CPU_MODES = {
    "user": "user",
    "nice": "nice",
    "system": "system",
    "idle": "idle",
    "iowait": "iowait",
    "irq": "interrupt",
    "softirq": "softirq",
    "steal": "steal",
}
_STAT_MODES = ("user", "nice", "system", "idle", "iowait", "interrupt", "softirq", "steal")
_LAYERED = ("loop", "ram", "zram", "dm-", "md", "sr", "fd")
_BLOCK = Path("/sys/block")
_STAT = Path("/proc/stat")
_VMSTAT = Path("/proc/vmstat")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def machine_name() -> str:
    """Return what this machine calls itself."""
    return socket.gethostname() or "localhost"


class MoreReadings(Protocol):
    """Reads something else of this host at the same instant.

    Attributes:
        listing: what it looks for, where a counter that is not found was not there; '' otherwise.
    """

    listing: str

    def read(self, uptime_us: int) -> Iterable[Reading]:
        """Return readings; `uptime_us` is now."""
        ...


class PsutilHostReader:
    """`HostReader` of the machine this process runs on.

    Args:
        name: the host's name in events; None takes the machine's.
        whole: whether to read the host as a whole, and not only what `more` reads.
        more: containers and processes, where they are asked for.
    """

    def __init__(
        self, name: str | None = None, *, whole: bool = True, more: Sequence[MoreReadings] = ()
    ) -> None:
        """Find out what does not change while the process lives."""
        self.name = name or machine_name()
        self._boot_id = _boot_id()
        self._tick = _ticks_per_second()
        self._whole = whole
        self._more = more

    def read(self) -> HostSample:
        """Return every series at one instant.

        Raises:
            Unavailable: the operating system does not tell.
        """
        uptime_us = _uptime_us()
        try:
            readings = [*self._all()] if self._whole else []
            for other in self._more:
                readings += other.read(uptime_us)
        except (OSError, RuntimeError, psutil.Error) as error:
            raise Unavailable(f"this host cannot be read: {error}") from error
        return HostSample(
            host=self.name,
            boot_id=self._boot_id,
            time_us=time.time_ns() // 1000,
            uptime_us=_uptime_us(),
            awake_us=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000,
            readings=tuple(readings),
            listed="\n".join(filter(None, (other.listing for other in self._more))),
        )

    def _all(self) -> Iterator[Reading]:
        yield from self._cpu()
        yield from _memory()
        yield from _swap()
        yield from _network()
        yield from _disks()
        yield from _filesystems()

    def _cpu(self) -> Iterator[Reading]:
        """Yield each CPU's own counters: one that is unplugged takes its past along."""
        for cpu, times in _cpu_times(self._tick).items():
            for mode, value in times.items():
                yield Reading(
                    metric="system.cpu.time",
                    labels={"mode": mode},
                    value=value,
                    counter=True,
                    member=cpu,
                )


def cpu_ticks(text: str) -> dict[str, dict[str, int]]:
    """Return the ticks of every CPU by mode from `/proc/stat`; guest time is in user time.

    Source: proc_stat(5).
    """
    found: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        name, *figures = line.split()
        if name.startswith("cpu") and name != "cpu":
            found[name] = dict(zip(_STAT_MODES, map(int, figures), strict=False))
    return found


def _cpu_times(tick: int) -> dict[str, dict[str, Decimal]]:
    text = text_of(_STAT)
    if text:
        return {
            cpu: {mode: Decimal(ticks) / tick for mode, ticks in modes.items()}
            for cpu, modes in cpu_ticks(text).items()
        }
    times = psutil.cpu_times()._asdict()  # not Linux: one for all CPUs
    modes = {mode: times[name] for name, mode in _CPU_MODES.items() if name in times}
    return {"": {mode: Decimal(round(s * tick)) / tick for mode, s in modes.items()}}


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:  # not Linux: the boot instant tells boots apart as well
        return f"{int(psutil.boot_time()):08x}"


def _ticks_per_second() -> int:
    return int(os.sysconf("SC_CLK_TCK")) if hasattr(os, "sysconf") else 100


def _uptime_us() -> int:
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1000


def _reading(
    metric: str, value: int | Decimal, labels: dict[str, str], *, start: str = ""
) -> Reading:
    return Reading(metric=metric, labels=labels, value=Decimal(value), counter=True, start=start)


def _level(metric: str, value: int, labels: dict[str, str]) -> Reading:
    return Reading(metric=metric, labels=labels, value=Decimal(value), counter=False)


def _memory() -> Iterator[Reading]:
    memory = psutil.virtual_memory()._asdict()
    for state in ("used", "free", "cached", "buffers"):
        if state in memory:
            yield _level("system.memory.usage", memory[state], {"state": state})


def _swap() -> Iterator[Reading]:
    """Yield swap space, and pages in and out; nothing where there is no swap."""
    swap = psutil.swap_memory()
    if not swap.total:
        return
    for state, size in (("used", swap.used), ("free", swap.free)):
        yield _level("system.paging.usage", size, {"state": state})
    pages = dict(line.partition(" ")[::2] for line in text_of(_VMSTAT).splitlines())
    for direction, name in (("in", "pswpin"), ("out", "pswpout")):
        if name in pages:
            labels = {"direction": direction}
            yield _reading("system.paging.operations", int(pages[name]), labels)


def _network() -> Iterator[Reading]:
    for name, io in psutil.net_io_counters(pernic=True, nowrap=False).items():
        index = _interface_index(name)
        for direction, value in (("receive", io.bytes_recv), ("transmit", io.bytes_sent)):
            labels = {"interface": name, "direction": direction}
            yield _reading("system.network.io", value, labels, start=index)


def _interface_index(name: str) -> str:
    """Return the kernel's number of an interface; one made anew under its name has another."""
    try:
        return str(socket.if_nametoindex(name))
    except OSError:  # gone since it was listed
        return ""


def _disks() -> Iterator[Reading]:
    counters = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
    for name, io in counters.items():
        if name.startswith(_LAYERED) or (_BLOCK.is_dir() and not (_BLOCK / name).exists()):
            continue
        sequence = _disk_sequence(name)
        for direction, value in (("read", io.read_bytes), ("write", io.write_bytes)):
            labels = {"device": name, "direction": direction}
            yield _reading("system.disk.io", value, labels, start=sequence)


def _disk_sequence(name: str) -> str:
    """Return the kernel's number of a disk; another one plugged in under its name differs."""
    try:
        return (_BLOCK / name / "diskseq").read_text().strip()
    except OSError:  # before Linux 5.15
        return ""


def _filesystems() -> Iterator[Reading]:
    seen: set[str] = set()
    for part in psutil.disk_partitions(all=False):
        if part.device in seen:
            continue
        seen.add(part.device)
        try:
            usage = psutil.disk_usage(part.mountpoint)
        except OSError:  # unmounted since it was listed, or not ours to see
            continue
        for state, value in (("used", usage.used), ("free", usage.free)):
            labels = {"mountpoint": part.mountpoint, "state": state}
            yield _level("system.filesystem.usage", value, labels)
