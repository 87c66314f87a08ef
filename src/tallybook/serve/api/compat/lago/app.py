"""Lago's event routes as an ASGI application beside the hot path.

`POST /api/v1/events` is everybody's path; the hot path hands over what has Lago's shape.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import msgspec
from anyio.to_thread import run_sync

from tallybook.kernel.errors import Invalid, Missing, TallybookError
from tallybook.meter.usage import StoredEvent
from tallybook.serve.api.compat.lago.events import (
    AMOUNT,
    INVALID,
    SOURCE,
    LagoEvent,
    LagoInvalid,
    lago_events,
    shown,
    usage_event,
)
from tallybook.serve.api.compat.wire import (
    Door,
    Ingest,
    Receive,
    Scope,
    Send,
    Told,
    aside,
    authorization_of,
    events_body,
    read_whole,
    strict_object,
    tell,
)
from tallybook.serve.api.doors.answer import retry_after, status_of
from tallybook.serve.api.ingest import EventsRefused

BATCH_PATH = "/api/v1/events/batch"
ONE_PREFIX = "/api/v1/events/"
_FIELDS = {
    "id": "transaction_id",
    "type": "code",
    "subject": "external_subscription_id",
    "source": "external_subscription_id",
    "time": "timestamp",
    "data": "properties",
}
_CODES = {401: "unauthorized", 403: "forbidden", 404: "event_not_found", 413: "too_large"}


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """What the door asks the rest of the process.

    Attributes:
        now_us: the clock.
        stored: tenant, id -> the events of this id in the lake, whoever sent them.
    """

    now_us: Callable[[], int]
    stored: Callable[[str, str], list[StoredEvent]]


class LagoApp:
    """Answers `POST /api/v1/events/batch`, `GET /api/v1/events/{transaction_id}`, and bodies of
    Lago's shape on `POST /api/v1/events`.

    Args:
        gate: knows keys.
        ingest: the hot path.
        lookup: the rest.
        bytes_max: most bytes of a body.
    """  # noqa: D205 - what is answered stands in one sentence

    def __init__(self, gate: Door, ingest: Ingest, lookup: Lookup, bytes_max: int) -> None:
        """Keep the parts."""
        self._gate = gate
        self._ingest = ingest
        self._lookup = lookup
        self._bytes_max = bytes_max

    def answers(self, method: str, path: str) -> bool:
        """Whether a request is for this door."""
        if method == "GET":
            return path.startswith(ONE_PREFIX) and len(path) > len(ONE_PREFIX)
        return method == "POST" and path == BATCH_PATH

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            if scope["method"] == "GET":
                told = await self._one(scope)
            else:
                grant = self._gate.check(authorization_of(scope), "ingest", bound=True)
                asked = await read_whole(scope, receive, self._bytes_max)
                told = await self.take(grant, asked.body)
        except TallybookError as error:
            told = refusal(error)
        await tell(send, told)

    async def take(self, grant: Any, raw: bytes) -> Told:
        """Store what a body of Lago's shape holds; raises nothing of our own errors."""
        try:
            body, answer, count = await aside(raw, self._read)
            await self._store(grant, body, count)
        except TallybookError as error:
            return refusal(error)
        return Told(200, answer)

    def _read(self, raw: bytes) -> tuple[bytes, msgspec.Raw, int]:
        """Return the events to store, the answer once they are, and how many they are."""
        events, is_batch = lago_events(strict_object(raw))
        now_us = self._lookup.now_us()
        listed = [shown(event, now_us) for event in events]
        answer = {"events": listed} if is_batch else {"event": listed[0]}
        body = events_body([usage_event(event) for event in events])
        return body, msgspec.Raw(msgspec.json.encode(answer)), len(events)

    async def _store(self, grant: Any, body: bytes, count: int) -> None:
        try:
            await self._ingest.store(grant, body)
        except EventsRefused as refused:
            raise LagoInvalid(_details(refused, alone=count == 1)) from refused

    async def _one(self, scope: Scope) -> Told:
        grant = self._gate.check(authorization_of(scope), "read")
        name = unquote(scope["path"].removeprefix(ONE_PREFIX))
        events = await run_sync(self._lookup.stored, grant.tenant, name)
        event = next((each for each in events if each.source.startswith(SOURCE)), None)
        if event is None or event.problem is not None:
            raise Missing(f"there is no event '{name}'", field="transaction_id")
        return Told(200, {"event": _stored(event)})


def refusal(error: TallybookError) -> Told:
    """Return the answer to a request of which nothing is stored, in Lago's words."""
    status, code = _status(error)
    body: dict[str, Any] = {"status": status, "error": HTTPStatus(status).phrase, "code": code}
    if isinstance(error, LagoInvalid):
        body["error"] = "Unprocessable Entity"
        body["error_details"] = error.details
    elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
        body["error_details"] = {error.field or "base": [error.message]}
    headers = list(retry_after(error))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers += [(b"x-ratelimit-reset", dict(headers)[b"retry-after"])]
    return Told(status, body, headers)


def _status(error: TallybookError) -> tuple[int, str]:
    match error:
        case LagoInvalid():
            return 422, "validation_errors"
        case Missing():
            return 404, "event_not_found"
        case Invalid() if error.code == "malformed":
            return 400, "malformed"
        case _:
            status = status_of(error)
            return status, _CODES.get(status, error.code.replace("-", "_"))


def _details(refused: EventsRefused, *, alone: bool) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for each in refused.errors:
        field = _FIELDS.get(str(each["field"] or ""), str(each["field"] or "event"))
        reason = {field: [str(each["code"]).replace("-", "_") or INVALID]}
        if alone:
            return reason
        told[str(each["index"])] = reason
    return told


def _stored(event: StoredEvent) -> dict[str, object]:
    """Return a stored event as Lago answers it."""
    data = strict_object(event.data.encode())
    amount = data.pop(AMOUNT, None)
    sent = LagoEvent(
        transaction_id=event.id,
        subject=event.subject or "",
        code=event.type,
        time_us=event.time_us,
        properties=data,
        amount=amount,
    )
    return shown(sent, event.received_us)
