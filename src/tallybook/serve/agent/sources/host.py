"""This host as a source."""

from tallybook.adapters.host.reader import PsutilHostReader
from tallybook.collect.flow import take_reading
from tallybook.kernel.timestamps import SECOND_US
from tallybook.serve.agent.settings import AgentSettings
from tallybook.serve.agent.sources.plug import Surroundings

GAP_INTERVALS = 3
"""Readings further apart than this many intervals are reported as a gap."""

_GAP_SECONDS_MIN = 5


class HostSource:
    """`Source` of CPU, memory, network, disks and filesystems."""

    name = "host"
    interval_seconds: float | None = None

    def __init__(self, settings: AgentSettings) -> None:
        """Find out what does not change while the process lives."""
        gap_seconds = max(settings.interval_seconds * GAP_INTERVALS, _GAP_SECONDS_MIN)
        self._gap_us = int(gap_seconds * SECOND_US)
        self.told = (settings.host_name, settings.interval_seconds)
        self._reader = PsutilHostReader(settings.host_name)

    def read(self, around: Surroundings) -> int:
        """Read every series once."""
        return take_reading(self._reader, around.intake, self._gap_us)

    def close(self) -> None:
        """Nothing is held."""
