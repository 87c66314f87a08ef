"""The front of an API process: one ASGI application over the hot path and all other routes.

It writes the access log, names each request, bounds its line and the time its body may take, packs
answers, adds the headers that keep browsers careful; it answers nothing itself but what it refuses.
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from tallybook.kernel.errors import Invalid
from tallybook.serve.api.access_log import AccessLog
from tallybook.serve.api.admission.wrapper import Admission
from tallybook.serve.api.common.problem import PROBLEM_JSON, encoded, problem_of
from tallybook.serve.api.gateway.arrival import within_time
from tallybook.serve.api.gateway.line import HEADER, REQUEST_ID, check_line, named, request_id
from tallybook.serve.api.gateway.packing import may_pack, packing
from tallybook.serve.api.gateway.wire import refuse

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

EVENTS_PATH = "/api/v1/events"
AUTHORIZATION = b"authorization"

SAFE_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
CSP = b"content-security-policy"
API_CSP = (CSP, b"default-src 'none'; frame-ancestors 'none'")
_ALL_SAFE = (*SAFE_HEADERS, API_CSP)


class Front:
    """Sends each request to the application that answers it.

    Args:
        ingest: answers POST /api/v1/events.
        rest: answers everything else, and the server's lifespan.
        log: None writes no access log.
        doors: application -> whether it answers a method and path.
        admission: counts requests under the limits of their keys; None limits nobody.
    """

    def __init__(
        self,
        ingest: App,
        rest: App,
        log: AccessLog | None,
        doors: Mapping[App, Callable[[str, str], bool]],
        admission: Admission | None = None,
    ) -> None:
        """Keep the parts."""
        self._admission = admission
        self._doors = doors
        self._ingest = ingest
        self._rest = rest
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        name = request_id(scope["headers"])
        scope["headers"] = named(scope["headers"], name)
        told = REQUEST_ID.set(name.decode())
        try:
            await self._answer(scope, receive, send, name)
        finally:
            REQUEST_ID.reset(told)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, name: bytes) -> None:
        app = self._app(scope["method"], scope["path"])
        if sum(name.lower() == AUTHORIZATION for name, _ in scope["headers"]) > 1:
            app = _two_keys
        status, size = 0, 0

        async def noting(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*hardened(message.get("headers", ())), (HEADER, name)]
            else:
                size += len(message.get("body", b""))
            await send(message)

        out: Send = noting
        if may_pack(scope["path"]):
            out = packing(noting, _header(scope, b"accept-encoding"))
        try:
            await self._let(app, scope, within_time(receive, scope["headers"]), out)
        finally:
            if self._log is not None and status:
                self._note(scope, status, size)

    async def _let(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            check_line(scope["path"], scope.get("query_string", b""))
            if app is self._rest:
                self._check_method(scope["method"], scope["path"])
        except Invalid as error:
            await refuse(send, error)
            return
        if self._admission is None:
            await app(scope, receive, send)
        else:
            door = app not in {self._rest, _two_keys}
            await self._admission(app, scope, receive, send, door=door)

    def _check_method(self, method: str, path: str) -> None:
        """Refuse what is no POST where a door takes nothing else; raises Invalid."""
        if method == "POST" or path.startswith(EVENTS_PATH):
            return
        if any(answers("POST", path) for answers in self._doors.values()):
            raise Invalid(f"{path} takes POST only", code="method-not-allowed")

    def _app(self, method: str, path: str) -> App:
        if method == "POST" and path == EVENTS_PATH:
            return self._ingest
        return next(
            (app for app, answers in self._doors.items() if answers(method, path)), self._rest
        )

    def _note(self, scope: Scope, status: int, size: int) -> None:
        assert self._log is not None
        query = scope.get("query_string", b"").decode("latin-1")
        path = scope.get("raw_path") or scope["path"].encode()
        target = path.decode("latin-1").partition("?")[0] + (f"?{query}" if query else "")
        headers = dict(scope["headers"])
        client = scope.get("client")
        self._log.add(
            client[0] if client else "-",
            f"{scope['method']} {target} HTTP/{scope.get('http_version', '1.1')}",
            status,
            size,
            headers.get(b"referer", b"").decode("latin-1"),
            headers.get(b"user-agent", b"").decode("latin-1"),
        )


async def _two_keys(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Refuse a request that says twice who asks: parts of a server would read either of them."""
    message = "a request has one Authorization header"
    problem = problem_of(Invalid(message, field="Authorization"))
    body = encoded(problem)
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _header(scope: Scope, name: bytes) -> bytes:
    return next((bytes(value) for key, value in scope["headers"] if key == name), b"")


def hardened(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers with the careful ones added where the answer has none of its own."""
    if not headers:
        return [*_ALL_SAFE]
    names = {name.lower() for name, _ in headers}
    return [*headers, *(header for header in _ALL_SAFE if header[0] not in names)]
