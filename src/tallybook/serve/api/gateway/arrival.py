"""How long a body may take to come: a client that drips holds nothing for ever.

A timer for each piece would cost more than the piece, so one clock for all of an event loop looks
every second who has waited too long. The server tells the end of a body apart from its last piece,
which is another turn between its threads; a body of a known length is whole when it has that.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from weakref import WeakKeyDictionary

from tallybook.kernel.errors import Invalid

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Task = asyncio.Task[Any]

IDLE_SECONDS = 20.0
"""Longest wait for the next piece of a body."""
WHOLE_SECONDS = 300.0
"""Longest wait for a whole body."""
LOOK_SECONDS = 1.0
"""Pause between two looks at who waits: nobody waits for longer than this too long."""
STOP_SECONDS = 3.0
"""How long a server that stops waits for bodies yet: all its processes have 15 s together."""
LENGTH_DIGITS_MAX = 18
_FRAMING = (b"content-length", b"transfer-encoding")


class Waiting:
    """Those of one event loop who wait for a piece of a body, and until when.

    Args:
        loop: theirs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nobody waits."""
        self._loop = loop
        self._until: dict[Task, float] = {}
        self._over: set[Task] = set()
        self._looking = False
        self._ends = math.inf

    async def piece(self, receive: Receive, until: float) -> Message:
        """Return the next piece.

        Args:
            receive: of the server.
            until: when to give it up, by the loop's clock.

        Raises:
            TimeoutError: it did not come in time.
        """
        task = asyncio.current_task()
        assert task is not None, "bodies are received by tasks"
        others, self._until[task] = task.cancelling(), min(until, self._ends)
        if not self._looking:
            self._looking = True
            self._loop.call_later(LOOK_SECONDS, self._look)
        try:
            return await receive()
        except asyncio.CancelledError:
            if task in self._over and task.uncancel() <= others:
                raise TimeoutError from None
            raise  # somebody else ended it
        finally:
            del self._until[task]
            self._over.discard(task)

    def end(self) -> None:
        """Let nobody wait for longer than `STOP_SECONDS` from now on."""
        self._ends = self._loop.time() + STOP_SECONDS
        self._until = {task: min(until, self._ends) for task, until in self._until.items()}

    def _look(self) -> None:
        """Let go who has waited too long."""
        now = self._loop.time()
        for task, until in self._until.items():
            if until <= now and task not in self._over:
                self._over.add(task)
                task.cancel()
        self._looking = bool(self._until)
        if self._looking:
            self._loop.call_later(LOOK_SECONDS, self._look)


_WAITING: WeakKeyDictionary[asyncio.AbstractEventLoop, Waiting] = WeakKeyDictionary()


def _waiting(loop: asyncio.AbstractEventLoop) -> Waiting:
    found = _WAITING.get(loop)
    if found is None:
        found = _WAITING[loop] = Waiting(loop)
    return found


def end_soon(loop: asyncio.AbstractEventLoop) -> None:
    """Wait for bodies for a short while only: the server stops. Called by the loop."""
    _waiting(loop).end()


def within_time(
    receive: Receive,
    headers: Iterable[tuple[bytes, bytes]] = (),
    idle: float = IDLE_SECONDS,
    whole: float = WHOLE_SECONDS,
) -> Receive:
    """Return how a body is received: in time, or refused ('request-timeout').

    What comes after the body, the client's going away, may take as long as it takes.

    Args:
        receive: of the server.
        headers: of the request; a body is whole with so many bytes as they say.
        idle: longest wait for the next piece, seconds.
        whole: longest wait for all of it, seconds.
    """
    ends, missing, complete, early = 0.0, _length(headers), False, False

    async def bounded() -> Message:
        nonlocal ends, missing, complete, early
        if complete:
            message = await receive()
            while early and message["type"] == "http.request":  # the end, which was told already
                message = await receive()
            return message
        loop = asyncio.get_running_loop()
        now = loop.time()
        ends = ends or now + whole
        try:
            message = await _waiting(loop).piece(receive, min(ends, now + idle))
        except TimeoutError as error:
            text = "the body took too long to come; send it faster, or less of it"
            raise Invalid(text, code="request-timeout", field="body") from error
        missing -= len(message.get("body", b""))
        complete = not message.get("more_body")
        if missing == 0 and not complete:
            complete = early = True
            message = {**message, "more_body": False}
        return message

    return bounded


def _length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return how many bytes a body has; -1 where that is not told."""
    told = [value for name, value in headers if name in _FRAMING]
    known = len(told) == 1 and told[0].isdigit() and len(told[0]) <= LENGTH_DIGITS_MAX
    return int(told[0]) if known else -1
