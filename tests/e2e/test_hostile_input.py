"""What nobody means well sends: refused with a clear code, and the server keeps its size."""

import gzip
import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import zstandard

from tests.e2e.server import KEY, Server

GROWTH_BYTES_MAX = 192 * 1024 * 1024
MIB = 1024 * 1024
JSON = "application/json"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("hostile") / "data") as started:
        yield started


def address(server: Server) -> Any:
    parts = urlsplit(server.url)
    return (parts.hostname, parts.port)


def send(server: Server, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    """Return status and body of an answer."""
    connection = http.client.HTTPConnection(*address(server), timeout=60)
    given = {"Authorization": f"Bearer {KEY}", "Content-Type": JSON}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request("POST", path, body, given)
        answer = connection.getresponse()
        said = answer.read()
    finally:
        connection.close()
    return answer.status, json.loads(said) if said else None


def resident(server: Server) -> int:
    """Return the bytes that the API's processes hold."""
    return sum(
        psutil.Process(child["pid"]).memory_info().rss
        for child in server.children()
        if child["kind"] == "api"
    )


def _took_nothing(status: int, said: Any) -> bool:
    """Whether a request was refused; the door of objects sets aside what is none, and says so."""
    return 400 <= status < 500 or (status == 200 and said["stored"] == 0)


ZEROS = b"0" * (400 * MIB)


def test_the_server_keeps_its_size(server: Server) -> None:
    send(server, "/api/v1/events", b"[]")
    before = resident(server)
    deep = b"[" * 100_000 + b"]" * 100_000
    nested = gzip.compress(gzip.compress(ZEROS, 1), 1)
    bombs = [
        ("gzip", gzip.compress(ZEROS, 1)),
        ("zstd", zstandard.compress(ZEROS)),
        ("gzip", nested),
    ]
    for path in ("/api/v1/events", "/api/v1/customers", "/api/v1/logs", "/v2/billing/meter_events"):
        for encoding, bomb in bombs:
            status, said = send(server, path, bomb, Content_Encoding=encoding)
            assert _took_nothing(status, said), (path, encoding, status, said)
        for body in (
            deep,
            b'{"a":' * 100_000,
            b"\xff\xfe",
            b"\xef\xbb\xbf[]",
            b'{"a":1,"a":2}',
            b'{"id":"\\ud800"}',
            b'{"n":NaN}',
            b"9" * MIB,
        ):
            status, said = send(server, path, body)
            assert _took_nothing(status, said), (path, body[:20], status, said)
    assert server.alive()
    grown = resident(server) - before
    assert grown < GROWTH_BYTES_MAX, grown


def test_too_much_is_refused_while_it_comes(server: Server) -> None:
    before = resident(server)

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * MIB

    for path in ("/api/v1/events", "/api/v1/customers"):
        try:
            status, said = send(server, path, pieces(), Transfer_Encoding="chunked")
            assert (status, said["code"]) == (413, "too-large")
        except OSError:
            pass  # the server answered and closed before all was sent
    with socket.create_connection(address(server), 30) as raw:
        raw.sendall(
            f"POST /api/v1/customers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Type: {JSON}\r\nContent-Length: 99999999999\r\n\r\n".encode()
        )
        raw.sendall(b" " * MIB)
        raw.settimeout(5)
        try:
            said = raw.recv(4096)
        except TimeoutError:
            said = b""
        assert b" 20" not in said[:20]
    assert resident(server) - before < GROWTH_BYTES_MAX


def test_a_million_parameters_and_a_long_path(server: Server) -> None:
    for target in (
        b"/api/v1/customers?" + b"a=1&" * 1_000_000,
        b"/" + b"x" * 1_000_000,
        b"/api/v1/customers?" + b"a&" * 2_000,
    ):
        with socket.create_connection(address(server), 30) as raw:
            raw.settimeout(30)
            head = f" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
            try:
                raw.sendall(b"GET " + target + head)
                said = raw.recv(4096)
            except OSError:
                said = b""
        assert not said or said.split()[1] in {b"400", b"414", b"431"}, said[:100]
    assert send(server, "/api/v1/events", b"[]")[0] == 204


@pytest.mark.slow(30)
def test_a_client_that_drips_is_let_go(server: Server) -> None:
    heads = [
        b"POST /api/v1/customers HTTP/1.1\r\nHost: x\r\nX-A: ",
        f"POST /api/v1/customers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: {JSON}\r\nContent-Length: 100\r\n\r\n{{".encode(),
        f"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: {JSON}\r\nContent-Length: 100\r\n\r\n[".encode(),
    ]
    opened = []
    for head in heads:
        raw = socket.create_connection(address(server), 60)
        raw.sendall(head)
        raw.settimeout(60)
        opened.append(raw)
    begun = time.monotonic()
    said = [raw.recv(4096) for raw in opened]
    assert time.monotonic() - begun < 45
    assert not said[0] or b" 408 " in said[0][:20]
    assert b" 408 " in said[1][:20]
    assert b" 408 " in said[2][:20]
    assert b"request-timeout" in said[1] + b"".join(_rest(opened[1]))
    for raw in opened:
        raw.close()


def _rest(raw: socket.socket) -> Iterator[bytes]:
    raw.settimeout(1)
    try:
        while piece := raw.recv(4096):
            yield piece
    except OSError:
        return
