"""A dry run: what every source would give next, without spooling, sending or remembering it."""

import time
from collections.abc import Iterator
from contextlib import closing

import msgspec

from tallybook.adapters.http.sender import ZstdPacking
from tallybook.adapters.memory.event_log import MemoryEventLog
from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.kernel.errors import TallybookError
from tallybook.serve.agent.intake import SpoolIntake
from tallybook.serve.agent.settings import AgentSettings
from tallybook.serve.agent.sources.plug import Source
from tallybook.serve.agent.sources.registry import sources_of
from tallybook.serve.agent.spool import SPOOL_NAME
from tallybook.serve.agent.voice import Voice

_FIRST_WAIT_SECONDS = 1.0


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What one source would give.

    Attributes:
        name: the source's.
        pieces: its next events as wire JSON, at most as many as were asked for.
        problem: why it cannot be read, or None.
    """

    name: str
    pieces: tuple[bytes, ...]
    problem: str | None = None


class OneStep:
    """`Surroundings` of a dry run: a spool in memory, and no second piece of anything."""

    def __init__(self, cursors: dict[str, str]) -> None:
        """Start from what the agent remembers."""
        self._packing = ZstdPacking()
        self._log = MemoryEventLog()
        self._log.append([], cursors)
        self.intake = SpoolIntake(self._log, self._packing, 1 << 62)
        self.voice = Voice()

    def may_go_on(self) -> bool:
        """Say no: one piece is enough to look at."""
        return False

    def wake(self) -> None:
        """Nobody waits."""

    def pieces(self) -> list[bytes]:
        """Return what was handed over, and forget it."""
        rows = self._log.read(0, 1 << 30)
        if rows:
            self._log.trim(rows[-1].offset)
        return [piece for row in rows for piece in self._packing.unpack(row.payload or b"")]


def next_events(settings: AgentSettings, limit: int) -> Iterator[Trial]:
    """Yield what each source would give next, at most `limit` events of each."""
    cursors = _cursors(settings)
    for source in sources_of(settings):
        with closing(source):
            yield _tried(source, OneStep(cursors), limit, first=source.name not in cursors)


def _tried(source: Source, around: OneStep, limit: int, *, first: bool) -> Trial:
    try:
        source.read(around)
        found = around.pieces()
        if first and source.name == "host":  # growth needs two readings
            time.sleep(_FIRST_WAIT_SECONDS)
            source.read(around)
            found = around.pieces()
    except TallybookError as error:
        return Trial(name=source.name, pieces=(), problem=f"{error.message} ({error.code})")
    return Trial(name=source.name, pieces=tuple(found[:limit]))


def _cursors(settings: AgentSettings) -> dict[str, str]:
    path = settings.state / SPOOL_NAME
    if not path.exists():
        return {}
    with closing(SqliteEventLog(path, readonly=True)) as spool:
        return spool.cursors()
