"""Reads processes that go under declared names, from /proc."""

import os
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

from tallybook.adapters.host.files import text_of
from tallybook.collect.host import Reading
from tallybook.collect.process import (
    ProcessName,
    ProcessStat,
    disk_bytes,
    name_of,
    process_stat,
)


class ProcessReader:
    """The processes of this machine by declared names.

    Args:
        names: in order; a process goes under the first that fits.
        proc: where the kernel tells.
    """

    def __init__(self, names: Sequence[ProcessName], proc: Path = Path("/proc")) -> None:
        """Find out what does not change."""
        self._names = names
        self._proc = proc
        self._by_path = any("/" in pattern for one in names for pattern in one.match)
        self._tick = os.sysconf("SC_CLK_TCK")
        self._page = os.sysconf("SC_PAGE_SIZE")

    listing = ""
    """Processes tell their births themselves, whatever was listed before."""

    def read(self, uptime_us: int) -> Iterator[Reading]:
        """Yield CPU, memory and disk of every process, one counter each."""
        del uptime_us  # a process tells its birth itself
        for entry in self._proc.iterdir():
            if not entry.name.isdecimal():
                continue
            found = process_stat(text_of(entry / "stat"))
            name = name_of(self._names, found.command, self._program(entry)) if found else None
            if found is not None and name is not None:
                yield from self._figures(entry, found, name)

    def _program(self, entry: Path) -> str:
        if not self._by_path:
            return ""
        try:
            return str((entry / "exe").readlink())
        except OSError:  # a thread of the kernel, another user's, or gone
            return ""

    def _figures(self, entry: Path, found: ProcessStat, name: str) -> Iterator[Reading]:
        member = f"{found.pid}:{found.start_ticks}"
        born_us = found.born_us(self._tick)
        label = {"process": name}
        for mode, ticks in (("user", found.user_ticks), ("system", found.system_ticks)):
            yield Reading(
                metric="process.cpu.time",
                labels={**label, "mode": mode},
                value=found.seconds(ticks, self._tick),
                counter=True,
                member=member,
                born_us=born_us,
            )
        yield Reading(
            metric="process.memory.usage",
            labels=label,
            value=Decimal(found.rss_pages * self._page),
            counter=False,
        )
        for direction, size in disk_bytes(text_of(entry / "io")).items():
            yield Reading(
                metric="process.disk.io",
                labels={**label, "direction": direction},
                value=Decimal(size),
                counter=True,
                member=member,
                born_us=born_us,
            )
