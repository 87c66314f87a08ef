"""The client: answers become values, refusals become our errors."""

import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer

import msgspec
import pytest

from tallybook.adapters.http.client import Client
from tallybook.kernel.errors import (
    Conflict,
    Forbidden,
    Invalid,
    Missing,
    TallybookError,
    Throttled,
    Timeout,
    Unavailable,
)

PAGES = {
    "": b'{"items": [1, 2], "next_cursor": "b"}',
    "b": b'{"items": [3], "next_cursor": null}',
}


class Scripted(BaseHTTPRequestHandler):
    """/status/N answers N; /pages pages; /echo says what it was told."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        path, _, query = self.path.partition("?")
        if path.startswith("/status/"):
            self.reply(int(path.split("/")[2]), b'{"detail":"why","code":"c","field":"f"}')
        elif path == "/plain/502":
            self.reply(502, b"<html>bad gateway</html>")
        elif path == "/pages":
            self.reply(
                200, PAGES[dict(p.split("=") for p in query.split("&") if p).get("cursor", "")]
            )
        elif path == "/number":
            self.reply(200, b'{"value": 0.12345678901234567890123}')
        elif path == "/empty":
            self.reply(204, b"")
        elif path == "/hang":
            self.close_connection = True
        else:
            said = [self.headers.get("Authorization"), self.command, query, body.decode()]
            self.reply(200, msgspec.json.encode(said))

    def do_POST(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        return


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    server = HTTPServer(("127.0.0.1", 0), Scripted)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    with Client(f"http://127.0.0.1:{server.server_port}/", "tb_k", timeout_seconds=5) as made:
        yield made
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Forbidden),
        (403, Forbidden),
        (404, Missing),
        (408, Timeout),
        (409, Conflict),
        (413, Invalid),
        (422, Invalid),
        (429, Throttled),
        (500, Unavailable),
        (503, Unavailable),
        (504, Timeout),
        (302, Unavailable),
    ],
)
def test_a_refusal_is_our_error(client: Client, status: int, kind: type[TallybookError]) -> None:
    with pytest.raises(TallybookError) as caught:
        client.get(f"/status/{status}")
    assert type(caught.value) is kind
    assert caught.value.message == "why"
    assert caught.value.code == "c"
    if isinstance(caught.value, Unavailable):
        assert caught.value.retry_after_seconds == 7
    else:
        assert caught.value.field == "f"


def test_a_proxys_page_is_quoted(client: Client) -> None:
    with pytest.raises(Unavailable, match="answered 502: <html>bad gateway"):
        client.get("/plain/502")


def test_numbers_keep_all_their_digits(client: Client) -> None:
    assert client.get("/number") == {"value": Decimal("0.12345678901234567890123")}
    assert client.get("/number", into=dict[str, Decimal])["value"].as_tuple().exponent == -23


def test_the_key_the_body_and_the_query_arrive(client: Client) -> None:
    params = {"a": "x", "none": None, "many": ["1", "2"]}
    said = client.post("/echo", {"n": Decimal("1.50")}, params=params)
    assert said == ["Bearer tb_k", "POST", "a=x&many=1&many=2", '{"n":"1.50"}']
    assert client.put("/echo", [1])[1] == "PUT"
    assert client.post("/empty") is None


def test_pages_are_followed(client: Client) -> None:
    assert list(client.pages("/pages")) == [1, 2, 3]


def test_an_unexpected_shape_is_the_servers_fault(client: Client) -> None:
    with pytest.raises(Unavailable, match="not what was expected"):
        client.get("/number", into=list[int])


def test_no_server_and_lost_answers_are_unavailable(client: Client) -> None:
    with pytest.raises(Unavailable, match="is it running"):
        Client("http://127.0.0.1:1").get("/x")
    with pytest.raises(Unavailable):
        client.get("/hang")


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://x", "http://", "http://x:99999"])
def test_a_wrong_address_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(Invalid):
        Client(url)


def test_a_key_that_would_break_the_header_is_refused() -> None:
    with pytest.raises(Invalid, match="key"):
        Client("http://x", "tb_1\r\nX: y")
    with pytest.raises(Invalid, match="CA file"):
        Client("https://x", verify="/nonexistent.pem")


def test_new_connections_leave_a_request_that_is_on_its_way_alone() -> None:
    """A socket closed under a reader's hands would give its number to the next connection."""
    asked, answering = threading.Event(), threading.Event()

    class Slow(Scripted):
        def do_GET(self) -> None:
            if self.path == "/slow":
                asked.set()
                answering.wait(10)
            self.reply(200, msgspec.json.encode(self.path))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    with Client(f"http://127.0.0.1:{server.server_port}", "tb_k", timeout_seconds=10) as made:
        answers: list[object] = []
        reader = threading.Thread(target=lambda: answers.append(made.get("/slow")))
        reader.start()
        assert asked.wait(10)
        made.reconnect()
        assert made.get("/fast") == "/fast"
        answering.set()
        reader.join(10)
        assert answers == ["/slow"]
    with pytest.raises(Unavailable, match="closed"):
        made.get("/fast")
    server.shutdown()
    server.server_close()
