"""Reads CPU, memory, network, disk and filesystems of this host.

Decided so that each second and byte is counted once: guest time is part of user time already and
left out; a disk is counted as a whole device, not again by its partitions or by the layers above
(device mapper, RAID, loop); a filesystem mounted twice is read once.
"""

import os
import socket
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import psutil

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
_LAYERED = ("loop", "ram", "zram", "dm-", "md", "sr", "fd")
_BLOCK = Path("/sys/block")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def machine_name() -> str:
    """Return what this machine calls itself."""
    return socket.gethostname() or "localhost"


class PsutilHostReader:
    """`HostReader` of the machine this process runs on.

    Args:
        name: the host's name in events; None takes the machine's.
    """

    def __init__(self, name: str | None = None) -> None:
        """Find out what does not change while the process lives."""
        self.name = name or machine_name()
        self._boot_id = _boot_id()
        self._tick = _ticks_per_second()

    def read(self) -> HostSample:
        """Return every series at one instant.

        Raises:
            Unavailable: the operating system does not tell.
        """
        try:
            readings = (*self._cpu(), *_memory(), *_network(), *_disks(), *_filesystems())
        except (OSError, RuntimeError, psutil.Error) as error:
            raise Unavailable(f"this host cannot be read: {error}") from error
        return HostSample(
            host=self.name,
            boot_id=self._boot_id,
            time_us=time.time_ns() // 1000,
            uptime_us=_uptime_us(),
            readings=readings,
        )

    def _cpu(self) -> Iterator[Reading]:
        times = psutil.cpu_times()._asdict()
        for name, mode in _CPU_MODES.items():
            if name in times:
                value = self._seconds(times[name])
                yield _reading("system.cpu.time", value, {"mode": mode})

    def _seconds(self, value: float) -> Decimal:
        """Return the kernel's ticks as exact seconds; psutil has divided them into a float."""
        return Decimal(round(value * self._tick)) / self._tick


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
