"""The background thread: takes batches from the queue, sends them, waits out failures."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from random import SystemRandom

import msgspec

from tallybook.adapters.http.client import Client as Http
from tallybook.client.buffer import Queue, Taken
from tallybook.client.events import RefusedEvent
from tallybook.client.sending import Outcome, Park, send
from tallybook.client.stats import Stats
from tallybook.collect.backoff import wait_seconds
from tallybook.kernel.errors import TallybookError, Timeout, Unavailable

_LOG = logging.getLogger("tallybook")

OnRefused = Callable[[RefusedEvent], None]


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """When a batch goes.

    Attributes:
        events_max: in a batch; bytes_max: before compression.
        linger_seconds: how long the first event of a batch waits for others.
        retry_seconds_max: longest wait between two tries, unless the server asks for a longer one.
    """

    events_max: int
    bytes_max: int
    linger_seconds: float
    retry_seconds_max: float


class Worker:
    """Sends what a queue holds, in a thread that starts with the first event.

    Args:
        queue: where events wait.
        http: the server and the key.
        pace: when a batch goes.
        park: keeps what the server will not take.
        on_refused: told of every event that cannot be counted as it is; None logs it.
    """

    def __init__(
        self, queue: Queue, http: Http, pace: Pace, park: Park, on_refused: OnRefused | None
    ) -> None:
        """Start no thread yet."""
        self.queue = queue
        self._http = http
        self._pace = pace
        self._park = park
        self._on_refused = on_refused
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self._recorded = 0
        self._hurry = 0
        self._busy = False
        self._idle = False
        self._ending = False
        self._adding: set[int] = set()
        self._stats = Stats()

    def add(self, pieces: Sequence[bytes]) -> None:
        """Keep events and see to it that they are sent; raises Unavailable."""
        if self._ending:
            raise Unavailable("the client is closed", code="client-closed")
        if self.interrupted():
            raise Unavailable("a signal handler records within a record that it has interrupted")
        me = threading.get_ident()
        try:
            self._adding.add(me)
            self.queue.put(pieces)
            with self._news:
                self._recorded += len(pieces)
                self._start()
                if self._idle or self.queue_is_ripe():
                    self._news.notify_all()
        finally:
            self._adding.discard(me)

    def interrupted(self) -> bool:
        """Whether this thread is within `add`: a signal handler has interrupted it.

        What it has locked there is not let go before the handler returns, so that the handler
        must not wait for it.
        """
        return threading.get_ident() in self._adding

    def wake(self) -> None:
        """Send what an earlier process has left."""
        with self._news:
            self._start()
            self._news.notify_all()

    def queue_is_ripe(self) -> bool:
        """Whether the thread should look now, and not when it has lingered."""
        return self.queue.waiting() >= self._pace.events_max or self._hurry > 0

    def flush(self, timeout: float | None) -> None:
        """Wait until nothing waits; raises Timeout with the reason of the last failure."""
        until = None if timeout is None else time.monotonic() + timeout
        if threading.current_thread() is self._thread:
            return  # a callback must not wait for itself
        if self.interrupted():
            raise self._late()
        with self._news:
            if not self._has_work():
                return
            self._start()
            self._hurry += 1
            self._news.notify_all()
            try:
                while self._has_work():
                    left = None if until is None else until - time.monotonic()
                    if left is not None and left <= 0:
                        raise self._late()
                    self._news.wait(left if left is not None else 1.0)
            finally:
                self._hurry -= 1

    def end(self) -> None:
        """Stop after the request that is under way, which is hardly waited for."""
        with self._news:
            self._ending = True
            self._news.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=END_SECONDS)

    def stats(self) -> Stats:
        """Return the counters."""
        with self._news:
            return msgspec.structs.replace(
                self._stats, recorded=self._recorded, waiting=self.queue.waiting()
            )

    def _has_work(self) -> bool:
        return self._busy or self.queue.waiting() > 0

    def _late(self) -> Timeout:
        said = self._stats.last_error
        waiting = self.queue.waiting()
        message = f"{waiting} events are not sent yet" + (f"; the last try: {said}" if said else "")
        return Timeout(message)

    def _start(self) -> None:
        if not self._ending and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._run, name="tallybook", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        failures = 0
        while True:
            with self._news:
                if not self.queue.waiting() and not self._ending:
                    self._idle = True
                    self._news.wait(ADOPT_WAIT_SECONDS)  # then look for what others have left
                    self._idle = False
                self._linger()
                if self._ending:
                    return
            try:
                self._step(retry=failures > 0)
                failures = 0
            except TallybookError as error:
                failures += 1
                self._failed(error, failures)
            except Exception as error:  # noqa: BLE001 - the thread must outlive a bug of ours
                failures += 1
                _LOG.exception("the sending of usage met an error of its own")
                self._failed(Unavailable(repr(error)), failures)

    def _linger(self) -> None:
        until = time.monotonic() + self._pace.linger_seconds
        while 0 < self.queue.waiting() < self._pace.events_max:
            left = until - time.monotonic()
            if left <= 0 or self._hurry or self._ending:
                return
            self._news.wait(left)

    def _step(self, *, retry: bool) -> None:
        with self._news:
            taken = self.queue.head(self._pace.events_max, self._pace.bytes_max)
            if taken is None:
                return
            self._busy = True
            self._stats = msgspec.structs.replace(
                self._stats,
                requests=self._stats.requests + 1,
                retries=self._stats.retries + retry,
            )
        try:
            self._note(taken, send(self._http, taken.pieces, self._park))
        finally:
            with self._news:
                self._busy = False
                self._news.notify_all()

    def _note(self, taken: Taken, outcome: Outcome) -> None:
        kept = sum(each.quarantined for each in outcome.bad)
        with self._news:
            self.queue.done(taken)
            self._stats = msgspec.structs.replace(
                self._stats,
                stored=self._stats.stored + outcome.stored,
                quarantined=self._stats.quarantined + kept,
                refused=self._stats.refused + len(outcome.bad) - kept,
                damaged=getattr(self.queue, "damaged", 0),
                last_error="",
            )
        for each in outcome.bad:
            self._tell(each)

    def _tell(self, each: RefusedEvent) -> None:
        if self._on_refused is None:
            _LOG.error("an event cannot be counted: %s: %s", each.code, each.message)
            return
        try:
            self._on_refused(each)
        except BaseException:  # noqa: BLE001 - the callback is the program's, the thread is ours
            _LOG.exception("on_refused failed for an event that is refused: %s", each.code)

    def _failed(self, error: TallybookError, failures: int) -> None:
        asked = error.retry_after_seconds if isinstance(error, Unavailable) else None
        wait = wait_seconds(failures, SystemRandom().random(), asked, self._pace.retry_seconds_max)
        if failures & (failures - 1) == 0:  # the first, second, fourth, eighth …
            _LOG.warning("usage is not sent yet (%d tries): %s", failures, error.message)
        until = time.monotonic() + wait
        with self._news:
            self._stats = msgspec.structs.replace(self._stats, last_error=error.message)
            self._news.notify_all()
            while not self._ending:
                left = until - time.monotonic()
                if left <= 0:
                    return
                self._news.wait(left)


END_SECONDS = 0.5
"""How long the end of a client waits for its thread beyond what it has waited for its events."""
ADOPT_WAIT_SECONDS = 30.0
"""How often an idle process looks for what others have left in the folder."""
