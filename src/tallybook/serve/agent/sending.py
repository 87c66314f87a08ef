"""The sender: takes batches from the spool, oldest first, until the server has acknowledged them.

A batch leaves the spool only after a 2xx, or when each of its events that the server refuses is
parked on disk. Everything else is tried again with backoff and full jitter, without end: also a
wrong key or address, because an operator can put those right and usage must not be lost meanwhile.
"""

import random
import time
from pathlib import Path
from threading import Event, Thread

from tallybook.adapters.files.refused import RefusedFile
from tallybook.collect.backoff import CAP_SECONDS, wait_seconds
from tallybook.collect.flow import deliver
from tallybook.collect.ports import EventSender, Packing, Receipt
from tallybook.kernel.errors import Corrupt, TallybookError, Unavailable
from tallybook.serve.agent.spool import SharedSpool
from tallybook.serve.agent.voice import Voice
from tallybook.transport.ports import LogRow

_SERVER = "server"
_DRAINING_CAP_SECONDS = 3.0
_LOOK_SECONDS = 0.5


class Sender(Thread):
    """Sends from the spool in its own thread.

    Attributes:
        total: what became of everything sent since the start.
        acked_us: when the server last acknowledged, microseconds UTC; 0 for never.
        idle: set while the spool is empty.
        bug: an exception that nobody expected; the agent ends with it.
    """

    def __init__(
        self, spool: SharedSpool, sender: EventSender, packing: Packing, folder: Path, voice: Voice
    ) -> None:
        """Prepare; `start` begins."""
        super().__init__(name="sender", daemon=True)
        self._spool = spool
        self._sender = sender
        self._packing = packing
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
        self._ended.set()
        self._wake.set()
        self.join(timeout=None if emptied else 1)
        return self._is_empty()

    def run(self) -> None:
        """Send until the end."""
        try:
            self._send_all()
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, which ends with it
            self.bug = error

    def _send_all(self) -> None:
        failures = 0
        while not self._ended.is_set():
            try:
                worked = self._send_one()
            except TallybookError as error:
                failures += 1
                self._complain(error)
                self._pause(self._wait_seconds(error, failures))
                continue
            failures = 0
            if not worked:
                self._rest()

    def _send_one(self) -> bool:
        """Send the oldest batch; return whether there was one."""
        rows = self._spool.read(0, 1)
        if not rows:
            return False
        row = rows[0]
        if row.payload is None:
            self._set_aside(row)
        else:
            self._deliver(row, row.payload)
        self._spool.trim(row.offset)
        return True

    def _deliver(self, row: LogRow, payload: bytes) -> None:
        receipt = deliver(payload, row.events, self._sender, self._packing, self._parking)
        self.total += receipt
        self.acked_us = time.time_ns() // 1000
        self._voice.settle(_SERVER)
        if receipt.parked:
            message = f"refused {receipt.parked} events; they are kept in {self._parking.events}"
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

    def _wait_seconds(self, error: TallybookError, failures: int) -> float:
        asked = error.retry_after_seconds if isinstance(error, Unavailable) else None
        cap = _DRAINING_CAP_SECONDS if self._draining else CAP_SECONDS
        return wait_seconds(failures, random.random(), asked, cap)

    def _pause(self, seconds: float) -> None:
        """Wait, also when something new is spooled: backing off is for the server's sake."""
        deadline = time.monotonic() + seconds
        was_draining = self._draining
        while (left := deadline - time.monotonic()) > 0 and not self._ended.is_set():
            if self._draining and not was_draining:
                return  # the last chance before the end
            self._ended.wait(min(left, 0.2))

    def _is_empty(self) -> bool:
        return not self._spool.read(0, 1)

    def _rest(self) -> None:
        self._wake.clear()
        if self._is_empty():
            self.idle.set()
            self._wake.wait()
