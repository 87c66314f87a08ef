"""Counts the requests of an ASGI application."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from tallybook.middleware.journal import Journal
from tallybook.middleware.request import CLIENT_GONE, Counted, SubjectOf

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class MeteredASGI:
    """An ASGI application whose HTTP requests are counted into a journal.

    Args:
        app: the application.
        journal: where lines go; a path makes one.
        subject: says who used it, from the scope; None is the client's address.
    """

    def __init__(self, app: App, journal: Journal | str, subject: SubjectOf | None = None) -> None:
        """Wrap the application."""
        self._app = app
        self._journal = Journal(journal) if isinstance(journal, str) else journal
        self._subject = subject or _client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        counted = Counted(self._journal, None, _data(scope))

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                counted.status = message["status"]
            elif message["type"] == "http.response.body":
                counted.bytes += len(message.get("body", b""))
            await send(message)

        otherwise = 500
        try:
            await self._app(scope, receive, sent)
        except asyncio.CancelledError:
            otherwise = CLIENT_GONE
            raise
        finally:
            counted.name_subject(self._subject, scope)
            counted.end(otherwise)


def _client(scope: Mapping[str, Any]) -> str | None:
    client = scope.get("client")
    return client[0] if client else None


def _data(scope: Mapping[str, Any]) -> dict[str, Any]:
    headers = {bytes(k).lower(): bytes(v) for k, v in scope.get("headers", ())}
    query = scope.get("query_string", b"")
    path = scope["path"] + ("?" + query.decode("latin-1") if query else "")
    return {
        "method": scope["method"],
        "path": path,
        "protocol": f"HTTP/{scope.get('http_version', '1.1')}",
        "referer": _text(headers.get(b"referer")),
        "user_agent": _text(headers.get(b"user-agent")),
    }


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value is not None else None
