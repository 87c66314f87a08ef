"""Where recorded events wait in memory: bounded, and never emptied without an answer."""

import time
from collections import deque
from collections.abc import Sequence
from threading import Condition
from typing import Literal, Protocol

import msgspec

from tallybook.kernel.errors import Unavailable

WhenFull = Literal["block", "raise"]


class Taken(msgspec.Struct, frozen=True):
    """Events at the head of a queue; they stay there until they are done.

    Attributes:
        pieces: each as JSON.
        mark: how the queue knows them.
    """

    pieces: Sequence[bytes]
    mark: object


class Queue(Protocol):
    """Keeps events until the server has them. Every method is safe for threads."""

    def put(self, pieces: Sequence[bytes]) -> None:
        """Keep events, all or none; raises Unavailable where there is no room."""
        ...

    def head(self, events_max: int, bytes_max: int) -> Taken | None:
        """Return the oldest events, at least one; None where nothing waits."""
        ...

    def done(self, taken: Taken) -> None:
        """Forget events: the server has them, or they were parked."""
        ...

    def waiting(self) -> int:
        """Return how many events wait."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...


class MemoryQueue:
    """`Queue` in memory.

    Args:
        events_max: most events that wait.
        bytes_max: most bytes that wait.
        when_full: wait for room, or raise at once.
        block_seconds: longest wait for room; None waits for as long as it takes.
    """

    def __init__(
        self, events_max: int, bytes_max: int, when_full: WhenFull, block_seconds: float | None
    ) -> None:
        """Begin empty."""
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._patience = block_seconds if when_full == "block" else 0.0
        self._pieces: deque[bytes] = deque()
        self._bytes = 0
        self._room = Condition()
        self._closed = False

    def put(self, pieces: Sequence[bytes]) -> None:
        """Keep events, once there is room for all of them; a queue that is empty has room."""
        size = sum(map(len, pieces))
        until = None if self._patience is None else time.monotonic() + self._patience
        with self._room:
            while not self._fits(len(pieces), size):
                if self._closed:
                    raise Unavailable("the client is closed", code="client-closed")
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    message = f"{len(self._pieces)} events wait to be sent and there is no room"
                    raise Unavailable(message, code="buffer-full")
                self._room.wait(left)
            self._pieces.extend(pieces)
            self._bytes += size

    def head(self, events_max: int, bytes_max: int) -> Taken | None:
        """Return the oldest events."""
        with self._room:
            some: list[bytes] = []
            size = 0
            for piece in self._pieces:
                size += len(piece) + 1
                if some and (len(some) == events_max or size > bytes_max):
                    break
                some.append(piece)
        return Taken(some, None) if some else None

    def done(self, taken: Taken) -> None:
        """Drop the oldest events."""
        with self._room:
            for _ in taken.pieces:
                self._bytes -= len(self._pieces.popleft())
            self._room.notify_all()

    def waiting(self) -> int:
        """Return how many events wait."""
        return len(self._pieces)

    def close(self) -> None:
        """Let go of those who wait for room: there will be none."""
        with self._room:
            self._closed = True
            self._room.notify_all()

    def _fits(self, count: int, size: int) -> bool:
        if not self._pieces:
            return True
        return (
            len(self._pieces) + count <= self._events_max and self._bytes + size <= self._bytes_max
        )
