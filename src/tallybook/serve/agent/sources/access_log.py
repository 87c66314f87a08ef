"""An access log as a source."""

from tallybook.adapters.files.tail import FileTail
from tallybook.collect.flow import read_lines
from tallybook.collect.formats.choice import log_format
from tallybook.serve.agent.settings import AccessLog
from tallybook.serve.agent.sources.plug import Surroundings

_REST_SECONDS = 60.0
"""A rotated file stays so long after it was last written: a slow writer may still have it open."""


class AccessLogSource:
    """`Source` of one log file and its rotated siblings.

    Args:
        told: its table of the settings.
        source: the events' source where the table names none.
    """

    interval_seconds: float | None = None
    can_wait = True

    def __init__(self, told: AccessLog, source: str) -> None:
        """Open nothing yet."""
        self.told = (told, source)
        self._table = told
        # A journal is ours from its first line; a log may be older than the agent.
        is_journal, is_headed = told.format == "cloudevents", told.format == "w3c"
        self._tail = FileTail(told.path, from_oldest=is_journal, headed=is_headed)
        self._form = log_format(told.format, told.pattern, told.subject)
        self._source = told.source or source

    @property
    def name(self) -> str:
        """The file's absolute path."""
        return self._tail.name

    def read(self, around: Surroundings) -> int:
        """Read to the present end, or until there is no more room."""
        events = 0
        while True:
            found = read_lines(self._tail, self._form, self._source, around.intake)
            for note in found.notes:
                around.voice.say(f"{self.name}: {note}")
            events += found.lines
            if found.lines == 0:
                self._tidy(around)
                return events
            if not around.may_go_on():
                return events

    def _tidy(self, around: Surroundings) -> None:
        if self._table.remove_when_read and not around.dry:
            self._tail.remove_read(_REST_SECONDS)

    def close(self) -> None:
        """Close the files that are held open."""
        self._tail.close()
