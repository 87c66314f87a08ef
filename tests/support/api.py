"""The routes of the API in one process, on a control database of their own and events in a list."""

import asyncio
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self

from litestar import Litestar

from tallybook.adapters.memory.usage_reader import MemoryUsageReader
from tallybook.admit.issue import KeySpec
from tallybook.compose import World
from tallybook.kernel.period import parse_moment, zone
from tallybook.meter.usage import StoredEvent
from tallybook.serve.api.gate import Gate
from tallybook.serve.api.rest.access.keys import make_key
from tallybook.serve.api.rest.app import rest_app, state_of
from tallybook.settings import ServerSettings, Settings
from tests.support.wire import http_scope

BASE = "/api/v1"


class SetClock:
    """A clock that stands still."""

    def __init__(self, text: str) -> None:
        """Begin at a date or time."""
        self.now = 0
        self.set(text)

    def set(self, text: str) -> None:
        """Go to a date or time in UTC."""
        self.now = parse_moment(text, zone("UTC"), "at")

    def now_us(self) -> int:
        """Return what was set."""
        return self.now


@cache
def routes() -> Litestar:
    """Return an application that has all routes and no state yet: making it is half a second."""
    return rest_app({}, [], ServerSettings().body_bytes_max)


class Api:
    """Calls routes as a client would, until the block ends; events are added by hand."""

    def __init__(self, folder: Path, now: str = "2026-01-10T00:00:00Z") -> None:
        """Make an empty server."""
        (folder / "secret").write_bytes(b"s" * 32)
        self.world = World(Settings(data_dir=folder))
        self.clock = SetClock(now)
        self.usage = MemoryUsageReader()
        parts: dict[str, Any] = self.world.__dict__
        parts["clock"], parts["usage"] = self.clock, self.usage
        self.key = str(make_key(self.world, "default", KeySpec(name="k", scopes=["admin"])).key)
        ingest: Any = None
        self.state = state_of(self.world, Gate(self.world.keys, self.world.secret), ingest)
        self.seq = 0

    def __enter__(self) -> Self:
        """Be of use."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no thread behind."""
        self.state["checks"].close()

    @property
    def app(self) -> Litestar:
        """The application of all routes, made once for all servers; it answers as this one."""
        app = routes()
        app.state.update(self.state)
        return app

    def event(self, when: str, data: str = "{}", subject: str = "s", kind: str = "t") -> None:
        """Add one event as a commit of its own."""
        self.seq += 1
        event = StoredEvent(
            id=f"e{self.seq}",
            source="test",
            type=kind,
            subject=subject,
            time_us=parse_moment(when, zone("UTC"), "at"),
            received_us=self.clock.now,
            commit_seq=self.seq,
            data=data,
            ext=None,
            problem=None,
            row_hash=self.seq * 7919,
        )
        self.usage.add("default", [event])

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Return status and body of an answer."""
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        return asyncio.run(self._call(method, path, content, headers or {}))

    def get(self, path: str, status: int = 200) -> Any:
        """Return the body of an answer to GET that has this status."""
        return self._expected("GET", path, None, status)

    def post(self, path: str, body: Any, status: int = 201) -> Any:
        """Return the body of an answer to POST that has this status."""
        return self._expected("POST", path, body, status)

    def put(self, path: str, body: Any, status: int = 200) -> Any:
        """Return the body of an answer to PUT that has this status."""
        return self._expected("PUT", path, body, status)

    def delete(self, path: str, status: int = 204) -> Any:
        """Return the body of an answer to DELETE that has this status."""
        return self._expected("DELETE", path, None, status)

    def apply(self, toml: str) -> None:
        """Apply a catalog.toml."""
        status, told = self.call("POST", "/catalog/apply", raw=toml.encode())
        assert status == 200, told

    def _expected(self, method: str, path: str, body: Any, status: int) -> Any:
        got, told = self.call(method, path, body)
        assert got == status, (got, told)
        return told

    async def _call(
        self, method: str, path: str, content: bytes, headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        heard: list[Any] = []
        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                await asyncio.sleep(3600)
            sent = True
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Any) -> None:
            heard.append(message)

        given = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        scope: Any = http_scope(method, BASE + path, given | headers)
        await self.app(scope, receive, send)
        text = b"".join(m.get("body", b"") for m in heard[1:])
        return heard[0]["status"], json.loads(text) if text else None
