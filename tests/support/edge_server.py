"""A tiny server that acknowledges events, and can be told to misbehave."""

import json
import random
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import zstandard

Verdict = int | str
"""A status to answer with, 'drop' (close before storing) or 'lose-ack' (store, then close)."""


class EdgeServer:
    """Stores events by identity; `verdict(request number, events)` decides each answer.

    Attributes:
        stored: (source, id) -> event, as a server that de-duplicates keeps them.
        received: how often each identity arrived.
        requests: how many requests arrived.
        rules: what edges are told to add up, {"version": ..., "rules": [...]}; None is 404.
    """

    def __init__(self, verdict: Callable[[int, list[Any]], Verdict] | None = None) -> None:
        self.verdict = verdict or (lambda _number, _events: 200)
        self.stored: dict[tuple[str, str], Any] = {}
        self.received: dict[tuple[str, str], int] = {}
        self.requests = 0
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.rules: dict[str, Any] | None = None
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server.answer(self)

            def do_GET(self) -> None:
                if self.path.startswith("/api/v1/edges/rules"):
                    server.tell_rules(self)
                else:
                    server.answer(self)

            def log_message(self, *_args: object) -> None:
                return

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_args: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        if request.headers.get("Content-Encoding") == "zstd":
            body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        events = json.loads(body) if body else []
        with self.lock:
            self.requests += 1
            self.paths.append(request.path)
            self.headers.append({k.lower(): v for k, v in request.headers.items()})
            verdict = self.verdict(self.requests, events)
            if verdict in {200, "lose-ack"}:
                self.store(events)
        if isinstance(verdict, str):
            request.close_connection = True
            return
        self.reply(request, verdict, events)

    def tell_rules(self, request: BaseHTTPRequestHandler) -> None:
        rules = self.rules
        tag = f'"{rules["version"]}"' if rules is not None else ""
        fresh = rules is not None and request.headers.get("If-None-Match") == tag
        body = json.dumps(rules if rules is not None else {}).encode() if not fresh else b""
        request.send_response(304 if fresh else 404 if rules is None else 200)
        request.send_header("Content-Type", "application/json")
        request.send_header("ETag", tag)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def store(self, events: list[Any]) -> None:
        for event in events:
            identity = (event["source"], event["id"])
            self.received[identity] = self.received.get(identity, 0) + 1
            self.stored.setdefault(identity, event)

    def reply(self, request: BaseHTTPRequestHandler, status: int, events: list[Any]) -> None:
        answer: dict[str, Any] = {"status": status, "detail": f"verdict {status}", "code": "test"}
        if status == 200:
            bad = [
                {"index": i, "code": e["data"]["code"], "message": "", "id": e["id"]}
                for i, e in enumerate(events)
                if e["type"] == "io.tallybook.unparsed"
            ]
            answer = {"stored": len(events) - len(bad), "quarantined": bad}
        body = json.dumps(answer).encode()
        request.send_response(status)
        kind = "application/json" if status == 200 else "application/problem+json"
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        if status in {429, 503}:
            request.send_header("Retry-After", "0")
        request.end_headers()
        request.wfile.write(body)


def misbehaving(seed: int, trouble_percent: int = 50) -> Callable[[int, list[Any]], Verdict]:
    """Return a verdict that fails about every other request, in every way."""
    random_numbers = random.Random(seed)
    troubles: list[Verdict] = [503, 429, 500, "drop", "lose-ack", "lose-ack"]

    def verdict(_number: int, _events: list[Any]) -> Verdict:
        if random_numbers.randrange(100) >= trouble_percent:
            return 200
        return random_numbers.choice(troubles)

    return verdict
