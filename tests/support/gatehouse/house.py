"""The applications of an API process behind their one front, and a pump that works when asked."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar

from tallybook.admit.issue import KeySpec
from tallybook.compose import World
from tallybook.serve.api.child import Composed, composed
from tallybook.serve.api.rest.access.keys import make_key
from tallybook.serve.api.rest.access.tenants import TenantSpec, make_tenant
from tallybook.serve.worker.pump import Pump
from tallybook.settings import Settings
from tests.support.browser import routes
from tests.support.wire import http_scope

FIRST_KEY = "tb_the-first-key-of-a-test-house"


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body) if self.body else None


class House:
    """A server without a socket.

    Args:
        made: its parts.
        state: what its routes work with.
        gate_app: the application of all routes, made once for all houses.
    """

    def __init__(self, made: Composed, state: dict[str, Any], gate_app: Litestar) -> None:
        """Nothing was asked yet."""
        self._front: Any = made.app
        self._state = state
        self.world: World = made.world
        self.gate = made.gate
        self.gate_app = gate_app
        self.pump = Pump(made.world.settings)

    @property
    def app(self) -> Any:
        """What answers requests; the routes answer as this house from now on."""
        self.gate_app.state.update(self._state)
        return self._front

    def key(self, tenant: str, *scopes: str, **terms: Any) -> str:
        """Make a key, and let it be known."""
        made = make_key(self.world, tenant, KeySpec(name="k", scopes=list(scopes), **terms))
        self.gate.refresh()
        return str(made.key)

    def tenant(self, name: str) -> str:
        """Make a tenant; return its owner's key."""
        made = make_tenant(self.world, TenantSpec(tenant=name))
        self.gate.refresh()
        assert made.first_key is not None
        return str(made.first_key.key)

    def send(self, key: str, *events: dict[str, Any]) -> None:
        """Send events as a client does, what is bad into quarantine, and let them into the lake."""
        known = {"source": "test", "type": "t", "specversion": "1.0", "data": {"n": 1}}
        body = [known | event for event in events]
        answer = self.ask("POST", "/api/v1/events?partial=true", key, body)
        assert answer.status == 200, answer.body
        while self.pump.step() is not None:
            pass

    def ask(
        self,
        method: str,
        path: str,
        key: str | None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Return the answer to a request; a body that is not bytes is sent as JSON."""
        content = body if isinstance(body, bytes) else b"" if body is None else _json(body)
        given = {"content-type": "application/json"} | (headers or {})
        if key is not None:
            given["authorization"] = f"Bearer {key}"
        return asyncio.run(self._ask(method, path, content, given))

    async def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        heard: list[Any] = []
        sent, ended = False, asyncio.Event()

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                await ended.wait()
                return {"type": "http.disconnect"}
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            heard.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                ended.set()

        scope: Any = http_scope(method, path, headers)
        await asyncio.wait_for(self.app(scope, receive, send), 10)
        told = {name.decode(): value.decode() for name, value in heard[0]["headers"]}
        text = b"".join(message.get("body", b"") for message in heard[1:])
        return Answer(heard[0]["status"], told, text)


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()


@contextmanager
def house(folder: Path) -> Iterator[House]:
    """Open a server on a folder; its first key is `FIRST_KEY`."""
    folder.mkdir(exist_ok=True)
    (folder / "secret").write_bytes(b"s" * 32)
    (folder / "first-key").write_text(FIRST_KEY)
    settings = Settings(data_dir=folder)
    state: dict[str, Any] = {}
    shared = routes(settings.server.body_bytes_max)

    def kept(parts: dict[str, Any], _body_bytes_max: int) -> Litestar:
        state.update(parts)
        return shared

    with composed(settings, kept) as made:
        yield House(made, state, shared)
