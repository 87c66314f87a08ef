"""Small requests, judged together: while one group is written, the next comes together.

What judging a request costs whatever it holds is shared by all that wait at that moment, and so is
their row in the log. One that needs a closer look goes by itself, and has its own answer; nobody
hears of an event that somebody else sent.
"""

import asyncio
import functools
import time
from collections.abc import Callable, Sequence

import msgspec

from tallybook.serve.api.gathering import Coming, failures_told, groups
from tallybook.transport.accept import AcceptLimits, plain_rows
from tallybook.transport.columns import ColumnSet
from tallybook.transport.rows import Rows

EVENTS_MAX = 1_000
"""Most events of one group: the event loop waits while it is judged."""
BYTES_MAX = 1024 * 1024
"""Most bytes of one group, but for a request that has more."""
LINGER_SECONDS = 0.002
"""How long a group may grow, at most, before it is judged: those who were answered last are likely
to ask again, and a row costs nearly the same whatever is in it."""

Submit = Callable[[Rows, list[object], list[bytes]], None]
"""Queues rows; the futures are resolved when they are durable. Raises Unavailable."""

_RAWS = msgspec.json.Decoder(list[msgspec.Raw])


class _Small(Coming, frozen=True, kw_only=True):
    raws: list[msgspec.Raw]


class Together:
    """Takes the small requests of one event loop together.

    Args:
        columns: returns the typed columns to fill now.
        limits: bounds.
        submit: queues what was made.
    """

    def __init__(
        self, columns: Callable[[], ColumnSet], limits: AcceptLimits, submit: Submit
    ) -> None:
        """Nothing is coming yet."""
        self._columns = columns
        self._limits = limits
        self._submit = submit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begin(None)

    def _begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Know nothing of an event loop that was before: whoever waited in it has gone with it."""
        self._loop = loop
        self._coming: list[_Small] = []
        self._groups: list[list[_Small]] = []
        self._writing = self._answered = self._awaited = 0
        self._asked: asyncio.Handle | None = None

    async def stored(self, tenant: str, body: bytes) -> int:
        """Store a request with those beside it; return its number of events, durable then.

        Args:
            tenant: whose events.
            body: a JSON array of events.

        Returns:
            0 where it has to go by itself: nothing of it was stored.

        Raises:
            Unavailable: not stored, or not known to be; send the same again.
        """
        try:
            events = _RAWS.decode(body)
        except (msgspec.DecodeError, RecursionError):
            return 0  # what is wrong with it is said where it goes by itself
        if not events or len(events) > self._events_max:
            return 0
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin(loop)
        done: asyncio.Future[bool | None] = loop.create_future()
        count, size = len(events), len(body)
        self._coming.append(_Small(tenant=tenant, events=count, bytes=size, done=done, raws=events))
        if self._asked is None and not self._writing:
            self._ask()
        elif len(self._coming) == self._awaited:
            self._hasten()
        return count if await done is None else 0

    @property
    def _events_max(self) -> int:
        return min(EVENTS_MAX, self._limits.request_events_max)

    def _ask(self) -> None:
        """Have a group taken: whoever is ready has a turn of the event loop before it."""
        self._asked = asyncio.get_running_loop().call_soon(self._take)

    def _linger(self) -> None:
        """Have the next group taken when those who were answered have come again, or soon."""
        self._awaited = len(self._coming) + self._answered
        self._answered = 0
        self._asked = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._take)

    def _hasten(self) -> None:
        if self._asked is not None:
            self._asked.cancel()
            self._ask()

    def _take(self) -> None:
        """Judge one group, and queue it."""
        self._asked, self._awaited = None, 0
        if not self._groups:
            coming, self._coming = self._coming, []
            self._groups = groups(coming, self._events_max, BYTES_MAX)
        if self._groups:
            self._judged(self._groups.pop(0))
        if self._groups or (self._coming and not self._writing):
            self._ask()

    def _judged(self, group: Sequence[_Small]) -> None:
        """Queue a group; where some are to be looked at closely, those that are not among them."""
        with failures_told(group):
            rows = self._rows(group)
            if rows is not None:
                self._write(rows, group)
            else:
                self._halved(group)

    def _rows(self, group: Sequence[_Small]) -> Rows | None:
        """Return the rows of a group; None where an event needs a closer look."""
        body = b"[" + b",".join([event for one in group for event in one.raws]) + b"]"
        now_us = time.time_ns() // 1000
        return plain_rows(group[0].tenant, body, now_us, self._columns(), self._limits)

    def _halved(self, group: Sequence[_Small]) -> None:
        if len(group) == 1:
            if not group[0].done.done():
                group[0].done.set_result(False)
            return
        half = len(group) // 2
        self._judged(group[:half])
        self._judged(group[half:])

    def _write(self, rows: Rows, group: Sequence[_Small]) -> None:
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._submit(rows, [*(one.done for one in group), written], [])
        self._writing += 1
        written.add_done_callback(functools.partial(self._written, len(group)))

    def _written(self, answered: int, ended: "asyncio.Future[None]") -> None:
        ended.exception()  # those who wait were told
        self._writing -= 1
        self._answered += answered
        if self._writing or self._asked is not None:
            return
        if self._answered > 1 or self._coming:
            self._linger()
        else:  # one client, one request after the other: nobody else would come
            self._answered = 0
