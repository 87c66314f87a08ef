"""A browser without a window: pages of the console in one process, with cookies and forms."""

import asyncio
import re
from functools import cache
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
from litestar import Litestar

from tallybook.admit.issue import KeySpec
from tallybook.serve.api.child import all_routes
from tallybook.serve.api.gate import Gate
from tallybook.serve.api.rest.access.keys import make_key
from tallybook.settings import ServerSettings
from tests.support.api import Api
from tests.support.wire import http_scope

_TOKEN = re.compile(r'name="token" value="([0-9a-f]+)"')
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: status, where it sends to, its type and text."""

    status: int
    place: str
    kind: str
    body: bytes

    @property
    def text(self) -> str:
        """The page with everything that was escaped read back."""
        return unescape(self.body.decode())

    @property
    def html(self) -> str:
        """The page as it was sent."""
        return self.body.decode()

    def hidden(self) -> dict[str, str]:
        """Return the hidden fields of the page's forms; of equal names the last one."""
        return {name: unescape(value) for name, value in _HIDDEN.findall(self.html)}


@cache
def routes(body_bytes_max: int) -> Litestar:
    """Return an application that has the console too, made once, and no state yet."""
    return all_routes({}, body_bytes_max)


class Browser:
    """Walks the console of an in-process server as one key's owner, or as nobody."""

    def __init__(self, api: Api, scopes: list[str] | None, tenant: str = "default") -> None:
        """Sign in with a new key that has these scopes; None for nobody."""
        self.cookie = ""
        key = ""
        if scopes is not None:
            key = str(make_key(api.world, tenant, KeySpec(name="b", scopes=scopes)).key)
        self._api = api
        gate: Gate = api.state["gate"]
        gate.refresh()
        if key:
            self.login(key)

    def login(self, key: str) -> Page:
        """Sign in."""
        return self.post("/login", {"key": key})

    def get(self, path: str) -> Page:
        """Return a page."""
        return asyncio.run(self._ask("GET", path, b""))

    def post(self, path: str, form: dict[str, str]) -> Page:
        """Send a form."""
        return asyncio.run(self._ask("POST", path, urlencode(form).encode()))

    def token(self) -> str:
        """Return the token that forms of this session have."""
        found = _TOKEN.search(self.get("/taxes").html)
        assert found is not None, "a page of a session has the token of its sign-out form"
        return found.group(1)

    def ask(self, path: str, form: dict[str, str]) -> Page:
        """Send a form with its token: the first of two."""
        return self.post(path, form | {"token": self.token()})

    def confirm(self, path: str, form: dict[str, str]) -> Page:
        """Send a form, and then the one of the page that asks whether it is meant so."""
        asked = self.ask(path, form)
        assert asked.status == 200, (asked.status, asked.text)
        hidden = asked.hidden()
        assert hidden["confirmed"] == "yes"
        return self.post(path, hidden)

    async def _ask(self, method: str, path: str, content: bytes) -> Page:
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

        query = path.partition("?")[2]
        assert not query or parse_qsl(query, keep_blank_values=True), "a query has names"
        given = {"host": "console.example", "content-type": "application/x-www-form-urlencoded"}
        if self.cookie:
            given["cookie"] = self.cookie
        scope: Any = http_scope(method, path, given)
        app = routes(ServerSettings().body_bytes_max)
        app.state.update(self._api.state)
        await app(scope, receive, send)
        headers = [(name.decode(), value.decode()) for name, value in heard[0]["headers"]]
        for name, value in headers:
            if name == "set-cookie":
                self.cookie = value.partition(";")[0]
        told = dict(headers)
        return Page(
            status=heard[0]["status"],
            place=told.get("location", ""),
            kind=told.get("content-type", ""),
            body=b"".join(message.get("body", b"") for message in heard[1:]),
        )
