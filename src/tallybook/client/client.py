"""`tallybook.Client`: record usage without waiting for the network; ask the server about it."""

import atexit
import logging
import os
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from tallybook.adapters.files.refused import RefusedFile
from tallybook.adapters.http.client import Client as Http
from tallybook.client.buffer import MemoryQueue, Queue, WhenFull
from tallybook.client.events import Names, RefusedEvent, default_source, event_line, whole_event
from tallybook.client.resources import (
    Customers,
    Entitlements,
    Events,
    Invoices,
    Meters,
    Plans,
    Resource,
    Subscriptions,
)
from tallybook.client.spool import SpoolQueue
from tallybook.client.stats import Stats
from tallybook.client.usage import Moment, UsageRow, Window, ask_usage
from tallybook.client.worker import Pace, Worker
from tallybook.collect.spool import BATCH_BYTES_MAX, BATCH_EVENTS_MAX
from tallybook.kernel.errors import Invalid, TallybookError

_LOG = logging.getLogger("tallybook")

URL_VARIABLE, KEY_VARIABLE = "TALLYBOOK_URL", "TALLYBOOK_KEY"
URL_DEFAULT = "http://127.0.0.1:8080"


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    spool: Path | None
    pace: Pace
    buffer_events_max: int
    buffer_bytes_max: int
    spool_bytes_max: int
    when_full: WhenFull
    block_seconds: float | None
    exit_seconds: float
    timeout_seconds: int
    verify: str | None
    cert: tuple[str, str] | None


