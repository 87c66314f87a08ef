"""`Idempotency-Key` on every POST but event doors: the first answer again, or 409.

An ASGI wrapper around the routes. Only answers below 400 are remembered: a refused request
changed nothing and may be sent again, corrected.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from anyio.to_thread import run_sync

from tallybook.adapters.sql.idempotency import Remembered
from tallybook.compose import World
from tallybook.kernel.errors import Invalid, TallybookError
from tallybook.serve.api.bodies import read_body
from tallybook.serve.api.common.problem import PROBLEM_JSON, encoded, headers_of, problem_of
from tallybook.serve.api.gate import Gate

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADER = b"idempotency-key"
SECRET_PATHS = ("/api/v1/keys", "/api/v1/tenants", "/api/v1/users", "/api/v1/webhooks")
"""Their answers may carry a secret, which is never stored (DECISIONS 32)."""
_SECRET = re.compile(r"(?:tb|whsec)_[A-Za-z0-9_+/=-]{8,}\Z")
KEY_CHARS_MAX = 255


class Idempotent:
    """Remembers the answers of an ASGI application.

    Args:
        app: the routes.
        world: where answers are kept.
        gate: knows whose key a request carries.
    """

    def __init__(self, app: App, world: World, gate: Gate) -> None:
        """Keep the parts."""
        self._app = app
        self._world = world
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, from memory where it was answered before."""
        headers = dict(scope.get("headers", ())) if scope["type"] == "http" else {}
        key = headers.get(HEADER) if scope.get("method") == "POST" else None
        if key is None:
            await self._app(scope, receive, send)
            return
        try:
            await self._remembering(scope, receive, send, headers, key.decode("latin-1"))
        except TallybookError as error:
            await _refuse(send, error)

    async def _remembering(
        self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], key: str
    ) -> None:
        if not 1 <= len(key) <= KEY_CHARS_MAX:
            message = f"Idempotency-Key must have 1 to {KEY_CHARS_MAX} characters"
            raise Invalid(message, field="Idempotency-Key")
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        grant = self._gate.known(authorization)
        body = await read_body(receive, self._world.settings.server.body_bytes_max)
        digest = _digest(scope, body, grant.key_id)
        tenant, now = grant.tenant, self._world.clock.now_us()
        known = await run_sync(self._world.answers.begin, tenant, key, digest, now)
        if known is not None:
            await _repeat(send, known)
            return
        answer: Remembered | None = None
        try:
            answer = await self._capture(scope, body, send)
        finally:
            if answer is None or answer.status >= 400:
                await run_sync(self._world.answers.release, tenant, key)
        if answer.status < 400:
            secret = scope["path"].startswith(SECRET_PATHS)
            kept = _without_secret(answer) if secret else answer
            await run_sync(self._world.answers.finish, tenant, key, kept)

    async def _capture(self, scope: Scope, body: bytes, send: Send) -> Remembered:
        """Run the application on a body already read; keep a copy of what it answers."""
        parts: list[bytes] = []
        start: Message = {}
        given = False

        async def receive_again() -> Message:
            nonlocal given
            if given:
                return {"type": "http.disconnect"}
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def copying(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            parts.append(message.get("body", b""))
            await send(message)

        await self._app(scope, receive_again, copying)
        kind = dict(start["headers"]).get(b"content-type", b"application/json")
        return Remembered(int(start["status"]), kind.decode("latin-1"), b"".join(parts))


def _without_secret(answer: Remembered) -> Remembered:
    """Return the answer that made a key, or another secret, without its text."""
    try:
        said = msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        return answer
    return msgspec.structs.replace(answer, body=msgspec.json.encode(_open(said)))


def _open(said: object) -> object:
    """Return what was said, without members that are a secret, at any depth."""
    if isinstance(said, dict):
        return {
            name: _open(value)
            for name, value in said.items()
            if not (isinstance(value, str) and (name == "password" or _SECRET.match(value)))
        }
    return [_open(value) for value in said] if isinstance(said, list) else said


def _digest(scope: Scope, body: bytes, key_id: str) -> str:
    """Return the hash of a request; one API key never hears the answer that another was given."""
    digest = hashlib.sha256()
    for part in (key_id.encode(), scope["path"].encode(), scope.get("query_string", b""), body):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


async def _repeat(send: Send, known: Remembered) -> None:
    headers = [(b"content-type", known.content_type.encode()), (b"idempotent-replay", b"true")]
    await _answer(send, known.status, headers, known.body)


async def _refuse(send: Send, error: TallybookError) -> None:
    problem = problem_of(error)
    headers = [(b"content-type", PROBLEM_JSON.encode())]
    headers += [(name.encode(), text.encode()) for name, text in headers_of(error).items()]
    await _answer(send, problem.status, headers, encoded(problem))


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
