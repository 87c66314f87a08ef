"""Group commit of the front doors: requests that wait share one transaction and one flush.

One thread a worker owns its connection to the shared partition. It decides and writes all that
waits in one transaction and then tells each; a request is answered only after that (guarantee 1).
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog

from tallybook.adapters.sqlite.door_log import Addition, SqliteDoorLog, View
from tallybook.collect.doors.decide import Decision, Prepared, decide
from tallybook.collect.spool import encode_event
from tallybook.kernel.errors import TallybookError, Unavailable
from tallybook.kernel.timestamps import DAY_US
from tallybook.transport.accept import AcceptLimits
from tallybook.transport.codec import encode
from tallybook.transport.columns import ColumnSet
from tallybook.transport.ports import Batch
from tallybook.transport.sifted import accept_many

WAITING_POINTS_MAX = 400_000
"""With more points waiting, new requests are told to come back: memory stays bounded."""
ROW_EVENTS_MAX = 5_000
TRIM_SECONDS = 2.0
TEND_SECONDS = 60.0
UNSEEN_US = 7 * DAY_US
"""Where series crowd, those unseen for so long are forgotten."""


class Request(msgspec.Struct, frozen=True):
    """A prepared request with what storing its events needs.

    Attributes:
        prepared: as decided from.
        columns: typed columns to fill. limits: bounds of an event. now_us: receipt time.
        cursors: positions to move with it.
    """

    prepared: Prepared
    columns: ColumnSet
    limits: AcceptLimits
    now_us: int

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self.prepared.tenant

    @property
    def door(self) -> str:
        """Through which door it came."""
        return self.prepared.door

    @property
    def keys(self) -> frozenset[bytes]:
        """The standings it must know."""
        return self.prepared.keys

    def decide(self, view: View) -> Addition:
        """Return what it adds."""
        decision = decide(self.prepared, view.standings, view.born_us, view.room)
        return Addition(
            batches=self._batches(decision),
            standings=decision.standings,
            made=decision.made,
            tally=decision.tally,
            examples=decision.examples,
            answer=decision,
        )

    def _batches(self, decision: Decision) -> list[Batch]:
        pieces = [encode_event(event) for event in decision.events]
        pieces += decision.envelopes
        return batches(self.tenant, pieces, self.now_us, self.columns, self.limits)


def batches(
    tenant: str, pieces: Sequence[bytes], now_us: int, columns: ColumnSet, limits: AcceptLimits
) -> list[Batch]:
    """Return the log rows of events spelled as JSON; a bad one is quarantined, none refused."""
    found = []
    for at in range(0, len(pieces), ROW_EVENTS_MAX):
        some = pieces[at : at + ROW_EVENTS_MAX]
        body = b"[" + b",".join(some) + b"]"
        wide = msgspec.structs.replace(
            limits, request_events_max=ROW_EVENTS_MAX, request_bytes_max=len(body)
        )
        rows, _ = accept_many(tenant, body, now_us, columns, wide)
        found.append(Batch(len(rows), encode(rows)))
    return found


class DoorCommit:
    """Writes requests to the shared partition.

    Args:
        log: this object's thread is its only user.
        upto: returns up to which offset a log of an epoch may be trimmed.
    """

    def __init__(self, log: SqliteDoorLog, upto: Callable[[str], int]) -> None:
        """Start no thread yet: many servers have no such client."""
        self._log = log
        self._upto = upto
        self._waiting: list[tuple[Request, asyncio.Future[Decision]]] = []
        self._points = 0
        self._closing = False
        self._tended = time.monotonic()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    async def write(self, request: Request) -> Decision:
        """Return what was decided, once it is durable.

        Raises:
            Unavailable: not stored, or too much is waiting; the same request may be sent again.
        """
        future: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        size = len(request.prepared.works) + len(request.prepared.envelopes)
        with self._wake:
            if self._closing or (self._waiting and self._points + size > WAITING_POINTS_MAX):
                raise Unavailable("the log is busy; send the same again", retry_after_seconds=1)
            self._waiting.append((request, future))
            self._points += size
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="door-commit", daemon=True)
                self._thread.start()
            self._wake.notify()
        return await future

    def close(self) -> None:
        """Write what waits, and end."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        self._trim()  # before the first is decided: the log may be a restored one
        trimmed = time.monotonic()
        while True:
            with self._wake:
                if not self._waiting and not self._closing:
                    self._wake.wait(TRIM_SECONDS)
                taken, self._waiting, self._points = self._waiting, [], 0
                done = self._closing
            if taken:
                self._write(taken)
            if time.monotonic() - trimmed > TRIM_SECONDS:
                trimmed = time.monotonic()
                self._trim()
            if done and not self._waiting:
                self._log.close()
                return

    def _write(self, taken: list[tuple[Request, "asyncio.Future[Decision]"]]) -> None:
        answers: list[Any]
        try:
            answers = self._log.write([request for request, _ in taken])
        except TallybookError as error:
            answers = [error] * len(taken)
        except Exception as error:  # noqa: BLE001  (whoever waits must hear of it)
            structlog.get_logger("doors").exception("doors.write_failed")
            answers = [Unavailable(f"the points could not be stored: {error}")] * len(taken)
        for (request, future), answer in zip(taken, answers, strict=True):
            tell(future, _told(request, answer))

    def _trim(self) -> None:
        log = structlog.get_logger("doors")
        try:
            if self._log.trim(self._upto):
                log.error("doors.restored", said="the lake knew more: every series begins anew")
            if time.monotonic() - self._tended >= TEND_SECONDS:
                self._tended = time.monotonic()
                if gone := self._log.forget_unseen(time.time_ns() // 1000 - UNSEEN_US):
                    log.warning("doors.series_forgotten", series=gone)
        except TallybookError as error:
            log.warning("doors.trim_failed", error=str(error))


def _told(request: Request, answer: Any) -> Any:
    """Return an answer for the client; after a bug of ours it sends again, until it is mended."""
    if not isinstance(answer, BaseException) or isinstance(answer, TallybookError):
        return answer
    structlog.get_logger("doors").error("doors.decision_failed", door=request.door, exc_info=answer)
    return Unavailable(f"the request cannot be counted now: {answer}", retry_after_seconds=30)


def tell(future: "asyncio.Future[Decision]", answer: Any) -> None:
    """Resolve a future from another thread; its client may have gone."""
    loop = future.get_loop()

    def resolve() -> None:
        if future.done():
            return
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    if not loop.is_closed():
        loop.call_soon_threadsafe(resolve)
