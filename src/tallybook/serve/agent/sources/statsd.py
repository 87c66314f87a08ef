"""StatsD as a source: what came since the last reading, added up by series."""

import secrets
import time

from tallybook.adapters.sockets.listener import LineListener
from tallybook.collect.payload.statsd import Tally, Told
from tallybook.collect.spool import encode_event
from tallybook.serve.agent.sources.plug import Surroundings
from tallybook.serve.agent.sources.tables import Statsd


class StatsdSource:
    """`Source` of the lines that others send.

    What came since the last reading is in memory only, so the readings are close together: a
    kill loses at most one, as a datagram that nobody received would be lost.

    Args:
        told: its table of the settings.
        edge: this edge's name.
    """

    def __init__(self, told: Statsd, edge: str) -> None:
        """Listen to nothing yet."""
        self.told = (told, edge)
        self.name = f"{told.name} {' '.join(told.listen)}"
        self.interval_seconds: float | None = told.interval_seconds
        self._table = told
        source = f"statsd:{edge}"
        self._as = Told(
            source=source, prefix=told.prefix, subject=told.subject_tag, default=told.subject
        )
        self._epoch = secrets.token_hex(8)
        self._number = 0
        self._tally = Tally()
        self._pending: list[bytes] = []
        self._listener: LineListener | None = None

    def read(self, around: Surroundings) -> int:
        """Hand over what came."""
        listener = self._listening()
        with listener.lock:
            self._number += 1
            found = self._tally.events(self._as, self._epoch, self._number, time.time_ns() // 1000)
            dropped = dict(self._tally.dropped)
            self._tally.dropped.clear()
        for reason, count in dropped.items():
            around.voice.complain(self.name, f"{count} lines left out: {reason}")
        self._pending += [encode_event(event) for event in found]
        if not self._pending:
            return 0
        kept = around.intake.take(self._pending, {})
        self._pending = []
        return kept

    def _listening(self) -> LineListener:
        """Return the open door; raises Unavailable where it fell shut, to be opened again."""
        if self._listener is None:
            self._listener = LineListener(self._table.listen, self._tally.add)
        found = self._listener
        if found.problem is not None:
            self.close()
        found.check()
        return found

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
