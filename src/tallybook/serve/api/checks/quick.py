"""The check before each request, in front of the routes: it answers what is usual, at once.

`GET /api/v1/entitlements/{key}/value` of a good key is answered here, for a balance that is kept
and for what no event changes; all else goes on to the route, which knows the rest: refusals,
instants of the past, spellings of a path or of an amount that need a closer look, and balances that
the lake has to be asked for. So nothing is decided here that the route could decide otherwise, and
what both answer is made by the same functions. The way through Litestar would cost ten times as
much.
"""

import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import structlog

from tallybook.admit.key import READ
from tallybook.kernel.errors import TallybookError
from tallybook.serve.api.checks.grouped import Grouped
from tallybook.serve.api.checks.keeping import Asked, Checked, Checks, Elsewhere
from tallybook.serve.api.checks.shown import shown_value, wanted_of
from tallybook.serve.api.gate import Gate

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PATH = re.compile(r"/api/v1/entitlements/([A-Za-z0-9_.:@-]{1,255})/value\Z")
"""Keys that nobody has to decode or normalise: neither a slash nor a percent sign is among them."""
_AMOUNT = re.compile(rb"amount=([0-9]{1,20}(?:\.[0-9]{1,12})?)\Z")
_HOST = re.compile(rb"[A-Za-z0-9.:\[\]-]*\Z")
_JSON = (b"content-type", b"application/json")

Answer = bytes | Elsewhere


class QuickChecks:
    """An ASGI application in front of the routes; `close` ends its threads.

    Args:
        app: the routes.
        gate: knows keys.
        checks: keep balances.
    """

    def __init__(self, app: App, gate: Gate, checks: Checks) -> None:
        """Keep the parts."""
        self._app = app
        self._gate = gate
        self._at_once = Grouped[Asked, Answer](_written(checks.at_once), "checks")
        self._soon = Grouped[Asked, Answer](_written(checks.soon), "checks-aside")

    def close(self) -> None:
        """Answer no more."""
        self._at_once.close()
        self._soon.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        asked = self._asked(scope)
        body = None if asked is None else await self._answer(asked)
        if body is None:
            await self._app(scope, receive, send)
            return
        headers = [_JSON, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _asked(self, scope: Scope) -> Asked | None:
        """Return what a request asks; None where the route has to look at it."""
        if scope["type"] != "http" or scope["method"] != "GET" or scope.get("root_path"):
            return None
        path, amount = _PATH.match(scope["path"]), _amount(scope.get("query_string", b""))
        if path is None or amount is None:
            return None
        hosts, keys = _values(scope, b"host"), _values(scope, b"authorization")
        if len(keys) != 1 or not all(_HOST.match(host) for host in hosts):
            return None
        try:
            grant = self._gate.check(keys[0].decode("latin-1"), READ, bound=True)
        except TallybookError:
            return None
        return Asked(grant, path[1], wanted_of(amount or None))

    async def _answer(self, asked: Asked) -> bytes | None:
        """Return what is known in memory, else with what the control database says."""
        try:
            told = await self._at_once.answer(asked)
            if told is Elsewhere.CONTROL_DATABASE:
                told = await self._soon.answer(asked)
            return None if isinstance(told, Elsewhere) else told
        except TallybookError:
            return None  # the route tells what is wrong
        except Exception:  # a bug here must not refuse what the route can answer
            log = structlog.get_logger("checks")
            log.exception("checks.bug")
            return None


def _values(scope: Scope, header: bytes) -> list[bytes]:
    return [bytes(value) for name, value in scope["headers"] if name == header]


def _amount(query: bytes) -> str | None:
    """Return the amount of a query that is empty or plain, '' for none; None for all else."""
    if not query:
        return ""
    found = _AMOUNT.match(query)
    return None if found is None else found[1].decode()


def _written(
    answers: Callable[[Sequence[Asked]], Sequence[Checked | Elsewhere]],
) -> Callable[[Sequence[Asked]], Sequence[Answer]]:
    """Return how checks are answered as bytes: on the same thread, not in the event loop."""

    def written(asked: Sequence[Asked]) -> list[Answer]:
        return [shown_value(told) if isinstance(told, Checked) else told for told in answers(asked)]

    return written
