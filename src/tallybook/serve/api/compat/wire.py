"""What the compatibility doors share: a request, an answer, strict JSON, who may send.

Each door maps its protocol to CloudEvents and hands them to the same hot path as everybody else:
durable before the answer, identity from the sender (guarantees 1, 2, 8).
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, NoReturn, Protocol, TypeVar

import msgspec
from anyio.to_thread import run_sync

from tallybook.collect.spool import encode_event, joined
from tallybook.kernel.errors import Invalid
from tallybook.kernel.event import UsageEvent
from tallybook.serve.api.bodies import decompress, read_body
from tallybook.serve.api.doors.answer import Asked, bearer, parameters

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = (b"content-type", b"application/json")
EVENTS_MAX = 10_000
"""Events of a request."""
ASIDE_BYTES = 64 * 1024
"""Bodies from here on are read beside the event loop, so that others are answered meanwhile."""
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


class Told(msgspec.Struct, frozen=True):
    """An answer in a client's words."""

    status: int
    body: object = None
    headers: Sequence[tuple[bytes, bytes]] = ()


class Door(Protocol):
    """Knows keys."""

    def check(self, authorization: str | None, scope: str, *, bound: bool = False) -> Any:
        """Return what a key grants, a bound one only where that is asked; raises Forbidden."""
        ...

    def by_id(self, key_id: str) -> Any:
        """Return what the key with this id grants, None where it is no longer good."""
        ...


class Ingest(Protocol):
    """Stores events."""

    async def store(self, grant: Any, body: bytes) -> None:
        """Store a JSON array of events, all or nothing; returns when they are durable.

        Raises:
            Forbidden: the key may not send one of them.
            Invalid: at least one is bad.
            Unavailable: not stored, or not known to be.
        """
        ...


async def read_whole(scope: Scope, receive: Receive, bytes_max: int) -> Asked:
    """Return a request with its body unpacked; raises Invalid, Unavailable."""
    headers = {name.decode("latin-1").lower(): value for name, value in scope["headers"]}
    packed = await read_body(receive, bytes_max)
    return Asked(
        headers=headers,
        query=parameters(scope.get("query_string", b"")),
        body=decompress(packed, headers.get("content-encoding", b""), bytes_max),
        bytes_max=bytes_max,
    )


async def aside(body: bytes, read: Callable[[bytes], T]) -> T:
    """Return what is read from a body; where it is large, in a thread of its own."""
    return read(body) if len(body) < ASIDE_BYTES else await run_sync(read, body)


def authorization_of(scope: Scope) -> str | None:
    """Return the `Authorization` header that the gate knows, whatever form the client uses."""
    headers = {name.decode("latin-1").lower(): value for name, value in scope["headers"]}
    return bearer(Asked(headers=headers, query={}, body=b"", bytes_max=0))


async def tell(send: Send, told: Told) -> None:
    """Send an answer."""
    body = b"" if told.body is None else msgspec.json.encode(told.body)
    kind = [JSON] if body else []
    size = (b"content-length", str(len(body)).encode())
    headers = [*kind, *told.headers, size]
    await send({"type": "http.response.start", "status": told.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def events_body(events: Sequence[UsageEvent]) -> bytes:
    """Return events as the array that the hot path reads."""
    return joined([encode_event(event) for event in events])


def strict_object(body: bytes) -> dict[str, Any]:
    """Return a JSON object, its numbers as text that `Number` marks, no key twice in it.

    Raises:
        Invalid: it is none.
    """
    try:
        found = json.loads(
            body.decode(),
            object_pairs_hook=_unique,
            parse_float=Number,
            parse_int=Number,
            parse_constant=_no_constant,
        )
        if _HALF.search(body):
            as_json(found)  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise Invalid(f"the body is not JSON: {error}", code="malformed", field="body") from error
    if not isinstance(found, dict):
        raise Invalid("the body is not a JSON object", code="malformed", field="body")
    return found


class Number(str):
    """A JSON number with the digits it was sent with."""

    __slots__ = ()


def as_json(value: object) -> bytes:
    """Return what `strict_object` read as JSON again, numbers as they came."""
    return msgspec.json.encode(value) if _is_plain(value) else _written(value)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool) or type(value) is str


def _written(value: object) -> bytes:
    match value:
        case Number():
            return value.encode()
        case Mapping():
            parts = (msgspec.json.encode(k) + b":" + as_json(v) for k, v in value.items())
            return b"{" + b",".join(parts) + b"}"
        case list():
            return b"[" + b",".join(map(as_json, value)) + b"]"
        case _:
            raise AssertionError(f"no JSON value: {type(value)}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
