"""The front doors as one ASGI application beside the hot path."""

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

import anyio.to_thread
import msgspec

from tallybook.collect.doors.decide import Decision, Prepared, prepare
from tallybook.collect.doors.point import Decoded
from tallybook.collect.doors.rules import DoorRules
from tallybook.kernel.errors import TallybookError
from tallybook.kernel.timestamps import SECOND_US
from tallybook.serve.api.admission.ticket import count_events
from tallybook.serve.api.bodies import read_body
from tallybook.serve.api.doors.answer import Answer, Asked, bearer, parameters
from tallybook.serve.api.doors.commit import DoorCommit, Request
from tallybook.serve.api.doors.protocols import Influx, Logs, Otlp, Protocoled, RemoteWrite
from tallybook.transport.accept import AcceptLimits
from tallybook.transport.columns import ColumnSet

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_INFLUX = Influx()
PATHS: Mapping[str, Protocoled] = {
    "/v1/metrics": Otlp(),
    "/api/v1/write": RemoteWrite(),
    "/api/v2/write": _INFLUX,
    "/write": _INFLUX,
    "/api/v1/logs": Logs(),
}
"""Path -> the protocol that is spoken there, by POST."""
ASIDE_BYTES = 32 * 1024
"""A larger body is read on another thread, so that the other requests go on."""


class Granted(Protocol):
    """Who a key is."""

    @property
    def tenant(self) -> str:
        """Whose events it may write."""
        ...

    @property
    def bound(self) -> bool:
        """Whether it may write events of some subjects only."""
        ...


class Gate(Protocol):
    """Knows keys."""

    def check(self, authorization: str | None, scope: str, *, bound: bool = False) -> Granted:
        """Return who it is, a bound key only where that is asked; raises Forbidden."""
        ...


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the doors need of the process.

    Attributes:
        gate: knows keys.
        rules: returns a tenant's rules of a door.
        columns: returns the typed columns to fill now.
        limits: bounds.
        commit: writes.
        sendable: returns the only subjects that a bound key may write events of.
    """

    gate: Gate
    rules: Callable[[str, str], DoorRules]
    columns: Callable[[], ColumnSet]
    limits: AcceptLimits
    commit: DoorCommit
    sendable: Callable[[Any], AbstractSet[str]]


class DoorsApp:
    """Answers POST on `PATHS`.

    Args:
        parts: of this process.
    """

    def __init__(self, parts: Parts) -> None:
        """Keep the parts."""
        self._parts = parts

    def answers(self, method: str, path: str) -> bool:
        """Whether a request is for a front door."""
        return method == "POST" and path in PATHS

    def close(self) -> None:
        """Write what waits, and end."""
        self._parts.commit.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        protocol = PATHS[scope["path"]]
        headers = {name.decode("latin-1").lower(): value for name, value in scope["headers"]}
        bytes_max = self._parts.limits.request_bytes_max
        asked = Asked(headers=headers, query={}, body=b"", bytes_max=bytes_max)
        try:
            query = parameters(scope.get("query_string", b""))
            asked = msgspec.structs.replace(asked, query=query)
            answer = await self._answer(protocol, asked, receive)
        except TallybookError as error:
            answer = protocol.refuse(asked, error)
        sent = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": sent})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, protocol: Protocoled, asked: Asked, receive: Receive) -> Answer:
        grant = self._parts.gate.check(bearer(asked), "ingest", bound=True)
        body = await read_body(receive, asked.bytes_max)
        whole = msgspec.structs.replace(asked, body=body)
        now_us = time.time_ns() // 1000
        only = self._parts.sendable(grant) if grant.bound else None
        if len(body) > ASIDE_BYTES:
            decoded, prepared = await anyio.to_thread.run_sync(
                self._read, protocol, whole, grant.tenant, now_us, only
            )
        else:
            decoded, prepared = self._read(protocol, whole, grant.tenant, now_us, only)
        count_events(len(prepared.works) + len(prepared.envelopes))
        limits = self._parts.limits
        decision: Decision = await self._parts.commit.write(
            Request(prepared, self._parts.columns(), limits, now_us)
        )
        return protocol.answer(asked, decoded, decision)

    def _read(
        self,
        protocol: Protocoled,
        asked: Asked,
        tenant: str,
        now_us: int,
        only: AbstractSet[str] | None,
    ) -> tuple[Decoded, Prepared]:
        rules = self._parts.rules(tenant, protocol.name)
        decoded = protocol.read(asked, rules)
        latest_us = now_us + self._parts.limits.future_seconds_max * SECOND_US
        return decoded, prepare(tenant, protocol.name, rules, decoded, latest_us, only)
