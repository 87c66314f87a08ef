"""HTTP/1.1 over TLS for an ASGI application that wants to know who the client is.

The server of the plain port does not tell an application the client's certificate. This one does:
the verified certificate stands in the scope of every request. It is small on purpose (h11 parses,
asyncio moves bytes): edges send few, large requests.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import h11
import structlog

from tallybook.adapters.x509.names import Presented, presented
from tallybook.serve.api.app import App, Message
from tallybook.serve.api.tls.stream import TlsStream

CERTIFICATE = "tallybook.certificate"
"""Key of the scope: `Presented`, or absent where the client showed no certificate."""

CERTIFICATE_DER = "tallybook.certificate_der"

HANDSHAKE_SECONDS = 10
IDLE_SECONDS = 75
CONNECTIONS_MAX = 1024
HEADERS_BYTES_MAX = 64 * 1024
UNREAD_BYTES_MAX = 8 * 1024 * 1024
"""How much of a body that nobody wanted is read, so that its sender hears the answer."""

_READ_BYTES = 256 * 1024


class TlsWire:
    """Accepts connections, ends TLS, and hands requests to an application.

    Args:
        app: answers requests.
        context: returns the TLS settings to use now, so that they may change while it runs.
    """

    def __init__(self, app: App, context: Callable[[], ssl.SSLContext]) -> None:
        """Nobody is connected yet."""
        self._app = app
        self._context = context
        self._open: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("tls")

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve until stopped; what was begun is finished.

        Args:
            listener: bound and listening, not blocking.
            stop: set from outside.
        """
        lifespan = Lifespan(self._app)
        await lifespan.begin()
        accepting = asyncio.create_task(self._accept(listener))
        await stop.wait()
        accepting.cancel()
        with suppress(asyncio.CancelledError):
            await accepting
        if self._open:
            await asyncio.wait(self._open, timeout=5)
        for task in self._open:
            task.cancel()
        await lifespan.end()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        free = asyncio.Semaphore(CONNECTIONS_MAX)
        while True:
            await free.acquire()
            try:
                client, address = await loop.sock_accept(listener)
            except OSError as error:  # no descriptors left: wait until some are
                self._log.warning("tls.not_accepted", error=str(error))
                free.release()
                await asyncio.sleep(0.2)
                continue
            task = asyncio.create_task(self._connection(client, address))
            self._open.add(task)
            task.add_done_callback(self._open.discard)
            task.add_done_callback(lambda _task: free.release())

    async def _connection(self, client: socket.socket, address: tuple[Any, ...]) -> None:
        reader, writer = await asyncio.open_connection(sock=client, limit=_READ_BYTES)
        stream = TlsStream(reader, writer, self._context())
        try:
            await asyncio.wait_for(stream.handshake(), HANDSHAKE_SECONDS)
            await Exchange(self._app, stream, address).run()
        except ssl.SSLError as error:
            self._log.warning("tls.refused", client=address[0], reason=why(error))
        except (TimeoutError, OSError, h11.ProtocolError):
            pass  # the client has gone, only looked whether we are here, or speaks something else
        except Exception:  # noqa: BLE001 - one connection's bug must not end the listener
            self._log.exception("tls.bug")
        finally:
            await stream.close()


def why(error: ssl.SSLError) -> str:
    """Return the reason of a failed handshake in the library's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    return str(error.reason or error)


class Exchange:
    """The requests and answers of one connection.

    Args:
        app: answers.
        stream: of the connection, after the handshake.
        address: the client's.
    """

    def __init__(self, app: App, stream: TlsStream, address: tuple[Any, ...]) -> None:
        """Look at the client's certificate."""
        self._app = app
        self._stream = stream
        self._address = address
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADERS_BYTES_MAX)
        shown = stream.tls.getpeercert()
        self._presented: Presented | None = presented(shown) if shown else None
        self._der: bytes | None = stream.tls.getpeercert(binary_form=True) if shown else None

    async def run(self) -> None:
        """Answer requests until the connection ends."""
        while True:
            event = await self._next()
            if not isinstance(event, h11.Request):
                return
            await self._answer(event)
            if self._http.our_state is h11.MUST_CLOSE or self._http.their_state is h11.MUST_CLOSE:
                return
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return  # not read to its end: the connection cannot be used again
            self._http.start_next_cycle()

    async def _answer(self, request: h11.Request) -> None:
        over = False

        async def receive() -> Message:
            nonlocal over
            if over:
                return {"type": "http.disconnect"}
            event = await self._next()
            if isinstance(event, h11.Data):
                return {"type": "http.request", "body": bytes(event.data), "more_body": True}
            over = True
            if isinstance(event, h11.EndOfMessage):
                return {"type": "http.request", "body": b"", "more_body": False}
            return {"type": "http.disconnect"}

        await self._app(self._scope(request), receive, self._send)
        unread = 0
        while not over and self._http.their_state is h11.SEND_BODY and unread < UNREAD_BYTES_MAX:
            unread += len((await receive()).get("body", b""))

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(bytes(n), bytes(v)) for n, v in message.get("headers", ())]
            event: h11.Event = h11.Response(status_code=message["status"], headers=headers)
            self._write(event)
            return
        body = message.get("body", b"")
        if body:
            self._write(h11.Data(data=body))
        if not message.get("more_body", False):
            self._write(h11.EndOfMessage())
        await self._stream.drain()

    def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._stream.write(data)

    async def _next(self) -> Any:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self._http.they_are_waiting_for_100_continue:
                self._write(h11.InformationalResponse(status_code=100, headers=[]))
            data = await asyncio.wait_for(self._stream.read(_READ_BYTES), IDLE_SECONDS)
            self._http.receive_data(data)

    def _scope(self, request: h11.Request) -> Message:
        target, _, query = bytes(request.target).partition(b"?")
        scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": bytes(request.http_version).decode("latin-1"),
            "method": bytes(request.method).decode("latin-1"),
            "scheme": "https",
            "path": unquote(target.decode("latin-1")),
            "raw_path": target,
            "query_string": query,
            "root_path": "",
            "headers": [(bytes(n), bytes(v)) for n, v in request.headers],
            "client": (self._address[0], self._address[1]),
            "server": self._stream.sockname,
            "extensions": {},
            "state": {},
        }
        if self._presented is not None:
            scope[CERTIFICATE] = self._presented
            scope[CERTIFICATE_DER] = self._der
        return scope


class Lifespan:
    """Tells an application that the server begins and ends, as ASGI asks for."""

    def __init__(self, app: App) -> None:
        """Nothing is told yet."""
        self._app = app
        self._in: asyncio.Queue[Message] = asyncio.Queue()
        self._out: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Let the application prepare itself."""
        scope: Message = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        answer: Awaitable[None] = self._app(scope, self._in.get, self._out.put)
        self._task = asyncio.ensure_future(answer)
        await self._in.put({"type": "lifespan.startup"})
        await self._out.get()

    async def end(self) -> None:
        """Let the application put its things away."""
        await self._in.put({"type": "lifespan.shutdown"})
        await self._out.get()
        if self._task is not None:
            await self._task
