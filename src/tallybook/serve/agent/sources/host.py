"""This host as a source: the machine as a whole, its containers, and processes by name."""

from collections.abc import Iterator

from tallybook.adapters.host.reader import MoreReadings, PsutilHostReader
from tallybook.collect.flow import take_reading
from tallybook.collect.process import ProcessName, checked_names
from tallybook.kernel.timestamps import SECOND_US
from tallybook.serve.agent.settings import AgentSettings
from tallybook.serve.agent.sources.plug import Surroundings

GAP_INTERVALS = 3
"""Readings further apart than this many intervals are reported as a gap."""

_GAP_SECONDS_MIN = 5


class HostSource:
    """`Source` of everything that the kernel counts."""

    name = "host"
    measures_growth = True
    interval_seconds: float | None = None

    def __init__(self, settings: AgentSettings) -> None:
        """Find out what does not change while the process lives; raises Invalid."""
        gap_seconds = max(settings.interval_seconds * GAP_INTERVALS, _GAP_SECONDS_MIN)
        self._gap_us = int(gap_seconds * SECOND_US)
        self.told = (
            settings.host,
            settings.host_name,
            settings.interval_seconds,
            settings.containers,
            settings.processes,
        )
        self._reader = PsutilHostReader(
            settings.host_name, whole=settings.host, more=tuple(_more(settings))
        )

    def read(self, around: Surroundings) -> int:
        """Read every series once."""
        return take_reading(self._reader, around.intake, self._gap_us)

    def close(self) -> None:
        """Nothing is held."""


def _more(settings: AgentSettings) -> Iterator[MoreReadings]:
    if settings.containers is not None:
        from tallybook.adapters.host.containers import ContainerReader

        told = settings.containers
        yield ContainerReader(told.groups, subject=told.subject == "container")
    if settings.processes:
        from tallybook.adapters.host.processes import ProcessReader

        names = [ProcessName(name=n, match=m) for n, m in settings.processes.items()]
        yield ProcessReader(checked_names(names))
