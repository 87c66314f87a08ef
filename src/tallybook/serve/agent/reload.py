"""Settings that are read again: on SIGHUP, and when their file changes.

Only what is read changes. The spool, baselines, positions and open windows are never touched, and
settings that cannot be used leave everything as it is.
"""

from collections.abc import Callable
from pathlib import Path
from threading import Event

import msgspec

from tallybook.serve.agent.settings import AgentSettings

FIXED = (
    "url",
    "key",
    "key_file",
    "ca_file",
    "state",
    "edge",
    "cert_file",
    "cert_key_file",
    "kafka",
    "metrics_listen",
    "backfill_share",
    "backfill_events_per_second",
)
"""Settings that count from the next start: who the agent is, where it sends, and how fast."""


class SettingsWatch:
    """Tells when the settings must be read again.

    Args:
        path: their file; None where there is none.
        load: reads them; raises Invalid.
    """

    def __init__(self, path: Path | None, load: Callable[[], AgentSettings]) -> None:
        """Remember how the file looks now."""
        self._path = path
        self._load = load
        self._seen = self._look()
        self.asked = Event()

    def changed(self) -> AgentSettings | None:
        """Return new settings where somebody asked or the file changed, else None.

        Raises:
            Invalid: they cannot be used; told once for every change.
        """
        seen = self._look()
        if not self.asked.is_set() and seen == self._seen:
            return None
        self.asked.clear()
        self._seen = seen
        return self._load()

    def _look(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat() if self._path is not None else None
        except OSError:
            return None  # being replaced just now
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino) if stat is not None else None


def adopted(before: AgentSettings, after: AgentSettings) -> AgentSettings:
    """Return the new settings with those that count only from the next start as they were."""
    return msgspec.structs.replace(after, **{name: getattr(before, name) for name in FIXED})


def fixed_changes(before: AgentSettings, after: AgentSettings) -> list[str]:
    """Return the names of settings that differ and count only from the next start."""
    return [name for name in FIXED if getattr(before, name) != getattr(after, name)]
