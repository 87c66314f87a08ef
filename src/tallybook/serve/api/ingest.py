"""`POST /api/v1/events`: the hot path, a plain ASGI application (CONTRACTS §2, §3).

A batch is atomic: any bad event answers 400 and nothing is stored. With `?partial=true` the good
ones are stored and the others quarantined. Either way a 2xx is sent after the fsync (guarantee 1).
"""

import asyncio
import concurrent.futures
import functools
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from collections.abc import Set as AbstractSet
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec

from tallybook.kernel.errors import (
    Forbidden,
    Invalid,
    Refused,
    TallybookError,
    Throttled,
    Unavailable,
)
from tallybook.serve.api.admission.ticket import count_events, events_limited
from tallybook.serve.api.bodies import decompress, read_body
from tallybook.serve.api.compat.lago.events import is_lago
from tallybook.serve.api.compat.wire import Told
from tallybook.serve.api.gathering import BODY_BYTES_MIN, Gathering
from tallybook.serve.api.group_commit import GroupCommit
from tallybook.serve.api.partition import Partition
from tallybook.serve.api.together import Together
from tallybook.transport.accept import AcceptLimits, Refusal
from tallybook.transport.alike import split
from tallybook.transport.columns import ColumnSet
from tallybook.transport.sifted import accept_many

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

Foreign = Callable[[Any, bytes], Awaitable[Told]]
"""Answers a body of Lago's shape for a grant."""

ERRORS_SHOWN_MAX = 100
NOTING = "tallybook.noting"
"""Key of the ASGI scope: tenant -> a note to keep in the transaction of the request's events."""
PLAIN, PROBLEM = b"application/json", b"application/problem+json"
_VALUE = msgspec.json.Decoder(msgspec.Raw)


class Granted(Protocol):
    """Who a key is."""

    @property
    def tenant(self) -> str:
        """Whose events it may write."""
        ...

    @property
    def bound(self) -> bool:
        """Whether it may send events of some subjects only."""
        ...


class Door(Protocol):
    """Knows keys."""

    def check(self, authorization: str | None, scope: str, *, bound: bool = False) -> Granted:
        """Return who it is; raises Forbidden."""
        ...


class Stored(msgspec.Struct, frozen=True):
    """The answer to `?partial=true`.

    Attributes:
        stored: events accepted, duplicates among them (they are known only in the lake).
        quarantined: what was set aside, by index.
    """

    stored: int
    quarantined: list[dict[str, object]]


def _nobodys(_grant: Granted) -> AbstractSet[str]:
    return frozenset()


