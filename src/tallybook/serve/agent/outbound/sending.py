"""The sender: a thread that sends from the spool until the server has acknowledged everything.

What is sent next, and when, is decided in `collect.sending`. A batch leaves the spool only after a
2xx, or when each of its events that the server refuses is parked on disk. Everything else is tried
again, without end: also a wrong key, certificate or address, because an operator can put those
right and usage must not be lost meanwhile.
"""

import time
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom
from threading import Event, Thread

import msgspec

from tallybook import __version__
from tallybook.adapters.files.refused import RefusedFile
from tallybook.collect.ports import EventSender, Packing, Receipt
from tallybook.collect.sending.breaker import Circuit
from tallybook.collect.sending.flow import Rest, Sending, Sent, Setup, Times
from tallybook.collect.sending.lanes import Pace
from tallybook.kernel.errors import Corrupt, TallybookError, Unavailable
from tallybook.serve.agent.spool import SharedSpool
from tallybook.serve.agent.voice import Voice
from tallybook.transport.ports import LogRow

_SERVER = "server"
_CIRCUIT = "circuit"
_DRAINING_CAP_SECONDS = 3.0
_LOOK_SECONDS = 0.5


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where batches go, under whose name, how fast.

    Attributes:
        sender: takes batches to the server or broker.
        packing: compresses.
        edge: the edge's name.
        pace: of what an outage left behind.
        tend: looks after the line between two batches, such as its certificate; None for nothing.
    """

    sender: EventSender
    packing: Packing
    edge: str
    pace: Pace = Pace()
    tend: Callable[[Voice], None] | None = None


class Sender(Thread):
    """Sends from the spool in its own thread.

    Attributes:
        total: what became of everything sent since the start.
        acked_us: when the server last acknowledged, microseconds UTC; 0 for never.
        idle: set while the spool is empty.
        bug: an exception that nobody expected; the agent ends with it.
    """

    def __init__(self, spool: SharedSpool, route: Route, folder: Path, voice: Voice) -> None:
        """Prepare; `start` begins."""
        super().__init__(name="sender", daemon=True)
        self._spool = spool
        self._tend = route.tend
        self._folder = folder
        self._parking = RefusedFile(folder)
        self._voice = voice
        self._wake = Event()
        self._ended = Event()
        self._draining = False
        self.total = Receipt()
        self.acked_us = 0
        self.idle = Event()
        self.bug: BaseException | None = None
        setup = Setup(
            outbox=spool,
            sender=route.sender,
            packing=route.packing,
            parking=self._parking,
            set_aside=self._set_aside,
            edge=route.edge,
            agent=__version__,
        )
        self._sending = Sending(setup, _times, SystemRandom().random, route.pace)

    def circuit(self) -> Circuit:
        """Return whether batches flow to the server."""
        return self._sending.circuit()

    def wake(self) -> None:
        """Say that there is something new in the spool."""
        self.idle.clear()
        self._wake.set()

    def drain(self, seconds: float) -> bool:
        """Send on for at most `seconds`, then stop; return whether the spool is empty."""
        self._draining = True
        deadline = time.monotonic() + seconds
        emptied = False
        while not emptied and self.is_alive() and time.monotonic() < deadline:
            self.wake()
            self.idle.wait(min(_LOOK_SECONDS, max(0, deadline - time.monotonic())))
            emptied = self._is_empty()  # `idle` may be older than what was spooled last
        self.end(None if emptied else 1)
        return self._is_empty()

    def end(self, seconds_max: float | None = 1) -> None:
        """Send no more; wait at most so long for the batch that is on its way."""
        self._ended.set()
        self._wake.set()
        self.join(seconds_max)

    def run(self) -> None:
        """Send until the end."""
        try:
            self._send_all()
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, which ends with it
            self.bug = error

    def _send_all(self) -> None:
        hurried = False
        while not self._ended.is_set():
            if self._draining and not hurried:  # the last chance before the end
                hurried = True
                self._hurry(0)
            if self._tend is not None:
                self._tend(self._voice)
            try:
                done = self._sending.step(hurry=self._draining)
            except TallybookError as error:
                self._complain(error)
                if self._draining:
                    self._hurry(_DRAINING_CAP_SECONDS)
                continue
            if isinstance(done, Sent):
                self._note(done)
            else:
                self._rest(done)

    def _hurry(self, seconds_max: float) -> None:
        breaker = self._sending.breaker
        self._sending.breaker = breaker.hurried(time.monotonic(), seconds_max)

    def _note(self, sent: Sent) -> None:
        if sent.damaged is not None:
            return
        self.total += sent.receipt
        self.acked_us = time.time_ns() // 1000
        self._voice.settle(_SERVER)
        self._voice.settle(_CIRCUIT)
        if sent.receipt.parked:
            message = f"refused {sent.receipt.parked} events; they are in {self._parking.events}"
            self._voice.complain("refused", message)

    def _set_aside(self, row: LogRow) -> None:
        """Keep a row that the disk has damaged; what it held is told, never dropped silently."""
        kept = self._folder / f"damaged-{row.offset}.bin"
        try:
            kept.write_bytes(self._spool.raw(row.offset))
        except OSError as error:
            raise Unavailable(f"{kept}: {error.strerror or error}") from error
        message = f"{row.events} events were damaged on disk; their bytes are kept in {kept}"
        self._voice.complain("spool", message)

    def _complain(self, error: TallybookError) -> None:
        where = "spool" if isinstance(error, Corrupt) else _SERVER
        self._voice.complain(where, f"{error.message} ({error.code}); trying again")
        if self.circuit() == "open":
            self._voice.complain(_CIRCUIT, "open after repeated failures; one batch at a time")

    def _rest(self, rest: Rest) -> None:
        """Wait; new events end the wait for new events, not the wait for the server's sake."""
        if rest.seconds is None:
            self._wake.clear()
            if self._is_empty():
                self.idle.set()
                self._wake.wait(_LOOK_SECONDS * 4)
            return
        was_draining = self._draining
        deadline = time.monotonic() + rest.seconds
        while (left := deadline - time.monotonic()) > 0 and not self._ended.is_set():
            if self._draining and not was_draining:
                return
            if self._sending.circuit() == "closed" and not self._sending.breaker.failures:
                self._wake.clear()
                if self._wake.wait(min(left, 0.2)):
                    return  # live data does not wait for the backlog's turn
            else:
                self._ended.wait(min(left, 0.2))

    def _is_empty(self) -> bool:
        return self._spool.waiting().batches == 0


def _times() -> Times:
    return Times(time.time_ns() // 1000, time.monotonic())
