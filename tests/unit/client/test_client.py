"""Recording through every kind of trouble: nothing lost, nothing twice, nothing unbounded."""

import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import tallybook
from tallybook import Client, Invalid, Timeout, Unavailable
from tests.support.edge_server import EdgeServer, misbehaving

FAST = {"linger_seconds": 0.01, "retry_seconds_max": 0.02}


def numbers(server):
    return sorted(event["data"]["n"] for event in server.stored.values())


def test_importing_the_package_imports_nothing_else():
    code = "import sys, tallybook; print([m for m in ('httpx2', 'msgspec') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert tallybook.Client is Client
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tallybook.nothing


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_through_every_failure_each_event_arrives_once(tmp_path, spooled):
    spool = tmp_path / "spool" if spooled else None
    with (
        EdgeServer(misbehaving(seed=7)) as server,
        Client(server.url, "tb_k", spool=spool, batch_events_max=7, **FAST) as client,
    ):
        ids = [client.record("t", "s", {"n": n}) for n in range(200)]
        client.flush(60)
        stats = client.stats
    assert numbers(server) == list(range(200))
    assert len(set(ids)) == 200
    assert (stats.recorded, stats.stored, stats.waiting) == (200, 200, 0)
    assert stats.retries > 0


def test_events_of_many_threads_share_batches():
    with EdgeServer() as server, Client(server.url, "tb_k", linger_seconds=0.2) as client:
        threads = [
            threading.Thread(
                target=lambda at=at: [
                    client.record("t", "s", {"n": at * 100 + n}) for n in range(100)
                ]
            )
            for at in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.flush(30)
        assert numbers(server) == list(range(1000))
        assert server.requests <= 20


def test_a_retry_is_the_same_event_again():
    with EdgeServer(lambda number, _: "lose-ack" if number == 1 else 200) as server:
        with Client(server.url, "tb_k", **FAST) as client:
            client.record("t", "s", {"n": 1}, id="order-1")
            client.flush(30)
        assert list(server.stored) == [(client._source, "order-1")]
        assert server.received[(client._source, "order-1")] == 2


def test_what_the_server_quarantines_is_told_and_does_not_hold_up_the_rest():
    told = []
    with (
        EdgeServer() as server,
        Client(server.url, "tb_k", on_refused=told.append, **FAST) as client,
    ):
        client.record("t", "s", {"n": 1})
        client.record("io.tallybook.unparsed", "s", {"code": "odd"})
        client.record("t", "s", {"n": 2})
        client.flush(30)
        assert client.stats.quarantined == 1
    assert [(each.code, each.quarantined) for each in told] == [("odd", True)]


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_an_event_that_is_refused_for_good_is_parked_and_told(tmp_path, spooled, caplog):
    def verdict(_number, events):
        return 400 if any(event["data"]["n"] == 3 for event in events) else 200

    told = []
    spool = tmp_path if spooled else None
    with EdgeServer(verdict) as server:
        with Client(server.url, "tb_k", spool=spool, on_refused=told.append, **FAST) as client:
            client.send(*({"type": "t", "data": {"n": n}} for n in range(8)))
            client.flush(30)
            assert client.stats.refused == 1
        assert [
            event["data"]["n"] for event in server.stored.values() if event["data"]["n"] == 3
        ] == []
        assert len(server.stored) == 7
    assert [(each.code, each.quarantined) for each in told] == [("test", False)]
    if spooled:
        assert '"n":3' in (tmp_path / "refused.ndjson").read_text()


def test_a_callback_that_fails_and_one_that_flushes_do_no_harm(caplog):
    with EdgeServer() as server:
        client = Client(server.url, "tb_k", **FAST)
        client._worker._on_refused = lambda each: (client.flush(), 1 / 0)
        with client:
            client.record("io.tallybook.unparsed", "s", {"code": "odd"})
            client.flush(30)
            client.record("t", "s", {"n": 1})
            client.flush(30)
    assert "on_refused failed" in caplog.text


def test_a_wrong_key_keeps_the_events_and_says_why(caplog):
    state = {"status": 401}
    with EdgeServer(lambda _number, _events: state["status"]) as server:
        with Client(server.url, "tb_k", **FAST) as client:
            client.record("t", "s", {"n": 1})
            with pytest.raises(Timeout, match="verdict 401"):
                client.flush(0.2)
            assert client.stats.waiting == 1
            assert "verdict 401" in client.stats.last_error
            state["status"] = 200
            client.flush(30)
        assert numbers(server) == [1]


def test_retry_after_is_kept_to():
    with EdgeServer(lambda number, _: 429 if number == 1 else 200) as server:
        server.reply = _asking(server, 1)
        with Client(server.url, "tb_k", **FAST) as client:
            begun = time.monotonic()
            client.record("t", "s", {"n": 1})
            client.flush(30)
            assert time.monotonic() - begun >= 1


def _asking(server, seconds):
    plain = EdgeServer.reply

    def reply(request, status, events):
        send = request.send_header
        request.send_header = lambda name, value: send(
            name, str(seconds) if name == "Retry-After" else value
        )
        plain(server, request, status, events)

    return reply


def test_closing_with_no_server_says_how_many_are_not_sent():
    client = Client("http://127.0.0.1:9", "tb_k", **FAST)
    client.record("t", "s", {"n": 1})
    with pytest.raises(Timeout, match="1 events are not sent yet"):
        client.close(0.1)
    client.close()
    with pytest.raises(Unavailable) as refused:
        client.record("t", "s")
    assert refused.value.code == "client-closed"


def test_full_memory_raises_where_asked():
    client = Client("http://127.0.0.1:9", "tb_k", buffer_events_max=2, when_full="raise", **FAST)
    client.record("t", "s")
    client.record("t", "s")
    with pytest.raises(Unavailable) as refused:
        client.record("t", "s")
    assert refused.value.code == "buffer-full"
    assert client.stats.waiting == 2
    with pytest.raises(Timeout):
        client.close(0)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"when_full": "drop"}, "when_full"),
        ({"batch_events_max": 0}, "batch_events_max"),
        ({"linger_seconds": -1}, "linger_seconds"),
        ({"retry_seconds_max": 0}, "retry_seconds_max"),
        ({"url": "ftp://x"}, "url"),
        ({"key": "two words"}, "key"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, field):
    with pytest.raises(Invalid) as refused:
        Client(**{"url": "http://127.0.0.1:9", "key": "tb_k"} | options)
    assert refused.value.field == field