class IngestApp:
    """The ASGI application and the worker's group commit.

    Args:
        partition: this worker's log.
        trim_mark: file of `GroupCommit`.
        gate: knows keys.
        columns: returns the typed columns to fill now.
        limits: bounds.
        sendable: returns the only subjects that a bound key may send events of.
    """

    def __init__(
        self,
        partition: Partition,
        trim_mark: Any,
        gate: Door,
        columns: Callable[[], ColumnSet],
        limits: AcceptLimits,
        sendable: Callable[[Any], AbstractSet[str]] = _nobodys,
    ) -> None:
        """Start the group commit."""
        self._sendable = sendable
        self._gate = gate
        self._columns = columns
        self._limits = limits
        self._commit = GroupCommit(partition.log, self._notify, trim_mark)
        self._gathering = Gathering(columns, limits, self._commit.submit_together)
        self._together = Together(columns, limits, self._commit.submit_together)
        self._lago: Foreign | None = None

    def speak_lago(self, take: Foreign) -> None:
        """Hand bodies of Lago's shape over from now on."""
        self._lago = take

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            status, body, kind = await self._answer(scope, receive)
        except TallybookError as error:
            (status, body), kind = problem(error), PROBLEM
        headers = (
            [(b"content-type", kind), (b"content-length", str(len(body)).encode())] if body else []
        )
        if status in {429, 503}:
            headers.append((b"retry-after", b"1"))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes, bytes]:
        headers = {name.decode("latin-1").lower(): value for name, value in scope["headers"]}
        authorization = headers.get("authorization")
        text = authorization.decode("latin-1") if authorization is not None else None
        grant = self._gate.check(text, "ingest", bound=True)
        raw = await read_body(receive, self._limits.request_bytes_max)
        raw = decompress(raw, headers.get("content-encoding", b""), self._limits.request_bytes_max)
        if headers.get("content-type", b"")[:16] == PLAIN and self._lago and is_lago(raw):
            told = await self._lago(grant, raw)
            return told.status, msgspec.json.encode(told.body), PLAIN
        body = events_array(headers, raw)
        partial = b"partial=true" in scope.get("query_string", b"").split(b"&")
        noting: Callable[[str], bytes] | None = scope.get(NOTING)
        count = 0 if grant.bound else await self._gathered(grant.tenant, body, noting)
        stored = Stored(count, [])
        if not count:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            only = self._sendable(grant) if grant.bound else None
            stored = self._submit(
                grant.tenant, body, done, partial=partial, only=only, noting=noting
            )
            await done
        return (200, msgspec.json.encode(stored), PLAIN) if partial else (204, b"", PLAIN)

    async def _gathered(
        self, tenant: str, body: bytes, noting: Callable[[str], bytes] | None
    ) -> int:
        """Store a request with those beside it; return its events, 0 where it goes by itself."""
        if events_limited():
            return 0
        if len(body) < BODY_BYTES_MIN:
            stored = 0 if noting is not None else await self._together.stored(tenant, body)
            count_events(stored)
            return stored
        part = split(body, self._limits, self._columns())
        if part is None:
            return 0
        note = None if noting is None else functools.partial(noting, tenant)
        if not await self._gathering.stored(tenant, part, note):
            return 0
        count_events(part.events)
        return part.events

    async def store(self, grant: Granted, body: bytes) -> None:
        """Store a JSON array of events, all or nothing; returns when they are durable.

        Raises:
            Invalid: a bad event, or one of a subject that the key may not send ('forbidden').
            Unavailable: not stored, or not known to be; send the same again.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        only = self._sendable(grant) if grant.bound else None
        self._submit(grant.tenant, body, done, partial=False, only=only)
        await done

    def accept(
        self, tenant: str, body: bytes, *, partial: bool = False, timeout_seconds: float = 30
    ) -> Stored:
        """Store events from Python, from any thread; returns when they are durable.

        Args:
            tenant: whose events.
            body: a JSON array of events.
            partial: quarantine bad events instead of refusing all.
            timeout_seconds: how long the disk may take.

        Raises:
            Invalid: a bad event, and not `partial`.
            Unavailable: not stored, or not known to be; send the same again.
        """
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        stored = self._submit(tenant, body, done, partial=partial)
        try:
            done.result(timeout_seconds)
        except concurrent.futures.TimeoutError as error:
            raise Unavailable(
                "the log did not answer in time; send the same events again"
            ) from error
        return stored

    def close(self) -> None:
        """Flush and stop."""
        self._commit.close()

    def forget_notes(self, upto: int) -> None:
        """Drop the log's notes up to a place: they were told on."""
        self._commit.forget_notes(upto)

    def _submit(
        self,
        tenant: str,
        body: bytes,
        token: Any,
        *,
        partial: bool,
        only: AbstractSet[str] | None = None,
        noting: Callable[[str], bytes] | None = None,
    ) -> Stored:
        now_us = time.time_ns() // 1000
        rows, refused = accept_many(tenant, body, now_us, self._columns(), self._limits, only)
        if refused and not partial and any(not r.filed for r in refused):
            raise EventsRefused([r for r in refused if not r.filed], len(rows))
        count_events(len(rows))
        if len(rows) == 0:
            token.set_result(None)
        else:
            note = noting(tenant) if noting is not None else None
            self._commit.submit(rows, token, note)
        return Stored(len(rows) - len(refused), [_shown(refusal) for refusal in refused])

    @staticmethod
    def _notify(tokens: list[object], error: TallybookError | None) -> None:
        """Resolve waiting requests: called on the commit thread."""
        waiting: dict[asyncio.AbstractEventLoop, list[object]] = {}
        for token in tokens:
            if isinstance(token, asyncio.Future):
                waiting.setdefault(token.get_loop(), []).append(token)
            else:
                _resolve(token, error)
        for loop, futures in waiting.items():
            if not loop.is_closed():  # else the server has stopped, and nobody waits
                loop.call_soon_threadsafe(_resolve_all, futures, error)


