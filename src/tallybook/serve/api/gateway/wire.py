"""Around all routes: bodies unpacked and strict, answers tagged, tables as CSV.

The hot path and the front doors read their bodies themselves.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from anyio.to_thread import run_sync

from tallybook.kernel.errors import Invalid, TallybookError
from tallybook.serve.api.bodies import decompress, read_body
from tallybook.serve.api.common.problem import PROBLEM_JSON, encoded, headers_of, problem_of
from tallybook.serve.api.gateway import tags
from tallybook.serve.api.gateway.strict import check_json
from tallybook.serve.api.gateway.table import columns_of, table_of, wanted

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ASIDE_BYTES = 64 * 1024
"""A larger body is looked at on another thread."""
_PREFIXES = ("/api/", "/openmeter/", "/openapi.json")
_TEXTS = ("/api/v1/catalog/",)
"""Routes that take TOML, whatever the content type says."""
_JSON = b"application/json"
_CSV = b"text/csv; charset=utf-8"


class Wire:
    """Answers for an application of routes what is the same for all of them.

    Args:
        app: the routes.
        bytes_max: most bytes of a body, unpacked.
    """

    def __init__(self, app: App, bytes_max: int) -> None:
        """Keep the parts."""
        self._app = app
        self._bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not scope["path"].startswith(_PREFIXES):
            await self._app(scope, receive, send)
        elif scope["method"] == "GET":
            await self._show(scope, receive, send)
        else:
            await self._take(scope, receive, send)

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        try:
            body = await read_body(receive, self._bytes_max)
            body = await self._unpacked(body, headers.get(b"content-encoding", b""))
            if _is_json(headers) and not scope["path"].startswith(_TEXTS):
                await _aside(check_json, body)
        except TallybookError as error:
            await refuse(send, error)
            return
        plain = [
            *(p for p in scope["headers"] if p[0] not in {b"content-encoding", b"content-length"}),
            (b"content-length", str(len(body)).encode()),
        ]
        given = False

        async def receive_plain() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app({**scope, "headers": plain}, receive_plain, send)

    async def _unpacked(self, body: bytes, encoding: bytes) -> bytes:
        if not encoding.strip():
            return body
        return await run_sync(decompress, body, encoding, self._bytes_max)

    async def _show(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("format", [""])[-1]
        as_csv = wanted(headers.get(b"accept", b"").decode("latin-1"), asked)
        if as_csv:  # routes that write CSV of their own look here
            others = [pair for pair in scope["headers"] if pair[0] != b"accept"]
            scope = {**scope, "headers": [*others, (b"accept", b"text/csv")]}
        known = headers.get(b"if-none-match", b"").decode("latin-1")
        form = "only csv" if asked == "csv" else "csv" if as_csv else ""
        await self._app(scope, receive, _Showing(scope, send, known, form).send)


class _Showing:
    """An answer to GET on its way out: held until it is whole, where it is JSON."""

    def __init__(self, scope: Scope, send: Send, known: str, form: str) -> None:
        self._scope = scope
        self._send = send
        self._known = known
        self._as_csv = form != ""
        self._only_csv = form == "only csv"
        self._start: Message | None = None

    async def send(self, message: Message) -> None:
        """Send a message on, or hold it."""
        if message["type"] == "http.response.start":
            if message["status"] == 200 and _kind(message["headers"]) in {_JSON, b"text/csv"}:
                self._start = message
            else:
                await self._send(message)
            return
        if self._start is None:
            await self._send(message)
            return
        start, self._start = self._start, None
        body = bytes(message.get("body", b""))
        if message.get("more_body"):
            await self._send(start)
            await self._send(message)
            return
        await self._whole(start, body)

    async def _whole(self, start: Message, body: bytes) -> None:
        headers = [(name.lower(), value) for name, value in start["headers"]]
        if self._as_csv and _kind(headers) == _JSON:
            columns = columns_of(self._scope.get("route_handler"))
            table = await _aside(table_of, body, columns)
            if table is None and self._only_csv:
                message = "this is no table; ask for it without format=csv"
                await refuse(self._send, Invalid(message, code="not-acceptable", field="format"))
                return
            if table is not None:
                body = table.csv
                headers = [p for p in headers if p[0] not in {b"content-type", b"etag"}]
                headers.append((b"content-type", _CSV))
                if table.next_cursor is not None:
                    headers.append((b"next-cursor", table.next_cursor.encode()))
        headers = [pair for pair in headers if pair[0] != b"content-length"]
        is_own = b"etag" in dict(headers)  # names what can be changed, and not all that is shown
        tag = _tag(headers, body)
        if tag and not is_own and self._known and tags.is_known(self._known, tag):
            kept = [pair for pair in headers if pair[0] != b"content-type"]
            await _answer(self._send, 304, kept, b"", sized=False)
            return
        await _answer(self._send, 200, headers, body)


def _tag(headers: list[tuple[bytes, bytes]], body: bytes) -> str:
    """Return the answer's tag, which its headers have from now on; '' for a large one."""
    own = dict(headers).get(b"etag")
    if own is not None:
        return own.decode("latin-1")
    if len(body) > tags.BYTES_MAX:
        return ""
    tag = tags.tag_of(body)
    headers.append((b"etag", tag.encode()))
    return tag


def _kind(headers: Any) -> bytes:
    found = next((value for name, value in headers if name.lower() == b"content-type"), b"")
    return bytes(found).partition(b";")[0].strip()


def _is_json(headers: dict[bytes, bytes]) -> bool:
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return kind in {b"", _JSON} or kind.endswith(b"+json")


async def _aside(do: Callable[..., Any], body: bytes, *more: Any) -> Any:
    if len(body) < ASIDE_BYTES:
        return do(body, *more)
    return await run_sync(do, body, *more)


async def refuse(send: Send, error: TallybookError) -> None:
    """Answer a refusal."""
    problem = problem_of(error)
    headers = [(b"content-type", PROBLEM_JSON.encode())]
    headers += [(name.encode(), text.encode()) for name, text in headers_of(error).items()]
    await _answer(send, problem.status, headers, encoded(problem))


async def _answer(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, sized: bool = True
) -> None:
    size = [(b"content-length", str(len(body)).encode())] if sized else []
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *size]})
    await send({"type": "http.response.body", "body": body})
