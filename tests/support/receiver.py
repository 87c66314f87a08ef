"""A receiver of webhooks on the loopback that verifies with the standard's own library."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError


@dataclass
class Heard:
    """One request."""

    id: str
    headers: dict[str, str]
    raw: bytes
    at: float

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Receiver:
    """What was heard, and how it answers: `answer(handler, number)` writes a whole answer."""

    url: str = ""
    secrets: list[str] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    answer: Callable[["Handler", int], None] | None = None

    def ids(self) -> set[str]:
        return {one.id for one in self.heard}


class Handler(BaseHTTPRequestHandler):
    """Verifies, notes, answers."""

    receiver: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        raw = self.rfile.read(length)
        self.close_connection = True
        if len(raw) < length:  # the sender was killed in the middle: no request
            return
        headers = {name.lower(): text for name, text in self.headers.items()}
        for secret in self.receiver.secrets:
            try:
                Webhook(secret).verify(raw, headers)
            except (WebhookVerificationError, ValueError) as error:
                self.receiver.unverified.append(repr(error))
        heard = Heard(headers["webhook-id"], headers, raw, time.monotonic())
        self.receiver.heard.append(heard)
        number = len(self.receiver.heard)
        if self.receiver.answer is None:
            self.say(200)
        else:
            with contextlib.suppress(OSError):  # the sender has hung up
                self.receiver.answer(self, number)

    def say(self, status: int, body: bytes = b"ok", **headers: str) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        return


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_args: Any) -> None:
        return  # the sender has hung up


@contextlib.contextmanager
def receiving(answer: Callable[[Handler, int], None] | None = None) -> Iterator[Receiver]:
    """Run a receiver until the block ends."""
    made = Receiver(answer=answer)
    handler = type("_Handler", (Handler,), {"receiver": made})
    server = _Server(("127.0.0.1", 0), handler)
    made.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextlib.contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Run something that takes connections and answers what it likes; yield its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(5)
            with connection, contextlib.suppress(OSError):
                answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        stop.set()
        thread.join(10)
        listener.close()