class EventsRefused(Invalid):
    """At least one event of an atomic batch is bad; nothing was stored."""

    def __init__(self, refused: list[Refusal], count: int) -> None:
        """Take code and field of the first, and list them all."""
        first = refused[0].problem
        message = (
            f"{len(refused)} of {count} events are refused, nothing was stored: {first.message}"
        )
        super().__init__(message, code=first.code, field=first.subject or None)
        self.errors = [_shown(refusal) for refusal in refused[:ERRORS_SHOWN_MAX]]
        self.status = 403 if all(one.problem.code == "forbidden" for one in refused) else 400


def _resolve_all(waiting: list[Any], error: TallybookError | None) -> None:
    for future in waiting:
        if not future.done():  # its client may have gone
            _resolve(future, error)


def _resolve(future: Any, error: TallybookError | None) -> None:
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _shown(refusal: Refusal) -> dict[str, object]:
    found = refusal.problem
    shown: dict[str, object] = {"index": refusal.index, "id": refusal.id, "code": found.code}
    return {**shown, "message": found.message, "field": found.subject}


def events_array(headers: Mapping[str, bytes], raw: bytes) -> bytes:
    """Return the JSON array of events that a request carries, in any CloudEvents mode.

    Raises:
        Invalid: the content type is none of CloudEvents', or the body is empty or no JSON.

    Source: CloudEvents HTTP binding 1.0.2, section 3: the content type tells the mode.
    """
    kind = headers.get("content-type", b"").split(b";")[0].strip().lower()
    structured = kind.startswith(b"application/cloudevents")
    if not structured and ("ce-id" in headers or "ce-specversion" in headers):
        return b"[" + _binary(headers, kind, raw) + b"]"
    if not raw.strip():
        message = "the body is empty; send one event or an array of events"
        raise Invalid(message, code="malformed", field="body")
    if kind == b"application/cloudevents-batch+json":
        return raw
    if kind == b"application/cloudevents+json":
        return b"[" + _one(raw) + b"]"
    if kind in {b"application/json", b""}:
        return raw if raw.lstrip()[:1] == b"[" else b"[" + _one(raw) + b"]"
    message = (
        "Content-Type must be application/cloudevents+json, application/cloudevents-batch+json"
        " or application/json"
    )
    raise Invalid(message, code="unsupported-media-type", field="Content-Type")


def _one(raw: bytes) -> bytes:
    """Return the body, which is one JSON value and nothing else."""
    try:
        return bytes(_VALUE.decode(raw))
    except (msgspec.DecodeError, RecursionError) as error:
        message = f"the body is not one JSON value: {error}"
        raise Invalid(message, code="malformed", field="body") from error


def _binary(headers: Mapping[str, bytes], kind: bytes, raw: bytes) -> bytes:
    """Return the event of binary mode: attributes in `ce-` headers, data in the body."""
    event: dict[str, object] = {}
    for name, value in headers.items():
        if name.startswith("ce-"):
            event[name[3:]] = _header_text(name, value)
    if raw:
        if kind not in {b"application/json", b""} and not kind.endswith(b"+json"):
            raise Invalid("data must be JSON", code="malformed", field="Content-Type")
        event["data"] = msgspec.Raw(_one(raw))
    return msgspec.json.encode(event)


def _header_text(name: str, value: bytes) -> str:
    try:
        return unquote(value.decode("ascii"), errors="strict")
    except UnicodeDecodeError as error:
        raise Invalid(
            f"header {name} is not percent-encoded UTF-8", code="malformed", field=name
        ) from error


_STATUS = {
    "no-key": 401,
    "key-expired": 401,
    "unsupported-media-type": 415,
    "too-large": 413,
    "over-limit": 413,
    "request-timeout": 408,
}


_KINDS = ((Forbidden, 403), (Refused, 400), (Throttled, 429), (Unavailable, 503))


def problem(error: TallybookError) -> tuple[int, bytes]:
    """Return status and RFC 9457 body of a refusal."""
    status = error.status if isinstance(error, EventsRefused) else _STATUS.get(error.code)
    if status is None:
        status = next((status for kind, status in _KINDS if isinstance(error, kind)), 500)
    body: dict[str, object] = {
        "type": f"urn:tallybook:problem:{error.code}",
        "title": error.code.replace("-", " "),
        "status": status,
        "code": error.code,
        "detail": error.message,
    }
    if error.field:
        body["field"] = error.field
    if isinstance(error, EventsRefused):
        body["errors"] = error.errors
    return status, msgspec.json.encode(body)