def test_the_environment_tells_server_and_key(monkeypatch):
    with EdgeServer() as server:
        monkeypatch.setenv("TALLYBOOK_URL", server.url)
        monkeypatch.setenv("TALLYBOOK_KEY", "tb_env")
        with Client() as client:
            client.record("t", "s", {"n": 1})
            client.flush(30)
        assert server.headers[0]["authorization"] == "Bearer tb_env"


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_a_forked_child_sends_its_own_and_its_parents_once(tmp_path, spooled):
    spool = tmp_path / "spool" if spooled else None
    with EdgeServer() as server:
        client = Client(server.url, "tb_k", spool=spool, linger_seconds=0.3)
        client.record("t", "s", {"n": 0})
        pids = []
        for at in range(1, 4):
            pid = os.fork()
            if pid == 0:
                try:
                    for n in range(10):
                        client.record("t", "s", {"n": at * 10 + n})
                    client.close(30)
                finally:
                    os._exit(0)
            pids.append(pid)
        for pid in pids:
            os.waitpid(pid, 0)
        client.close(30)
        assert numbers(server) == [0, *range(10, 40)]
        assert set(server.received.values()) == {1}
    if spooled:
        assert not list(spool.glob("*.spool"))


def _work(numbers_of_one):
    for n in numbers_of_one:
        CLIENTS[0].record("t", "s", {"n": n})


CLIENTS: list[Client] = []


def test_a_pool_of_processes_sends_what_it_recorded_at_its_end():
    with EdgeServer() as server:
        CLIENTS.append(Client(server.url, "tb_k", linger_seconds=5))
        try:
            pool = multiprocessing.get_context("fork").Pool(2)
            pool.map(_work, [range(10), range(10, 20)])
            pool.close()
            pool.join()
            assert numbers(server) == list(range(20))
        finally:
            CLIENTS.pop().close()


def test_the_end_of_a_program_sends_what_waits():
    code = (
        "from tallybook import Client\n"
        "c = Client('{}', 'tb_k', linger_seconds=60)\n"
        "for n in range(5): c.record('t', 's', {{'n': n}})\n"
    )
    with EdgeServer() as server:
        subprocess.run([sys.executable, "-c", code.format(server.url)], check=True, timeout=60)
        assert numbers(server) == list(range(5))


