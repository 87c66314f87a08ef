"""Reads containers from the kernel's control groups, version 1 or 2."""

import os
from collections.abc import Iterator, Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from tallybook.adapters.host.files import text_of
from tallybook.collect import cgroup
from tallybook.collect.cgroup import Container, container_at
from tallybook.collect.host import CONTAINER, CONTAINER_CPU, Reading
from tallybook.collect.process import process_stat

DEPTH_MAX = 8
_LAYERED = ("loop", "ram", "zram", "dm-", "md")


class ContainerReader:
    """Containers of this machine, and other groups that were asked for.

    Args:
        groups: patterns of paths of groups beside containers, such as `system.slice/*.service`.
        subject: whether a container's usage is its own (its id is the subject) or the host's.
        root: where control groups are mounted.
        proc: where processes are told.
        devices: where block devices have their numbers.
    """

    def __init__(
        self,
        groups: Sequence[str] = (),
        *,
        subject: bool = False,
        root: Path = Path("/sys/fs/cgroup"),
        proc: Path = Path("/proc"),
        devices: Path = Path("/sys/dev/block"),
    ) -> None:
        """Find out which version the kernel speaks."""
        self._groups = groups
        self._subject = subject
        self._proc = proc
        self._devices = devices
        self._root = root
        self._v2 = (root / "cgroup.controllers").exists()
        self._tick = os.sysconf("SC_CLK_TCK")
        self.listing = "\n".join(["containers", *groups])
        self._listed: frozenset[int] | None = None

    def read(self, uptime_us: int) -> list[Reading]:
        """Return CPU, memory, disk and network of every container.

        A group that was not there when all were listed before has been made since, and its
        counters began at 0. In the first reading of all a group is as old as its oldest process
        tells: what was made while nobody read is younger than the reading before that.

        Args:
            uptime_us: now, microseconds since boot.
        """
        tree = self._root if self._v2 else self._root / "cpuacct"
        found = sorted(self._found(tree, "", 0), key=lambda group: group.inode)
        networks = {_namespace(self._proc / "self")}
        readings: list[Reading] = []
        for group in found:
            readings += self._figures(group, self._born_us(group, uptime_us), networks)
        self._listed = frozenset(group.inode for group in found)
        return readings

    def _born_us(self, group: "Group", uptime_us: int) -> int | None:
        """Return from when on a group is there, microseconds of uptime; None for not known."""
        if self._listed is not None:
            return None if group.inode in self._listed else uptime_us
        stats = (process_stat(text_of(self._proc / p / "stat")) for p in _processes(group.folder))
        births = (found.born_us(self._tick) for found in stats if found is not None)
        return min(births, default=None)

    def _found(self, folder: Path, path: str, depth: int) -> Iterator["Group"]:
        for inode, name in _folders(folder):
            below = f"{path}/{name}" if path else name
            container = container_at(below)
            if container is None and any(fnmatchcase(below, g) for g in self._groups):
                container = Container(id=below, runtime="cgroup", path=below)
            if container is not None:
                yield Group(container, folder / name, inode)
            elif depth < DEPTH_MAX:
                yield from self._found(folder / name, below, depth + 1)

    def _figures(
        self, group: "Group", born_us: int | None, networks: set[int]
    ) -> Iterator[Reading]:
        container = group.container
        labels = {CONTAINER: container.id, "runtime": container.runtime}
        subject = container.id if self._subject else None

        def counter(metric: str, more: dict[str, str], value: Decimal, of: str = "") -> Reading:
            return Reading(
                metric=metric,
                labels={**labels, **more},
                value=value,
                counter=True,
                member=f"{group.inode}{of}",
                born_us=born_us,
                subject=subject,
            )

        for mode, seconds in self._cpu(group).items():
            yield counter(CONTAINER_CPU, {"mode": mode}, seconds)
        memory = self._memory(group)
        if memory:
            yield Reading(
                metric="container.memory.usage",
                labels=labels,
                value=Decimal(memory),
                counter=False,
                subject=subject,
            )
        for (number, direction), size in self._disks(group).items():
            device = self._device(number)
            if not device.startswith(_LAYERED):
                more = {"device": device, "direction": direction}
                yield counter("container.disk.io", more, Decimal(size))
        process = _first_process(group.folder)
        space = _namespace(self._proc / process) if process else 0
        if space and space not in networks:  # one of a pod's containers stands for its network
            networks.add(space)
            text = text_of(self._proc / process / "net" / "dev")
            for (interface, direction), size in cgroup.network_bytes(text).items():
                more = {"interface": interface, "direction": direction}
                yield counter("container.network.io", more, Decimal(size), f".{space}")

    def _cpu(self, group: "Group") -> dict[str, Decimal]:
        if self._v2:
            return cgroup.cpu_seconds_v2(text_of(group.folder / "cpu.stat"))
        names = ("cpuacct.usage", "cpuacct.usage_user", "cpuacct.usage_sys")
        return cgroup.cpu_seconds_v1(*(text_of(group.folder / name).strip() for name in names))

    def _memory(self, group: "Group") -> int:
        name = "memory.current" if self._v2 else "memory.usage_in_bytes"
        text = text_of(self._folder(group, "memory") / name).strip()
        return int(text) if text.isdecimal() else 0

    def _disks(self, group: "Group") -> dict[tuple[str, str], int]:
        if self._v2:
            return cgroup.disk_bytes_v2(text_of(group.folder / "io.stat"))
        name = "blkio.throttle.io_service_bytes"
        return cgroup.disk_bytes_v1(text_of(self._folder(group, "blkio") / name))

    def _folder(self, group: "Group", controller: str) -> Path:
        return group.folder if self._v2 else self._root / controller / group.container.path

    def _device(self, number: str) -> str:
        try:
            return (self._devices / number).readlink().name
        except OSError:  # unplugged since
            return number


class Group(NamedTuple):
    """A control group: whose it is, its folder, and the number that no later one has."""

    container: Container
    folder: Path
    inode: int


def _folders(folder: Path) -> list[tuple[int, str]]:
    try:
        with os.scandir(folder) as entries:
            return [(e.inode(), e.name) for e in entries if e.is_dir(follow_symlinks=False)]
    except OSError:  # ended since it was listed
        return []


def _first_process(folder: Path) -> str:
    """Return the number of a process of a group or of one inside it, '' where there is none."""
    return next(_processes(folder), "")


def _processes(folder: Path, depth: int = 0) -> Iterator[str]:
    """Yield the numbers of the processes of a group and of those inside it."""
    yield from text_of(folder / "cgroup.procs").split()
    if depth < DEPTH_MAX:
        for _, name in _folders(folder):
            yield from _processes(folder / name, depth + 1)


def _namespace(process: Path) -> int:
    """Return which network a process is in, 0 where that may not be read."""
    try:
        return (process / "ns" / "net").stat().st_ino
    except OSError:
        return 0
