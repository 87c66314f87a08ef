"""What the kernel tells about one process, and which declared name it goes under."""

import re
from collections.abc import Sequence
from decimal import Decimal
from fnmatch import fnmatchcase

import msgspec

from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import SECOND_US

NAMES_MAX = 100
_STAT = re.compile(r"(\d+) \((.*)\) (.*)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")


class ProcessName(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Processes that are counted together under one name.

    Attributes:
        name: the label `process`.
        match: patterns such as `nginx*` for the command's name (as `ps -o comm` shows it) or,
            with a slash inside, for the program's path; one must fit.
    """

    name: str
    match: tuple[str, ...]


class ProcessStat(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one process.

    Attributes:
        start_ticks: when it started, clock ticks since boot: with the number it is unique.
        user_ticks: used so far; so are system_ticks.
        rss_pages: resident memory.
    """

    pid: int
    command: str
    start_ticks: int
    user_ticks: int
    system_ticks: int
    rss_pages: int

    def seconds(self, ticks: int, per_second: int) -> Decimal:
        """Return ticks as exact seconds."""
        return Decimal(ticks) / per_second

    def born_us(self, per_second: int) -> int:
        """Return when it started, microseconds of uptime."""
        return self.start_ticks * SECOND_US // per_second


def checked_names(names: Sequence[ProcessName]) -> Sequence[ProcessName]:
    """Return the names; raises Invalid."""
    if len(names) > NAMES_MAX or len({n.name for n in names}) != len(names):
        message = f"at most {NAMES_MAX} process names, each once"
        raise Invalid(message, field="processes")
    for one in names:
        if not _NAME.match(one.name) or not one.match or not all(one.match):
            message = f"'{one.name}': a process name needs letters and digits, and patterns"
            raise Invalid(message, field="processes")
    return names


def process_stat(text: str) -> ProcessStat | None:
    """Return the figures of `/proc/PID/stat`, None where it is not one.

    Source: proc_pid_stat(5). The command may hold blanks and parentheses.
    """
    match = _STAT.match(text)
    fields = match[3].split() if match is not None else []
    if match is None or len(fields) < 22:
        return None
    return ProcessStat(
        pid=int(match[1]),
        command=match[2],
        start_ticks=int(fields[19]),
        user_ticks=int(fields[11]),
        system_ticks=int(fields[12]),
        rss_pages=int(fields[21]),
    )


def name_of(names: Sequence[ProcessName], command: str, program: str) -> str | None:
    """Return the first name that a process goes under, None for none.

    Args:
        names: in order.
        command: as the kernel tells it, at most 15 characters.
        program: path of its program, '' where that may not be read.
    """
    for one in names:
        for pattern in one.match:
            if fnmatchcase(program if "/" in pattern else command, pattern):
                return one.name
    return None


def disk_bytes(text: str) -> dict[str, int]:
    """Return bytes that reached or came from disks by direction, from `/proc/PID/io`."""
    figures = dict(line.partition(": ")[::2] for line in text.splitlines())
    names = {"read": "read_bytes", "write": "write_bytes"}
    return {d: int(figures[n]) for d, n in names.items() if figures.get(n, "").isdecimal()}