class Client:
    """Records usage and asks about it. One object serves all threads; forks are noticed.

    Events wait in memory, or in `spool`, and are sent in batches by a background thread, again and
    again until the server has acknowledged them. Identities are made when an event is recorded,
    so nothing is counted twice, whatever is sent again.

    Args:
        url: the server; None is `TALLYBOOK_URL`, else http://127.0.0.1:8080.
        key: None is `TALLYBOOK_KEY`.
        on_refused: called on the background thread with every event that cannot be counted as it
            is (`RefusedEvent`); None logs an error.
        source: of events that name none; None is this machine.
        spool: a folder. What is recorded is on disk when `record` returns, and is sent by the
            next process that opens the folder if this one dies. Any number of processes may
            share it. None keeps events in memory.
        batch_events_max: most events of a batch.
        batch_bytes_max: most bytes of a batch, before compression.
        linger_seconds: how long the first event of a batch waits for others.
        retry_seconds_max: longest wait between two tries, full jitter below it; a longer
            `Retry-After` is kept to.
        buffer_events_max: most events that wait in memory.
        buffer_bytes_max: most bytes that wait in memory.
        spool_bytes_max: what this process may leave waiting in the spool.
        when_full: 'block' waits for room, 'raise' raises `Unavailable` ('buffer-full').
        block_seconds: longest wait for room; None waits for as long as it takes.
        exit_seconds: how long the end of the program may wait for the last events.
        timeout_seconds: for connecting and each answer.
        verify: path of a CA file.
        cert: paths of a certificate and its key.

    Raises:
        Invalid: an option makes no sense; names it.
        Unavailable: the spool's folder cannot be used.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        spool: Path | str | None = None,
        source: str | None = None,
        on_refused: Callable[[RefusedEvent], None] | None = None,
        batch_events_max: int = BATCH_EVENTS_MAX,
        batch_bytes_max: int = BATCH_BYTES_MAX,
        linger_seconds: float = 0.2,
        retry_seconds_max: float = 30.0,
        buffer_events_max: int = 100_000,
        buffer_bytes_max: int = 64 * 1024 * 1024,
        spool_bytes_max: int = 1024 * 1024 * 1024,
        when_full: WhenFull = "block",
        block_seconds: float | None = None,
        exit_seconds: float = 10.0,
        timeout_seconds: int = 30,
        verify: str | None = None,
        cert: tuple[str, str] | None = None,
    ) -> None:
        """Check everything; connect to nothing yet."""
        self._url = url or os.environ.get(URL_VARIABLE) or URL_DEFAULT
        self._key = key or os.environ.get(KEY_VARIABLE)
        self._options = _checked(
            _Options(
                spool=None if spool is None else Path(spool).absolute(),
                pace=Pace(
                    events_max=batch_events_max,
                    bytes_max=batch_bytes_max,
                    linger_seconds=linger_seconds,
                    retry_seconds_max=retry_seconds_max,
                ),
                buffer_events_max=buffer_events_max,
                buffer_bytes_max=buffer_bytes_max,
                spool_bytes_max=spool_bytes_max,
                when_full=when_full,
                block_seconds=block_seconds,
                exit_seconds=exit_seconds,
                timeout_seconds=timeout_seconds,
                verify=verify,
                cert=cert,
            )
        )
        self._on_refused = on_refused
        self._source = source or default_source()
        self._closed = False
        self._begin()
        _watched.add(self)

    # ------------------------------------------------------------------ recording

    def record(
        self,
        type: str,
        subject: str | None,
        data: Mapping[str, object] | None = None,
        *,
        id: str | None = None,
        time: datetime | str | None = None,
        source: str | None = None,
        **extensions: object,
    ) -> str:
        """Record that something was used; it is sent in the background.

        Args:
            type: what happened, such as 'api.request'; meters count types.
            subject: who used it; None is nobody.
            data: what meters read: money and quantities as int, Decimal or text.
            id: unique within the source; a fresh one where none is given. Give one where the
                program itself may repeat the call: an order's number, a request's id.
            time: when it happened: a datetime with a zone, or RFC 3339; now where none is given.
            source: the sender, a URI reference.
            extensions: further attributes, lower-case letters and digits, such as traceparent.

        Returns:
            The event's id. With `spool` it is on disk now.

        Raises:
            Invalid: the server would refuse it; names the field. Nothing was recorded.
            Unavailable: there is no room ('buffer-full'), the disk refuses, or the client is
                closed ('client-closed'). Nothing was recorded.
        """
        name = self._names.next() if id is None else id
        piece = event_line(
            type,
            subject,
            data,
            id=name,
            source=source or self._source,
            time_of=time,
            extensions=extensions,
        )
        self._worker.add([piece])
        return name

    def send(self, *events: Mapping[str, object]) -> None:
        """Record whole CloudEvents, all or none; `id`, `source` and `time` may be absent.

        Raises:
            Invalid: the server would refuse one of them. Nothing was recorded.
            Unavailable: as `record`.
        """
        pieces = [whole_event(event, self._names.next(), self._source) for event in events]
        if pieces:
            self._worker.add(pieces)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the server has acknowledged everything that was recorded.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Raises:
            Timeout: something waits still; it goes on being sent. The message tells why.
        """
        self._worker.flush(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Send what waits, then end. May be called twice.

        In a signal handler that has interrupted this client's own work nothing is done: that
        work goes on when the handler returns, and the end of the program closes the client.

        Args:
            timeout: seconds; None is `exit_seconds`.

        Raises:
            Timeout: something waits still. With a spool it is sent by the next process that opens
                the folder; without, it is lost with this object, which is why this is raised.
        """
        if self._closed or self._worker.interrupted():
            return
        try:
            self._worker.flush(self._options.exit_seconds if timeout is None else timeout)
        finally:
            self._closed = True
            self._worker.end()
            self._queue.close()
            self._http.close()
            _watched.discard(self)

    @property
    def stats(self) -> Stats:
        """Counters of this process."""
        return self._worker.stats()

    def __enter__(self) -> Self:
        """Return itself; closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Send what waits, and end."""
        self.close()

    # ------------------------------------------------------------------ asking

    def usage(
        self,
        meter: str,
        from_: Moment | None = None,
        to: Moment | None = None,
        *,
        window: Window | None = None,
        zone: str = "UTC",
        subjects: Sequence[str] = (),
        customers: Sequence[str] = (),
        group_by: Sequence[str] = (),
        where: Mapping[str, str | Sequence[str]] | None = None,
    ) -> list[UsageRow]:
        """Return what a meter measured.

        Args:
            meter: its key.
            from_: a datetime with a zone, or RFC 3339, inclusive; where absent, the quarter of an
                hour of the first usage.
            to: likewise, exclusive; where absent, the end of that of the last usage.
            window: 'MINUTE', 'HOUR', 'DAY', 'MONTH'; None is one row for all.
            zone: IANA zone that windows are aligned in.
            subjects: only these, a row each.
            customers: keys; only their usage, added up over all their subjects.
            group_by: dimensions of the meter, 'subject' or 'customer_id'.
            where: dimension -> the value or values to look at.

        Raises:
            Missing: there is no such meter or customer.
            Invalid: names the field.
            Unavailable: the server does not answer.
        """
        return ask_usage(
            self._http,
            meter,
            from_,
            to,
            window=window,
            zone=zone,
            subjects=subjects,
            customers=customers,
            group_by=group_by,
            where=where,
        )

    @cached_property
    def meters(self) -> Meters:
        """What is counted."""
        return Meters(self._asking, "meters")

    @cached_property
    def customers(self) -> Customers:
        """Who pays."""
        return Customers(self._asking, "customers")

    @cached_property
    def plans(self) -> Plans:
        """What is sold."""
        return Plans(self._asking, "plans")

    @cached_property
    def subscriptions(self) -> Subscriptions:
        """Who has bought what."""
        return Subscriptions(self._asking, "subscriptions")

    @cached_property
    def entitlements(self) -> Entitlements:
        """What customers may use."""
        return Entitlements(self._asking, "entitlements")

    @cached_property
    def invoices(self) -> Invoices:
        """What was billed."""
        return Invoices(self._asking, "invoices")

    @cached_property
    def wallets(self) -> Resource:
        """What was paid in advance."""
        return Resource(self._asking, "wallets")

    @cached_property
    def coupons(self) -> Resource:
        """Discounts."""
        return Resource(self._asking, "coupons")

    @cached_property
    def taxes(self) -> Resource:
        """Taxes."""
        return Resource(self._asking, "taxes")

    @cached_property
    def payments(self) -> Resource:
        """What was paid."""
        return Resource(self._asking, "payments")

    @cached_property
    def credit_notes(self) -> Resource:
        """What was taken back."""
        return Resource(self._asking, "credit-notes")

    @cached_property
    def events(self) -> Events:
        """What the server has stored, and which meters each event touched."""
        return Events(self._asking, "events")

    @property
    def http(self) -> Http:
        """Any route of the API: `get`, `post`, `put`, `delete`, `pages`, `raw`."""
        return self._http

    # ------------------------------------------------------------------ inside

    def _asking(self) -> Http:
        return self._http

    def _begin(self) -> None:
        options = self._options
        self._pid = os.getpid()
        self._names = Names()
        self._http = Http(
            self._url,
            self._key,
            timeout_seconds=options.timeout_seconds,
            verify=options.verify,
            cert=options.cert,
        )
        self._queue: Queue = _queue(options)
        self._worker = Worker(self._queue, self._http, options.pace, self._park, self._on_refused)
        if self._queue.waiting():
            self._worker.wake()

    def _park(self, piece: bytes, error: TallybookError) -> None:
        """Keep an event that the server has not taken, beside the spool where there is one."""
        if self._options.spool is not None:
            RefusedFile(self._options.spool).park(piece, error)

    def _after_fork(self) -> None:
        """Begin anew in the child: what waits is the parent's, and so are its files."""
        if self._closed:
            return
        _kept_open.append((self._queue, self._http))
        if isinstance(self._queue, SpoolQueue):
            self._queue.forget()
        self._begin()

    def _at_exit(self) -> None:
        if self._closed or self._pid != os.getpid():
            return
        waiting = self._queue.waiting()
        try:
            self.close()
        except TallybookError as error:
            lost = "kept in the spool" if self._options.spool is not None else "LOST"
            _LOG.error("%d recorded events are %s: %s", waiting, lost, error.message)


def _queue(options: _Options) -> Queue:
    if options.spool is not None:
        return SpoolQueue(options.spool, options.spool_bytes_max)
    return MemoryQueue(
        options.buffer_events_max,
        options.buffer_bytes_max,
        options.when_full,
        options.block_seconds,
    )


def _checked(options: _Options) -> _Options:
    if options.when_full not in {"block", "raise"}:
        raise Invalid("when_full is 'block' or 'raise'", field="when_full")
    least = {
        "batch_events_max": options.pace.events_max,
        "batch_bytes_max": options.pace.bytes_max,
        "buffer_events_max": options.buffer_events_max,
        "buffer_bytes_max": options.buffer_bytes_max,
        "spool_bytes_max": options.spool_bytes_max,
    }
    for name, number in least.items():
        if number < 1:
            raise Invalid(f"{name} must be 1 or more", field=name)
    if options.pace.linger_seconds < 0:
        raise Invalid("linger_seconds must be 0 or more", field="linger_seconds")
    if options.pace.retry_seconds_max <= 0:
        raise Invalid("retry_seconds_max must be more than 0", field="retry_seconds_max")
    return options


_watched: "weakref.WeakSet[Client]" = weakref.WeakSet()
_kept_open: list[object] = []
"""What a forked child has inherited; never closed there, because closing is the parent's."""


def _in_child() -> None:
    for client in list(_watched):
        client._after_fork()  # noqa: SLF001 - this module's own
    if "multiprocessing" in sys.modules:
        _end_with_pool_worker()


def _end_with_pool_worker() -> None:
    """See to it that a child of `multiprocessing` sends what waits: it skips `atexit`."""
    from multiprocessing import util

    util.register_after_fork(_registry, lambda _: util.Finalize(None, _end_all, exitpriority=1))


def _end_all() -> None:
    for client in list(_watched):
        client._at_exit()  # noqa: SLF001 - this module's own


class _Registry:
    """What `multiprocessing` keeps a note of; nothing but a name."""


_registry = _Registry()
atexit.register(_end_all)
os.register_at_fork(after_in_child=_in_child)
