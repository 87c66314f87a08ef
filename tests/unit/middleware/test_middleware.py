"""Applications that count their own requests, and the journal they count into."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tallybook.adapters.files.tail import FileTail
from tallybook.collect.following import Followed
from tallybook.collect.formats.choice import log_format
from tallybook.kernel.errors import Unavailable
from tallybook.middleware import Journal, MeteredASGI, MeteredWSGI


def lines(path: Path) -> list[dict]:
    files = sorted(path.parent.glob(path.name + "*"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


ENVIRON = {
    "REQUEST_METHOD": "GET", "PATH_INFO": "/a", "QUERY_STRING": "b=1", "REMOTE_ADDR": "10.0.0.1",
    "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_USER_AGENT": "x",
}  # fmt: skip


def served(app, environ=ENVIRON, *, close: bool = True, most: int = 99) -> list[bytes]:
    body = app(dict(environ), lambda *_: lambda _block: None)
    blocks = [block for _, block in zip(range(most), body, strict=False)]
    if close:
        body.close()
    return blocks


def test_a_wsgi_request_is_counted_when_its_answer_ends(tmp_path):
    def app(environ, start_response):
        environ["tenant"] = "acme"
        write = start_response("201 Created", [])
        write(b"12")
        return [b"345", b"6"]

    path = tmp_path / "j"
    metered = MeteredWSGI(app, Journal(path), subject=lambda environ: environ.get("tenant"))
    assert served(metered) == [b"345", b"6"]
    (line,) = lines(path)
    assert line["type"] == "http.server.request"
    assert line["subject"] == "acme"
    assert line["source"] == "app:j"
    assert line["data"] == {
        "method": "GET", "path": "/a?b=1", "protocol": "HTTP/1.1", "referer": None,
        "user_agent": "x", "status": 201, "bytes": 6,
    }  # fmt: skip


def test_wsgi_failures_and_clients_that_go_away_are_counted(tmp_path):
    def raises(environ, start_response):
        raise RuntimeError("no")

    def breaks(environ, start_response):
        start_response("200 OK", [])
        yield b"12"
        raise RuntimeError("no")

    class Body:
        closed = False

        def __iter__(self):
            return iter([b"1", b"2"])

        def close(self):
            self.closed = True

    body = Body()
    path = tmp_path / "j"
    with pytest.raises(RuntimeError):
        served(MeteredWSGI(raises, str(path)), {**ENVIRON, "REQUEST_METHOD": "WEIRD"})
    metered = MeteredWSGI(breaks, str(path))
    answer = metered(dict(ENVIRON), lambda *_: None)
    with pytest.raises(RuntimeError):
        list(answer)
    answer.close()
    answer.close()
    served(MeteredWSGI(lambda e, s: body, str(path)), most=1)
    assert body.closed
    told = [event["data"] for event in lines(path)]
    assert [(data["method"], data["status"], data["bytes"]) for data in told] == [
        ("_OTHER", 500, 0), ("GET", 200, 2), ("GET", 499, 1),
    ]  # fmt: skip


SCOPE = {
    "type": "http", "method": "POST", "path": "/p", "query_string": b"q", "http_version": "2",
    "client": ("10.0.0.2", 5), "headers": [(b"user-agent", b"y"), (b"referer", b"r")],
}  # fmt: skip


def test_asgi_requests_are_counted_whatever_becomes_of_them(tmp_path):
    path = tmp_path / "j"

    async def answers(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"123", "more_body": True})
        await send({"type": "http.response.body", "body": b"4"})

    async def raises(scope, receive, send):
        raise RuntimeError("no")

    async def waits(scope, receive, send):
        await asyncio.sleep(60)

    async def run():
        sent = []

        async def send(message):
            sent.append(message)

        await MeteredASGI(answers, str(path))(SCOPE, None, send)
        await MeteredASGI(answers, str(path))({"type": "lifespan"}, None, send)
        with pytest.raises(RuntimeError):
            await MeteredASGI(raises, Journal(path))({**SCOPE, "client": None}, None, send)
        task = asyncio.create_task(
            MeteredASGI(waits, Journal(path), subject=lambda _: "t")(SCOPE, None, send)
        )
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return sent

    assert len(asyncio.run(run())) == 6
    found = lines(path)
    assert [(e.get("subject"), e["data"]["status"], e["data"]["bytes"]) for e in found] == [
        ("10.0.0.2", 200, 4), (None, 500, 0), ("t", 499, 0),
    ]  # fmt: skip
    assert found[0]["data"]["path"] == "/p?q"
    assert found[0]["data"]["protocol"] == "HTTP/2"


def test_threads_and_rotation_lose_and_double_nothing(tmp_path):
    path = tmp_path / "j"
    journals = [Journal(path, rotate_bytes=20_000) for _ in range(2)]

    def write(number):
        for n in range(300):
            journals[number % 2].event("t", {"n": n}, subject=str(number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for journal in journals:
        journal.close()
    found = lines(path)
    assert len(list(tmp_path.iterdir())) > 3
    assert len({e["id"] for e in found}) == len(found) == 1200
    tail, followed, seen = FileTail(path, from_oldest=True), Followed(), 0
    form = log_format("cloudevents")
    while chunk := tail.read(followed, 10_000):
        if not chunk.lines:
            break
        followed = chunk.followed
        seen += sum(form.parse(line.content.decode()) is not None for line in chunk.lines)
    assert seen == 1200
    tail.close()


def test_what_was_read_is_removed_only_when_asked_and_at_rest(tmp_path):
    path = tmp_path / "j"
    journal = Journal(path)
    journal.event("t", {"n": 1})
    tail = FileTail(path)
    followed = tail.read(Followed(), 10_000).followed
    path.rename(tmp_path / "j.20261121T000000")
    journal.event("t", {"n": 2})
    while (chunk := tail.read(followed, 10_000)).lines:
        followed = chunk.followed
    tail.read(followed, 10_000)
    assert tail.remove_read(60) == 0
    time.sleep(0.02)
    assert tail.remove_read(0.01) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["j"]
    tail.close()
    journal.close()


def test_a_fork_has_ids_of_its_own(tmp_path):
    code = (
        "import os, sys\nfrom tallybook.middleware import Journal\n"
        "j = Journal(sys.argv[1])\nj.event('t', {})\n"
        "pid = os.fork()\nj.event('t', {})\nif pid: os.waitpid(pid, 0)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "j")], check=True)
    assert len({e["id"] for e in lines(tmp_path / "j")}) == 3


def test_a_killed_process_leaves_whole_lines(tmp_path):
    code = (
        "import sys\nfrom tallybook.middleware import Journal\nj = Journal(sys.argv[1])\n"
        "while True: j.event('t', {'pad': 'x' * 500}); print(flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "j")], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    for _ in range(200):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    told = 200 + len(process.stdout.read().splitlines())
    process.wait()
    process.stdout.close()
    assert told <= len(lines(tmp_path / "j")) <= told + 1


def test_what_cannot_be_written_is_said_and_counted(tmp_path, caplog):
    journal = Journal(tmp_path / "gone" / "j")
    for _ in range(3):
        journal.event("t", {})
    journal.event("t", {"x": "y" * 70_000})
    assert journal.lost == 4
    assert [record.message.split(":")[0] for record in caplog.records] == ["usage is lost"] * 3
    with pytest.raises(Unavailable):
        Journal(tmp_path / "gone" / "j", strict=True).event("t", {})
    if Path("/dev/full").exists() and os.access("/dev/full", os.W_OK):
        Journal("/dev/full").event("t", {})
    durable = Journal(tmp_path / "j", durable=True)
    durable.event("t", {}, time_us=0)
    assert lines(tmp_path / "j")[0]["time"] == "1970-01-01T00:00:00Z"
    durable.close()


def test_an_answer_never_fails_because_nobody_can_tell_who_used_it(tmp_path, caplog):
    async def answers(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def nobody(_: object) -> str:
        raise KeyError("tenant")

    async def sent(_: object) -> None:
        pass

    asyncio.run(MeteredASGI(answers, str(tmp_path / "j"), subject=nobody)(SCOPE, None, sent))

    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"12"]

    assert served(MeteredWSGI(app, str(tmp_path / "j"), subject=nobody)) == [b"12"]
    assert [(e.get("subject"), e["data"]["status"]) for e in lines(tmp_path / "j")] == [
        (None, 200), ("10.0.0.1", 200),
    ]  # fmt: skip
    assert "cannot be told" in caplog.text
