"""`Compose` in processes of their own: the outcomes of batches in their order, made side by side.

A process that ends before its time, or that cannot be started, is done without: its batches are
composed by whoever asked. Outcomes are values that nobody has stored yet, so nothing is made twice.
"""

import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import IO, Self

from tallybook.adapters.processes.wire import (
    Order,
    decode_outcomes,
    encode_order,
    receive,
    send,
)
from tallybook.invoice.run.batch.prepared import Outcome, compose_here, outcomes
from tallybook.invoice.run.batch.task import Scope, Task

ALONE_MAX = 1_000
"""With so many customers or fewer, a run composes by itself: to start a process costs as much."""
BATCHES_AHEAD = 2
"""Batches that each process is given before its first one is waited for."""


class Crew:
    """Processes that compose; a context, at whose end they are gone. For one thread.

    Args:
        size: how many processes; they are started when they are first needed.
        alone_max: customers with whom a run composes by itself.

    Attributes:
        lost: how many ended before their time, or could not be started.
    """

    def __init__(self, size: int, alone_max: int = ALONE_MAX) -> None:
        """Start nothing yet."""
        self.lost = 0
        self._size = size
        self._alone_max = alone_max
        self._lanes: list[_Lane] = []

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """End the processes; nothing that they know is needed."""
        for lane in self._lanes:
            lane.end()

    @property
    def pids(self) -> list[int]:
        """The processes at work."""
        return [lane.pid for lane in self._lanes]

    def __call__(
        self, scope: Scope, batches: Iterable[Sequence[Task]]
    ) -> Iterator[Sequence[Outcome]]:
        """Yield what each batch comes to, in their order, some batches ahead."""
        if len(scope.catalog.customers) <= self._alone_max:
            yield from compose_here(scope, batches)
            return
        self._start()
        order = encode_order(Order(scope=scope))
        for lane in self._lanes:
            lane.tell(order)
        ahead: deque[tuple[Sequence[Task], _Lane | None, Future[list[Outcome]] | None]] = deque()
        for batch, turn in zip(batches, count()):
            ahead.append((batch, *self._given(batch, turn)))
            while len(ahead) > BATCHES_AHEAD * len(self._lanes):
                yield self._taken(scope, *ahead.popleft())
        while ahead:
            yield self._taken(scope, *ahead.popleft())

    def _start(self) -> None:
        """Start the processes that are not there yet."""
        while len(self._lanes) + self.lost < self._size:
            try:
                self._lanes.append(_Lane())
            except OSError:
                self.lost += 1

    def _given(
        self, batch: Sequence[Task], turn: int
    ) -> "tuple[_Lane | None, Future[list[Outcome]] | None]":
        """Give a batch to the process whose turn it is, where there is one."""
        if not batch or not self._lanes:
            return None, None
        lane = self._lanes[turn % len(self._lanes)]
        return lane, lane.give(batch)

    def _taken(
        self,
        scope: Scope,
        batch: Sequence[Task],
        lane: "_Lane | None",
        given: Future[list[Outcome]] | None,
    ) -> Sequence[Outcome]:
        """Return what a batch came to; composed here where its process is gone."""
        if lane is not None and given is not None:
            try:
                return given.result()
            except (OSError, EOFError, CancelledError):
                self._lose(lane)
        return outcomes(scope, batch)

    def _lose(self, lane: "_Lane") -> None:
        if lane in self._lanes:
            self._lanes.remove(lane)
            self.lost += 1
            lane.end()


class _Lane:
    """One process, and the thread that waits for it: what is given to it is answered in order."""

    def __init__(self) -> None:
        """Start the process; raises OSError where the machine refuses."""
        command = [sys.executable, "-m", "tallybook.adapters.processes.child"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="composing")
        self.pid = self._process.pid

    def tell(self, order: bytes) -> None:
        """Send what the next batches share; a failure shows with the first of them."""
        self._thread.submit(self._send, order)

    def give(self, batch: Sequence[Task]) -> "Future[list[Outcome]]":
        """Send a batch, and promise what it comes to; an OSError or EOFError without a process."""
        return self._thread.submit(self._exchange, encode_order(Order(tasks=tuple(batch))))

    def _exchange(self, order: bytes) -> list[Outcome]:
        self._send(order)
        assert self._process.stdout is not None
        return decode_outcomes(receive(self._process.stdout))

    def _send(self, order: bytes) -> None:
        assert self._process.stdin is not None
        send(self._process.stdin, order)

    def end(self) -> None:
        """End the process and the thread."""
        self._process.kill()
        self._process.wait()
        self._thread.shutdown(cancel_futures=True)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                _close(pipe)


def _close(pipe: IO[bytes]) -> None:
    """Close a pipe, whatever it still holds for a process that is gone."""
    with suppress(OSError):
        pipe.close()
