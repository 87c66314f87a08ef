"""A dry run: what every source would give next, without spooling, sending or remembering it."""

import time
from collections.abc import Iterator
from contextlib import closing

import msgspec

from tallybook.adapters.http.sender import ZstdPacking
from tallybook.adapters.memory.event_log import MemoryEventLog
from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.collect.aggregate.rule import RuleSet
from tallybook.kernel.errors import TallybookError
from tallybook.kernel.timestamps import LAST_US
from tallybook.serve.agent.intake import SpoolIntake
from tallybook.serve.agent.outbound.line import edge_of
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
        pieces: its next events as wire JSON, at most as many as were asked for: first those that
            are sent as they are, then windows of aggregation with what is in them so far.
        events: how many of the former there are in all; windows of the latter.
        problem: why it cannot be read, or None.
    """

    name: str
    pieces: tuple[bytes, ...] = ()
    events: int = 0
    windows: int = 0
    problem: str | None = None

    def summary(self) -> str:
        """Return it as a sentence."""
        if self.problem is not None:
            return self.problem
        told = f"{self.events} events"
        if self.windows:
            told += f" as they are, and {self.windows} windows by the rules"
        return f"{told}, {len(self.pieces)} shown"


class OneStep:
    """`Surroundings` of a dry run: a spool in memory, and no second piece of anything."""

    dry = True

    def __init__(self, cursors: dict[str, str], edge: str, rules: RuleSet | None) -> None:
        """Start from what the agent remembers, without its open windows."""
        self._packing = ZstdPacking()
        self._log = MemoryEventLog()
        self._log.append([], {n: t for n, t in cursors.items() if not n.startswith("window")})
        self.intake = SpoolIntake(self._log, self._packing, 1 << 62, edge, 1 << 30)
        self.intake.follow(rules or RuleSet())
        self.voice = Voice()

    def may_go_on(self) -> bool:
        """Say no: one piece is enough to look at."""
        return False

    def wake(self, source: Source | None = None) -> None:
        """Nobody waits."""

    def pieces(self) -> list[bytes]:
        """Return what was handed over, and forget it."""
        rows = self._log.read(0, 1 << 30)
        if rows:
            self._log.trim(rows[-1].offset)
        return [piece for row in rows for piece in self._packing.unpack(row.payload or b"")]


def next_events(
    settings: AgentSettings, limit: int, rules: RuleSet | None = None
) -> Iterator[Trial]:
    """Yield what each source would give next, at most `limit` events of each.

    Args:
        settings: what is read.
        limit: of each source.
        rules: of aggregation; None is none.
    """
    cursors = _cursors(settings)
    for source in sources_of(settings):
        around = OneStep(cursors, edge_of(settings), rules)
        with closing(source):
            yield _tried(source, around, limit, first=source.name not in cursors)


def _tried(source: Source, around: OneStep, limit: int, *, first: bool) -> Trial:
    try:
        source.read(around)
        if first and getattr(source, "measures_growth", False):  # which needs two readings
            around.pieces()
            time.sleep(_FIRST_WAIT_SECONDS)
            source.read(around)
    except TallybookError as error:
        return Trial(name=source.name, problem=f"{error.message} ({error.code})")
    found, windows = around.pieces(), around.intake.windows
    around.intake.close_windows(LAST_US)
    shown = (*found[:limit], *around.pieces()[:limit])
    return Trial(name=source.name, pieces=shown, events=len(found), windows=windows)


def _cursors(settings: AgentSettings) -> dict[str, str]:
    path = settings.state / SPOOL_NAME
    if not path.exists():
        return {}
    with closing(SqliteEventLog(path, readonly=True)) as spool:
        return spool.cursors()
