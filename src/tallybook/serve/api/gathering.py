"""Requests that come side by side, made into columns together (`transport.alike`).

What a pass over columns costs whatever it is given is shared by all requests whose bodies are there
when it begins: while one pass runs and is brought to the disk, those of the next come in. Where
several came together the last time, as many are waited for a moment, and for more of them as long
as that pays (`company`); a client that is alone hardly ever waits, and a full pass for nothing. A
request that cannot go this way is told so, and goes by itself.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import TypeVar

import msgspec

from tallybook.kernel.errors import TallybookError
from tallybook.serve.api.company import Company
from tallybook.transport.accept import AcceptLimits
from tallybook.transport.alike import EVENTS_MIN, Alike, Split, alike
from tallybook.transport.columns import ColumnSet

BODY_BYTES_MIN = 16 * 1024
"""A smaller body goes by itself."""
EVENTS_MAX = 5_000
"""Most events of one pass, but for a request that has more: the event loop waits for it."""
BYTES_MAX = 16 * 1024 * 1024
"""Most bytes of one pass, but for a request that has more."""
LINGER_SECONDS = 0.002
"""Longest wait for as many requests as came together the last time."""
COMPANY_SECONDS = 0.02
"""Longest wait of a request for more than those."""

Submit = Callable[[Alike, list[object], list[bytes]], None]
"""Queues columns; the futures are resolved when they are durable. Raises Unavailable."""


class Coming(msgspec.Struct, frozen=True, kw_only=True):
    """A request that waits for others, to be stored with them.

    Attributes:
        tenant: whose events.
        events: how many it has.
        bytes: of its body.
        done: who waits for it; False where it has to go by itself.
    """

    tenant: str
    events: int
    bytes: int
    done: "asyncio.Future[bool | None]"


One = TypeVar("One", bound=Coming)


class _Large(Coming, frozen=True, kw_only=True):
    part: Split
    note: Callable[[], bytes] | None


class Gathering:
    """Takes requests of one event loop together.

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
        self._begin(None)

    def _begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Know nothing of an event loop that was before: whoever waited in it has gone with it."""
        self._loop = loop
        self._coming: list[_Large] = []
        self._events = self._bytes = 0
        self._groups: deque[list[_Large]] = deque()
        self._expected = 1
        self._flushing = 0
        self._turn: asyncio.Handle | None = None
        self._waiting = False
        self._company = Company()
        self._latest = 0.0
        self._hoped: int | None = None

    async def stored(self, tenant: str, part: Split, note: Callable[[], bytes] | None) -> bool:
        """Store a request with those beside it; whether that is done, durably.

        Args:
            tenant: whose events.
            part: the request.
            note: returns what to keep with its events; None for nothing.

        Returns:
            False where it has to go by itself: nothing of it was stored.

        Raises:
            Unavailable: not stored, or not known to be; send the same again.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin(loop)
        done: asyncio.Future[bool | None] = loop.create_future()
        size = len(part.body)
        one = _Large(tenant=tenant, events=part.events, bytes=size, done=done, part=part, note=note)
        if not self._coming:
            self._latest = loop.time() + COMPANY_SECONDS
        self._coming.append(one)
        self._events += part.events
        self._bytes += size
        self._look()
        return await done is None

    def _look(self) -> None:
        """Ask for a turn of the event loop where there is reason for a pass, or soon will be."""
        full = self._events >= EVENTS_MAX or self._bytes >= BYTES_MAX
        if self._groups or full:
            self._soon()
        elif self._coming and not self._flushing:
            if len(self._coming) >= self._expected:
                self._hope()
            elif self._turn is None:
                self._wait(asyncio.get_running_loop().time() + LINGER_SECONDS, self._hope)

    def _hope(self) -> None:
        """Wait for more than came the last time where that may pay; else have a pass now."""
        if self._hoped is not None and self._turn is not None:
            return
        if self._company.likely and asyncio.get_running_loop().time() < self._latest:
            self._hoped = len(self._coming)
            self._wait(self._latest, self._take)
        else:
            self._soon()

    def _wait(self, until: float, then: Callable[[], None]) -> None:
        self._stop_waiting()
        self._turn, self._waiting = asyncio.get_running_loop().call_at(until, then), True

    def _soon(self) -> None:
        self._stop_waiting()
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._take)

    def _stop_waiting(self) -> None:
        if self._turn is not None and self._waiting:
            self._turn.cancel()
            self._turn = None
        self._waiting = False

    def _take(self) -> None:
        """Store one group; whoever else waits for the event loop has its turn before the next."""
        self._turn, self._waiting = None, False
        if not self._groups:
            coming, self._coming = self._coming, []
            self._events = self._bytes = 0
            self._learn(len(coming))
            self._groups.extend(groups(coming, EVENTS_MAX, BYTES_MAX))
        self._stored(self._groups.popleft())
        self._look()

    def _learn(self, came: int) -> None:
        """Note how many came, for the next time."""
        if self._hoped is None:
            self._company.not_awaited()
        else:
            self._company.awaited(came=came > self._hoped)
        self._expected, self._hoped = came, None

    def _flushed(self, _done: object) -> None:
        self._flushing -= 1
        self._look()

    def _stored(self, group: Sequence[_Large]) -> None:
        """Store a group, or tell those in it why not; those of other groups never hear of it."""
        with failures_told(group):
            made = self._made(group)
            if made is not None:
                notes = [one.note() for one in group if one.note is not None]
                self._submit(made, [one.done for one in group], notes)
                self._flushing += 1
                group[0].done.add_done_callback(self._flushed)
            elif len(group) > 1:  # one of them is not like the others
                for one in group:
                    self._stored([one])
            elif not group[0].done.done():
                group[0].done.set_result(False)

    def _made(self, group: Sequence[_Large]) -> Alike | None:
        if sum(one.events for one in group) < EVENTS_MIN:
            return None
        parts, now_us = [one.part for one in group], time.time_ns() // 1000
        return alike(group[0].tenant, parts, now_us, self._columns(), self._limits)


def groups(coming: Sequence[One], events_max: int, bytes_max: int) -> list[list[One]]:
    """Return requests in groups of one tenant each, no larger than a group may be.

    Tenants take turns: who sends much has nobody wait for all of it.
    """
    found: dict[str, list[list[One]]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for one in coming:
        of_tenant = found.setdefault(one.tenant, [])
        events, size = sizes.get(one.tenant, (0, 0))
        events, size = events + one.events, size + one.bytes
        if not of_tenant or events > events_max or size > bytes_max:
            of_tenant.append([])
            events, size = one.events, one.bytes
        of_tenant[-1].append(one)
        sizes[one.tenant] = events, size
    return [group for turn in zip_longest(*found.values()) for group in turn if group]


@contextmanager
def failures_told(group: Sequence[Coming]) -> Iterator[None]:
    """Tell those of a group what kept it from being stored, whatever it is."""
    try:
        yield
    except TallybookError as error:
        _tell(group, error)
    except Exception as error:  # noqa: BLE001 - whatever it is, nobody waits for ever
        _tell(group, error)
        said = {"message": "requests that came together were not stored", "exception": error}
        asyncio.get_running_loop().call_exception_handler(said)


def _tell(group: Sequence[Coming], error: Exception) -> None:
    for one in group:
        if not one.done.done():
            one.done.set_exception(error)
