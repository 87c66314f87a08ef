"""Beside the requests: tells of limits reached, and has the counts written to the disk.

Once a second, on a thread of its own: a request waits for neither the control database nor the
disk. A warning that could not be told stays unmarked in its count, so the next request that finds
it tells it again; its id is the same.
"""

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from tallybook.admit.plan.decide import Tell
from tallybook.admit.plan.facts import told
from tallybook.admit.plan.flow import mark
from tallybook.admit.plan.ports import Counts
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import TallybookError
from tallybook.serve.api.common.rounds import Rounds

SECONDS = 1.0
WAITING_MAX = 10_000

Keep = Callable[[Sequence[tuple[str, Fact]]], None]


class Teller:
    """Tells facts about limits.

    Args:
        counts: where what was told is marked.
        keep: puts facts of tenants into the outbox; raises Unavailable.
    """

    def __init__(self, counts: Counts, keep: Keep) -> None:
        """Nothing waits yet; `start` begins to tell."""
        self._counts = counts
        self._keep = keep
        self._lock = threading.Lock()
        self._waiting: dict[tuple[bytes, int, int], Tell] = {}
        self._rounds = Rounds(self.round, SECONDS, "limits")

    def start(self) -> None:
        """Tell from now on, until `close`."""
        self._rounds.start()

    def close(self) -> None:
        """Tell what waits, and end."""
        self._rounds.close()
        self.round()

    def add(self, tells: Sequence[Tell]) -> None:
        """Put something in the queue; what waits already is told once."""
        with self._lock:
            for tell in tells:
                if len(self._waiting) < WAITING_MAX:
                    self._waiting[tell.bound.place.name, tell.window_us, tell.bit] = tell

    def round(self) -> None:
        """Tell what waits, and write the counts to the disk."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        try:
            self._tell([tell for tell in waiting.values() if tell.bound.tenant])
            self._counts.sync()
        except TallybookError as error:
            structlog.get_logger("limits").warning("limits.not_told", error=error.message)

    def _tell(self, tells: Sequence[Tell]) -> None:
        if not tells:
            return
        now_us = time.time_ns() // 1000
        self._keep([(tell.bound.tenant, told(tell, now_us)) for tell in tells])
        for tell in tells:
            mark(self._counts, tell)
