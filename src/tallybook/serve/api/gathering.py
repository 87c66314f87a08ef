"""Requests that come side by side, made into columns together (`transport.alike`).

What a pass over columns costs whatever it is given is shared by all requests whose bodies are there
when the event loop gets to them: while one pass runs, the bodies of the next come in. A request
that cannot go this way is told so, and goes by itself.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from tallybook.kernel.errors import TallybookError
from tallybook.transport.accept import AcceptLimits
from tallybook.transport.alike import EVENTS_MIN, Alike, Split, alike
from tallybook.transport.columns import ColumnSet

BODY_BYTES_MIN = 16 * 1024
"""A smaller body goes by itself."""
EVENTS_MAX = 5_000
"""Most events of one pass, but for a request that has more: the event loop waits for it."""
BYTES_MAX = 16 * 1024 * 1024
"""Most bytes of one pass, but for a request that has more."""

Submit = Callable[[Alike, list[object], list[bytes]], None]
"""Queues columns; the futures are resolved when they are durable. Raises Unavailable."""


class _Coming(msgspec.Struct, frozen=True):
    tenant: str
    part: Split
    note: Callable[[], bytes] | None
    done: "asyncio.Future[bool | None]"


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
        self._coming: list[_Coming] = []
        self._groups: deque[list[_Coming]] = deque()

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
        done: asyncio.Future[bool | None] = loop.create_future()
        if not (self._coming or self._groups):
            loop.call_soon(self._take)
        self._coming.append(_Coming(tenant, part, note, done))
        return await done is None

    def _take(self) -> None:
        """Store one group; whoever else waits for the event loop has its turn before the next."""
        if not self._groups:
            coming, self._coming = self._coming, []
            self._groups.extend(groups(coming))
        self._stored(self._groups.popleft())
        if self._coming or self._groups:
            asyncio.get_running_loop().call_soon(self._take)

    def _stored(self, group: Sequence[_Coming]) -> None:
        """Store a group, or tell those in it why not; those of other groups never hear of it."""
        try:
            self._store(group)
        except TallybookError as error:
            _tell(group, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody waits for ever
            _tell(group, error)
            said = {"message": "requests that came together were not stored", "exception": error}
            asyncio.get_running_loop().call_exception_handler(said)

    def _store(self, group: Sequence[_Coming]) -> None:
        made = self._made(group)
        if made is not None:
            notes = [one.note() for one in group if one.note is not None]
            self._submit(made, [one.done for one in group], notes)
        elif len(group) > 1:  # one of them is not like the others
            for one in group:
                self._stored([one])
        elif not group[0].done.done():
            group[0].done.set_result(False)

    def _made(self, group: Sequence[_Coming]) -> Alike | None:
        parts = [one.part for one in group]
        if sum(len(part.starts) for part in parts) < EVENTS_MIN:
            return None
        now_us = time.time_ns() // 1000
        return alike(group[0].tenant, parts, now_us, self._columns(), self._limits)


def groups(coming: Sequence[_Coming]) -> list[list[_Coming]]:
    """Return requests in groups of one tenant each, no larger than a pass may be."""
    found: dict[str, list[list[_Coming]]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for one in coming:
        of_tenant = found.setdefault(one.tenant, [])
        events, size = sizes.get(one.tenant, (0, 0))
        events, size = events + len(one.part.starts), size + len(one.part.body)
        if not of_tenant or events > EVENTS_MAX or size > BYTES_MAX:
            of_tenant.append([])
            events, size = len(one.part.starts), len(one.part.body)
        of_tenant[-1].append(one)
        sizes[one.tenant] = events, size
    return [group for of_tenant in found.values() for group in of_tenant]


def _tell(group: Sequence[_Coming], error: Exception) -> None:
    for one in group:
        if not one.done.done():
            one.done.set_exception(error)
