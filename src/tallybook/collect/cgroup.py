"""What the kernel tells about a control group, and which groups are containers.

Version 2 has one tree; version 1 has one for each controller. Texts in, numbers out: reading the
files is the adapter's.

Source: kernel documentation, admin-guide/cgroup-v2 and cgroup-v1.
"""

import re
from decimal import Decimal

import msgspec

_MICRO = Decimal(1_000_000)
_NANO = Decimal(1_000_000_000)

_RUNTIMES = (
    ("docker", re.compile(r"(?:^|/)docker[/-]([0-9a-f]{64})(?:\.scope)?$")),
    ("containerd", re.compile(r"(?:^|/)cri-containerd-([0-9a-f]{64})\.scope$")),
    ("cri-o", re.compile(r"(?:^|/)crio-([0-9a-f]{64})\.scope$")),
    ("podman", re.compile(r"(?:^|/)libpod-([0-9a-f]{64})(?:\.scope)?$")),
    ("lxc", re.compile(r"(?:^|/)lxc(?:\.payload)?[./]([A-Za-z0-9][A-Za-z0-9_.-]*)$")),
    ("nspawn", re.compile(r"(?:^|/)machine\.slice/machine-([^/]+)\.scope$")),
    ("kubernetes", re.compile(r"(?:^|/)kubepods[^/]*/(?:[^/]+/)*([0-9a-f]{64})$")),
)


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """A control group that is counted.

    Attributes:
        id: the runtime's, or the group's path where it is no container.
        runtime: who made it; 'cgroup' for a group that was asked for by its path.
        path: below the root of the tree, without a slash in front.
    """

    id: str
    runtime: str
    path: str


def container_at(path: str) -> Container | None:
    """Return the container whose group has this path; None where it is none.

    A group inside a container's group is part of it and none of its own.
    """
    for runtime, pattern in _RUNTIMES:
        match = pattern.search(path)
        if match is not None:
            return Container(id=match[1], runtime=runtime, path=path)
    return None


def cpu_seconds_v2(text: str) -> dict[str, Decimal]:
    """Return seconds by mode from `cpu.stat`, exact to the microsecond."""
    figures = _pairs(text)
    modes = {"user": "user_usec", "system": "system_usec"}
    return {m: Decimal(figures[n]) / _MICRO for m, n in modes.items() if n in figures}


def cpu_seconds_v1(usage: str, user: str, system: str) -> dict[str, Decimal]:
    """Return seconds by mode from `cpuacct.usage_user` and `cpuacct.usage_sys`, nanoseconds.

    Where the kernel tells only the total (`cpuacct.usage`), all of it is under mode `total`.
    """
    if user and system:
        return {"user": Decimal(int(user)) / _NANO, "system": Decimal(int(system)) / _NANO}
    return {"total": Decimal(int(usage)) / _NANO} if usage else {}


def disk_bytes_v2(text: str) -> dict[tuple[str, str], int]:
    """Return bytes by device number (`major:minor`) and direction from `io.stat`."""
    found: dict[tuple[str, str], int] = {}
    for line in text.splitlines():
        device, _, rest = line.partition(" ")
        figures = dict(part.partition("=")[::2] for part in rest.split())
        for direction, name in (("read", "rbytes"), ("write", "wbytes")):
            if figures.get(name, "").isdecimal():
                found[device, direction] = int(figures[name])
    return found


def disk_bytes_v1(text: str) -> dict[tuple[str, str], int]:
    """Return the same from `blkio.throttle.io_service_bytes`."""
    found: dict[tuple[str, str], int] = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[1] in {"Read", "Write"} and parts[2].isdecimal():
            found[parts[0], parts[1].lower()] = int(parts[2])
    return found


def network_bytes(text: str) -> dict[tuple[str, str], int]:
    """Return bytes by interface and direction from `/proc/PID/net/dev`, without loopback."""
    found: dict[tuple[str, str], int] = {}
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        figures = rest.split()
        if not colon or len(figures) < 9 or name.strip() == "lo":
            continue
        found[name.strip(), "receive"] = int(figures[0])
        found[name.strip(), "transmit"] = int(figures[8])
    return found


def _pairs(text: str) -> dict[str, str]:
    return dict(line.partition(" ")[::2] for line in text.splitlines())
