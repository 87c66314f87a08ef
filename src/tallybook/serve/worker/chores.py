"""Chores: what the jobs process looks after between jobs, each again after its pause.

A chore does a bounded piece at a time, so that a job never waits long; what is left is done in the
next round. Each is idempotent: a kill in the middle of one is a chore that is done again.
"""

import time
from collections.abc import Callable, Sequence

import msgspec
import structlog

from tallybook.compose import World
from tallybook.kernel.errors import TallybookError

Step = Callable[[World], int]
"""Does a bounded piece of a chore; returns how many things it did."""


class Chore(msgspec.Struct, frozen=True, kw_only=True):
    """Something to look after.

    Attributes:
        name: as the log shows it.
        every_seconds: pause between two rounds.
        step: done each round.
    """

    name: str
    every_seconds: float
    step: Step


class Chores:
    """Knows which chores are due; one that fails is told and tried again in its next round."""

    def __init__(self, world: World, chores: Sequence[Chore]) -> None:
        """Begin with all of them due."""
        self._world = world
        self._chores = chores
        self._next = {chore.name: 0.0 for chore in chores}

    def round(self) -> int:
        """Do what is due; return how many things were done."""
        return sum(self._do(chore) for chore in self._chores if self._due(chore))

    def _due(self, chore: Chore) -> bool:
        return time.monotonic() >= self._next[chore.name]

    def _do(self, chore: Chore) -> int:
        log = structlog.get_logger("chores").bind(chore=chore.name)
        try:
            with self._world.acting("server", f"chore {chore.name}"):
                done = chore.step(self._world)
        except TallybookError as error:
            log.warning("chore.failed", code=error.code, error=error.message)
            done = 0
        if done:
            log.info("chore.done", things=done)
        self._next[chore.name] = time.monotonic() + chore.every_seconds
        return done
