"""A real server and a real agent: the server goes away, the agent is killed, both come back."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tallybook.kernel.errors import Refused
from tests.e2e.server import KEY, Server, workers

LINE = '10.0.0.1 - - [17/May/2015:10:05:03 +0000] "GET /{} HTTP/1.1" 200 {} "-" "x"\n'
ENV = {k: v for k, v in os.environ.items() if not k.startswith("TALLYBOOK_")}


@contextmanager
def agent(server: Server, log: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable, "-m", "tallybook", "edge", "run", "--url", server.url, "--key", KEY,
        "--state", str(log.parent / "state"), "--interval", "0.1", "--access-log", str(log), *more,
    ]  # fmt: skip
    process = subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow(50))])
def test_nothing_is_lost_or_doubled_and_the_server_sees_no_gap(tmp_path: Path, kills: int) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    log, written = tmp_path / "access.log", 0

    def write(lines: int) -> None:
        nonlocal written
        with log.open("a") as file:
            file.writelines(LINE.format(n, n) for n in range(written, written + lines))
        written += lines

    write(50)
    server = Server(tmp_path / "data", port=free_port())
    with server, agent(server, log) as running:
        wait_for(lambda: edges(server), running)
    for _ in range(kills):  # the server is away
        with agent(server, log) as running:
            for _ in range(3):
                write(moments.randint(1, 60))
                time.sleep(0.3 + moments.random() * 0.3)
    with server, agent(server, log, "--for", "0.5s", "--drain", "50s") as running:
        _, said = running.communicate(timeout=60)
        assert running.returncode == 0, said
        server.caught_up()
        found = server.get("/api/v1/status")["counters"]
        requests = meter(server)
        assert requests == written, found
        wait_for_all(lambda: edges(server)[0]["waiting"]["batches"] == 0)
        nothing_missing(server)


def test_no_number_is_missing_after_the_workers_were_killed(tmp_path: Path) -> None:
    """The note of a batch is as durable as the batch: /edges has no false alarm."""
    log, written = tmp_path / "access.log", 0
    log.touch()
    server = Server(tmp_path / "data", workers(2), port=free_port())
    with server, agent(server, log) as running:
        for turn in range(60):
            with log.open("a") as file:
                file.writelines(LINE.format(n, n) for n in range(written, written + 20))
            written += 20
            if turn % 20 == 10:
                victims = [child for child in server.children() if child["kind"] == "api"]
                os.kill(victims[turn // 20 % 2]["pid"], signal.SIGKILL)
            time.sleep(0.1)
        running.terminate()
        _, said = running.communicate(timeout=60)
        assert running.returncode == 0, said
        server.caught_up()
        assert meter(server) == written
        wait_for_all(lambda: edges(server)[0]["waiting"]["batches"] == 0)
        nothing_missing(server)
        (edge,) = edges(server)
        assert edge["sequences"][0]["highest"] > 20, edge


def nothing_missing(server: Server) -> None:
    """Wait until each worker has told which batches came by it: once a second."""
    wait_for_all(lambda: edges(server)[0]["missing_batches"] == 0)


def wait_for_all(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def meter(server: Server) -> int:
    spec = {"key": "requests", "event_type": "http.server.request", "aggregation": "COUNT"}
    server.client().post("/api/v1/meters", spec)
    return int(server.get("/api/v1/meters/requests/query")["data"][0]["value"])


def edges(server: Server) -> list[Any]:
    try:
        return list(server.get("/api/v1/edges")["items"])
    except Refused:
        return []


def wait_for(what: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
