"""Watches edges: reads the note on each parcel and tells the control database every second.

Beside the hot path: a request waits for none of this, and a note that is malformed, or a control
database that is away, changes no answer. The note of a batch that is stored lies in the log, in the
batch's own transaction, and is told from there: whatever is killed when, each is told, and once.
What was not stored is told from memory.
"""

import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeVar

import structlog

from tallybook.adapters.sql.edge.edges import Sighting
from tallybook.collect.sending.fleet import Seen
from tallybook.collect.sending.parcel import EDGE, Note, note_of
from tallybook.kernel.errors import Forbidden, TallybookError, Unavailable
from tallybook.serve.api.fleet.notes import Notes, encoded
from tallybook.serve.api.ingest import NOTING, Door

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
T = TypeVar("T")

CERTIFIED = "tallybook.certified"
"""Key of the ASGI scope under which the name stands that a certificate vouches for."""

FLUSH_SECONDS = 1.0
PENDING_MAX = 50_000
_EDGE = EDGE.encode()
_PREFIX = b"tallybook-"


class FleetWatch:
    """An ASGI application around the event door that notes which edge sent what.

    Args:
        app: answers the request.
        gate: knows keys.
        keep: puts notes into the control database.
        notes: where the log keeps them.
    """

    def __init__(
        self, app: App, gate: Door, keep: Callable[[Sequence[Sighting]], int], notes: Notes
    ) -> None:
        """Nothing was seen yet; `start` begins to tell."""
        self._notes = notes
        self._app = app
        self._gate = gate
        self._keep = keep
        self._lock = threading.Lock()
        self._pending: list[Sighting] = []
        self._dropped = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._flush_all, name="fleet", daemon=True)

    def start(self) -> None:
        """Tell the control database what a killed process has left, and all from now on."""
        self._thread.start()

    def close(self) -> None:
        """Tell what is left, and end."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._flush()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and note who sent it."""
        note = _note(scope)
        if note is None:
            await self._app(scope, receive, send)
            return
        at_us = time.time_ns() // 1000
        status, durable = 0, False

        def noted(tenant: str) -> bytes:
            """Return the note of a request whose events are stored with it."""
            nonlocal durable
            durable = True
            return encoded(Sighting(tenant, _seen(scope, note, at_us, stored=True)))

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        scope[NOTING] = noted
        try:
            await self._app(scope, receive, noting)
        finally:
            if not durable or status >= 300:
                self._see(scope, note, at_us, status)

    def _see(self, scope: Scope, note: Note, at_us: int, status: int) -> None:
        tenant = self._tenant(scope)
        if tenant is None or not status:
            return
        seen = _seen(scope, note, at_us, stored=200 <= status < 300)
        with self._lock:
            if len(self._pending) < PENDING_MAX:
                self._pending.append(Sighting(tenant, seen))
            else:
                self._dropped += 1

    def _tenant(self, scope: Scope) -> str | None:
        """Return whose edge it is; None where the request had no good key."""
        found = next((v for n, v in scope["headers"] if n.lower() == b"authorization"), b"")
        try:
            return self._gate.check(found.decode("latin-1"), "ingest", bound=True).tenant
        except (Forbidden, Unavailable):
            return None

    def _flush_all(self) -> None:
        self._guarded(self._notes.tell_all, self._keep)
        while not self._ended.wait(FLUSH_SECONDS):
            self._flush()

    def _flush(self) -> None:
        """Tell what was seen; keep it for the next time where the database is away."""
        self._guarded(self._notes.tell, self._keep)
        with self._lock:
            pending, self._pending = self._pending, []
            dropped, self._dropped = self._dropped, 0
        if dropped:
            structlog.get_logger("fleet").warning("fleet.dropped", notes=dropped)
        if pending and not self._guarded(self._keep, pending):
            with self._lock:
                self._pending = (pending + self._pending)[-PENDING_MAX:]

    def _guarded(self, work: Callable[[T], object], given: T) -> bool:
        """Return whether it was done; a failure is told, and the next notes still are."""
        log = structlog.get_logger("fleet")
        try:
            work(given)
        except TallybookError as error:
            log.warning("fleet.not_noted", code=error.code, error=error.message)
            return False
        except Exception:  # a bug must not end the watch
            log.exception("fleet.bug")
        return True


def _seen(scope: Scope, note: Note, at_us: int, *, stored: bool) -> Seen:
    certified = scope.get(CERTIFIED) == note.parcel.edge
    return Seen(note=note, at_us=at_us, stored=stored, certified=certified)


def _note(scope: Scope) -> Note | None:
    headers = scope["headers"]
    if not any(name.lower() == _EDGE for name, _ in headers):
        return None
    told = {
        name.lower().decode("latin-1"): value.decode("latin-1")
        for name, value in headers
        if name.lower().startswith(_PREFIX)
    }
    return note_of(told)
