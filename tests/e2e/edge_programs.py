"""Real programs beside an agent: started, waited for, stopped; what the agent made of them."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.edge_server import EdgeServer

DEADLINE_SECONDS = 60
ENV = {k: v for k, v in os.environ.items() if not k.startswith("TALLYBOOK_")}


def needed(program: str) -> str:
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        assert not os.environ.get("CI"), f"{program} is not installed; make engines"
        pytest.skip(f"{program} is not installed; make engines")
    return found


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def until(what: Callable[[], Any], why: str = "it did not happen in time") -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)


@contextmanager
def program(*command: object, port: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([str(part) for part in command], env=ENV)
    try:
        if port is not None:
            until(lambda: answers(port), f"{command[0]} does not answer")
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    with socket.socket() as made:
        made.settimeout(1)
        return made.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def agent(server: EdgeServer, folder: Path, config: str, interval: str = "0.2") -> Iterator[None]:
    (folder / "edge.toml").write_text("host = false\n" + config)
    command = [
        sys.executable, "-m", "tallybook", "edge", "run", "--url", server.url, "--key", "tb_k",
        "--state", str(folder / "state"), "--config", str(folder / "edge.toml"),
        "--interval", interval,
    ]  # fmt: skip
    process = subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True)
    try:
        yield
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == 0, said
    finally:
        process.kill()
        process.wait()


def get(url: str, **headers: str) -> bytes:
    asked = urllib.request.Request(url, headers=headers)
    with urllib.request.build_opener().open(asked, timeout=60) as answer:
        return bytes(answer.read())


def events(server: EdgeServer, kind: str) -> list[dict[str, Any]]:
    with server.lock:
        return [event for event in server.stored.values() if event["type"] == kind]


def total(server: EdgeServer, kind: str) -> float:
    return sum(event["data"]["value"] for event in events(server, kind))


def state_of(folder: Path) -> str:
    path = folder / "state" / "spool.db"
    if not path.exists():
        return ""
    command = [sys.executable, "-m", "tallybook", "edge", "status", "--json", "--state",
               str(folder / "state")]  # fmt: skip
    return subprocess.run(command, env=ENV, capture_output=True, text=True, check=False).stdout
