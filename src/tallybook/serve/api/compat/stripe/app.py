"""Stripe's meter events as an ASGI application beside the hot path."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from anyio.to_thread import run_sync

from tallybook.kernel.errors import Forbidden, Invalid, TallybookError
from tallybook.meter.usage import StoredEvent
from tallybook.serve.api.compat.stripe import cancel, session
from tallybook.serve.api.compat.stripe.events import (
    SOURCE,
    MeterEvent,
    form_fields,
    meter_event,
    shown,
    usage_event,
)
from tallybook.serve.api.compat.stripe.words import refusal
from tallybook.serve.api.compat.wire import (
    EVENTS_MAX,
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
from tallybook.serve.api.doors.answer import Asked

FOUND_WITHIN_SECONDS = 5.0
"""How long an adjustment waits for an event that was accepted a moment ago to be in the lake."""
_LOOK_SECONDS = 0.1
"""The first pause between two looks; each is twice the one before."""
SESSION_PATH = "/v2/billing/meter_event_session"


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """What the door asks the rest of the process.

    Attributes:
        secret: of the server.
        now_us: the clock.
        fresh: a new identity.
        stored: tenant, source, id -> the event of this identity, None while it is not in the lake.
        meters: tenant -> the meters in use.
    """

    secret: bytes
    now_us: Callable[[], int]
    fresh: Callable[[], str]
    stored: Callable[[str, str, str], StoredEvent | None]
    meters: Callable[[str], list[Any]]


class StripeApp:
    """Answers POST on `PATHS`.

    Args:
        gate: knows keys.
        ingest: the hot path.
        lookup: the rest.
        bytes_max: most bytes of a body.
    """

    def __init__(self, gate: Door, ingest: Ingest, lookup: Lookup, bytes_max: int) -> None:
        """Keep the parts."""
        self._gate = gate
        self._ingest = ingest
        self._lookup = lookup
        self._bytes_max = bytes_max
        self._answers: Mapping[str, Callable[[Any, Asked], Awaitable[Told]]] = {
            "/v1/billing/meter_events": self._event_v1,
            "/v1/billing/meter_event_adjustments": self._adjust_v1,
            "/v2/billing/meter_events": self._event_v2,
            "/v2/billing/meter_event_adjustments": self._adjust_v2,
            SESSION_PATH: self._session,
            "/v2/billing/meter_event_stream": self._stream,
        }

    def answers(self, method: str, path: str) -> bool:
        """Whether a request is for this door."""
        return method == "POST" and path in self._answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            grant = self._granted(authorization_of(scope), scope["path"])
            asked = await read_whole(scope, receive, self._bytes_max)
            told = await self._answers[scope["path"]](grant, asked)
        except TallybookError as error:
            told = refusal(error)
        await tell(send, told)

    def _granted(self, authorization: str | None, path: str) -> Any:
        token = (authorization or "").partition(" ")[2]
        if not token.startswith(session.PREFIX):
            return self._gate.check(authorization, "ingest", bound=True)
        if path == SESSION_PATH:
            message = "a session is opened with the key; one that was seen cannot live for ever"
            raise Forbidden(message, code="forbidden")
        lookup = self._lookup
        grant = self._gate.by_id(session.key_of_session(lookup.secret, token, lookup.now_us()))
        if grant is None or not grant.allows("ingest"):
            raise Forbidden("the key of this session is no longer good", code="no-key")
        return grant

    async def _event_v1(self, grant: Any, asked: Asked) -> Told:
        return await self._event(grant, asked, form_fields(asked.body), version=1)

    async def _event_v2(self, grant: Any, asked: Asked) -> Told:
        return await self._event(grant, asked, strict_object(asked.body), version=2)

    async def _event(
        self, grant: Any, asked: Asked, fields: Mapping[str, Any], *, version: int
    ) -> Told:
        event = self._read(asked, fields, "seconds" if version == 1 else "rfc3339")
        await self._ingest.store(grant, events_body([usage_event(event)]))
        return Told(200, shown(event, self._lookup.now_us(), version=version))

    async def _stream(self, grant: Any, asked: Asked) -> Told:
        body = await aside(asked.body, lambda body: self._streamed(asked, body))
        await self._ingest.store(grant, body)
        return Told(200, {})

    def _streamed(self, asked: Asked, body: bytes) -> bytes:
        listed = strict_object(body).get("events")
        if not isinstance(listed, list) or not 1 <= len(listed) <= EVENTS_MAX:
            message = f"events must be an array of 1 to {EVENTS_MAX} events"
            raise Invalid(message, code="parameter_invalid", field="events")
        events = [
            self._read(asked, _object(each, f"events[{at}]"), "rfc3339", f"events[{at}].")
            for at, each in enumerate(listed)
        ]
        return events_body([usage_event(event) for event in events])

    def _read(
        self, asked: Asked, fields: Mapping[str, Any], timestamps: str, within: str = ""
    ) -> MeterEvent:
        key = asked.header("idempotency-key")
        fresh = self._lookup.fresh()
        return meter_event(fields, key, fresh, timestamps=timestamps, within=within)

    async def _session(self, grant: Any, asked: Asked) -> Told:
        del asked
        lookup = self._lookup
        return Told(200, session.open_session(lookup.secret, grant.key_id, lookup.now_us()))

    async def _adjust_v1(self, grant: Any, asked: Asked) -> Told:
        return await self._adjust(grant, form_fields(asked.body), version=1)

    async def _adjust_v2(self, grant: Any, asked: Asked) -> Told:
        return await self._adjust(grant, strict_object(asked.body), version=2)

    async def _adjust(self, grant: Any, fields: dict[str, Any], *, version: int) -> Told:
        asked = cancel.adjustment(fields)
        stored = await self._stored(grant.tenant, asked)
        meters = await run_sync(self._lookup.meters, grant.tenant)
        event = cancel.weigh_out(meters, asked, stored)
        await self._ingest.store(grant, events_body([event]))
        return Told(200, cancel.shown(asked, self._lookup.now_us(), version=version))

    async def _stored(self, tenant: str, asked: cancel.Adjustment) -> StoredEvent:
        """Return the event to take back; raises Invalid where there is none."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + FOUND_WITHIN_SECONDS, _LOOK_SECONDS
        while True:
            found = await run_sync(self._lookup.stored, tenant, SOURCE, asked.identifier)
            if found is not None and found.problem is None and found.type == asked.event_name:
                return found
            if loop.time() >= deadline:
                message = f"No such meter event: '{asked.identifier}'"
                field = "cancel[identifier]"
                raise Invalid(message, code="resource_missing", field=field)
            await asyncio.sleep(min(pause, deadline - loop.time()))
            pause *= 2


def _object(value: Any, field: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Invalid(f"{field} must be an object", code="parameter_invalid", field=field)
    return value
