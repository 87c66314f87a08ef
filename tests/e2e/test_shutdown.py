"""A server that is asked to stop finishes what it took: stored is answered, answered is stored."""

import http.client
import json
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.server import KEY, Server

STOP_SECONDS_MAX = 90.0
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}


class Sender(threading.Thread):
    """Sends requests of events, one after the other, until the server takes no more."""

    def __init__(self, address: Any, name: str, size: int) -> None:
        super().__init__(daemon=True)
        self.address, self.label, self.size = address, name, size
        self.acknowledged: list[str] = []
        self.refused = 0
        self.unanswered = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        for turn in range(100_000):
            ids = [f"{self.label}-{turn}-{number}" for number in range(self.size)]
            known = {"specversion": "1.0", "source": "s", "type": "t"}
            body = json.dumps([known | {"id": one} for one in ids])
            try:
                connection.request("POST", "/api/v1/events", body, HEADERS)
            except OSError:
                return
            try:
                answer = connection.getresponse()
                answer.read()
            except http.client.RemoteDisconnected:
                return  # closed between two requests
            except (OSError, http.client.HTTPException):
                self.unanswered += 1
                return
            if answer.status == 204:
                self.acknowledged += ids
            else:
                self.refused += 1


def asked_for(address: Any, path: str) -> http.client.HTTPConnection:
    """Ask for an answer that takes long."""
    connection = http.client.HTTPConnection(*address, timeout=90)
    connection.request("GET", path, headers=HEADERS)
    return connection


def test_what_is_stored_was_answered_and_what_was_answered_is_stored(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        address = (urlsplit(server.url).hostname, urlsplit(server.url).port)
        rule = {"key": "all", "pattern": {"type": ["none"]}, "targets": ["out"]}
        server.post("/api/v1/routes", json.dumps(rule))
        server.post("/api/v1/streams/out/groups", '{"name": "g"}')
        poll = asked_for(address, "/api/v1/streams/out/records?group=g&wait_seconds=30")
        live = asked_for(address, "/api/v1/streams/out/sse?group=g").getresponse()
        senders = [Sender(address, f"one{n}", 1) for n in range(6)]
        senders += [Sender(address, f"many{n}", 200) for n in range(2)]
        for thread in senders:
            thread.start()
        deadline = time.monotonic() + 90
        while sum(len(s.acknowledged) for s in senders) < 3000 and time.monotonic() < deadline:
            time.sleep(0.05)
        server._process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
        assert server._process.wait(STOP_SECONDS_MAX) == 0  # type: ignore[union-attr]
        for thread in senders:
            thread.join(60)
        try:
            socket.create_connection(address, 1).close()
            raise AssertionError("a stopped server takes connections")
        except OSError:
            pass
        acknowledged = sum(len(sender.acknowledged) for sender in senders)
        assert acknowledged >= 1000, acknowledged
        assert json.loads(poll.getresponse().read())["records"] == [], "a poll is answered at once"
        assert b"data:" not in live.read()
        assert "did not stop in time" not in server.log.read_text()
        assert [sender.refused for sender in senders] == [0] * len(senders)
        server.start()
        server.caught_up()
        counters = server.get("/api/v1/status")["counters"]
        assert counters["accepted"] == acknowledged, (counters, [s.unanswered for s in senders])
        assert counters["duplicate"] == 0