def test_the_end_of_a_program_without_a_server_is_not_silent():
    code = (
        "import logging; logging.basicConfig()\n"
        "from tallybook import Client\n"
        "c = Client('http://127.0.0.1:9', 'tb_k', exit_seconds=0.2)\n"
        "c.record('t', 's')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "1 recorded events are LOST" in done.stderr


def test_an_abandoned_client_may_be_collected():
    with EdgeServer() as server:
        for _ in range(3):
            Client(server.url, "tb_k").close()
    assert threading.active_count() < 20


def test_several_events_at_once_wait_no_longer_than_one():
    """The thread that is idle hears of them, however many they are."""
    with EdgeServer() as server, Client(server.url, "tb_k", **FAST) as client:
        client.record("t", "s", {"n": 0})
        client.flush(10)
        time.sleep(0.1)  # the thread is idle now
        client.send(*({"type": "t", "subject": "s", "data": {"n": n}} for n in range(1, 4)))
        until = time.monotonic() + 5
        while len(server.stored) < 4:
            assert time.monotonic() < until
            time.sleep(0.01)
    assert numbers(server) == [0, 1, 2, 3]


def test_closing_waits_no_longer_than_it_is_asked_to():
    """The server takes the request and says nothing: that is not the program's time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", "tb_k", **FAST)
        client.record("t", "s", {"n": 1})
        time.sleep(0.2)
        began = time.monotonic()
        with pytest.raises(Timeout, match="1 events are not sent yet"):
            client.close(0.5)
        assert time.monotonic() - began < 5


def test_who_waits_for_room_is_told_that_the_client_is_closed():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = Client(url, "tb_k", buffer_events_max=1, **FAST)
        client.record("t", "s", {"n": 1})
        told = []

        def waiting():
            with pytest.raises(Unavailable) as caught:
                client.record("t", "s", {"n": 2})
            told.append(caught.value.code)

        thread = threading.Thread(target=waiting, daemon=True)
        thread.start()
        time.sleep(0.2)
        with pytest.raises(Timeout):
            client.close(0.1)
        thread.join(5)
        assert told == ["client-closed"]


def test_a_page_of_something_else_refuses_no_event(caplog):
    """A proxy's 400 is no judgement of the events: they wait for the server."""

    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(400)
            self.end_headers()
            self.wfile.write(b"<html>The plain HTTP request was sent to HTTPS port</html>")

        def log_message(self, *_said):
            pass

    refused = []
    proxy = HTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
    client = Client(
        f"http://127.0.0.1:{proxy.server_port}", "tb_k", on_refused=refused.append, **FAST
    )
    client.record("t", "s", {"n": 1})
    client.record("t", "s", {"n": 2})
    with pytest.raises(Timeout, match="is something else at this address"):
        client.flush(0.5)
    assert (client.stats.waiting, client.stats.refused, refused) == (2, 0, [])
    with pytest.raises(Timeout):
        client.close(0.1)
    proxy.shutdown()
    proxy.server_close()


def test_a_callback_that_ends_its_thread_ends_no_sending(caplog):
    def leaving(_event):
        raise SystemExit

    with (
        EdgeServer() as server,
        Client(server.url, "tb_k", on_refused=leaving, **FAST) as client,
    ):
        client.record("io.tallybook.unparsed", "s", {"code": "x"})
        client.record("t", "s", {"n": 2})
        client.flush(10)
        client.record("t", "s", {"n": 3})
        client.flush(10)
        assert client.stats.waiting == 0


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_a_signal_handler_that_interrupts_a_record_does_not_wait_for_it(tmp_path, spooled):
    """What it interrupted has a lock; the end of the program sends what waits."""
    with EdgeServer() as server:
        code = f"""
import os, signal, sys, time
from tallybook import Client, Unavailable, Timeout
client = Client({server.url!r}, "tb_k", spool={str(tmp_path / "spool") if spooled else None!r})
put = client._queue.put
def interrupted(pieces):
    put(pieces)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)  # the handler runs here, within the record
client._queue.put = interrupted
def handler(*_):
    for wrong, call in ((Unavailable, lambda: client.record("t", "s")), (Timeout, client.flush)):
        try:
            call()
        except wrong:
            print("refused", flush=True)
    client.close()
    sys.exit(0)
signal.signal(signal.SIGTERM, handler)
client.record("t", "s", {{"n": 1}})
"""
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
        )
        assert time.monotonic() - began < 15
        assert done.stdout.split() == ["refused", "refused"], done.stderr
        assert numbers(server) == [1]
