"""A real server on loopback, as a person would start it, for tests that talk to it from outside."""

import copy
import io
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx2
import msgspec
import pytest

from tallybook.adapters.http.client import Client
from tallybook.kernel.errors import Forbidden, TallybookError, Unavailable
from tallybook.serve.cli.main import run
from tallybook.serve.supervisor.folder import is_locked, read_info
from tallybook.serve.supervisor.tree import answers

KEY = "tb_test_key_for_loopback_only_0123456789"
START_SECONDS_MAX = 60.0
REFUSED_SECONDS_MAX = 12.0
"""How long a process that came back may refuse what it does not know yet."""
ANSWER_SECONDS_MAX = 60.0
"""How long a busy machine may take to answer a request."""
IN_A_ROW = 16
"""A new connection meets any of the API workers: so many in a row have met each of two."""


def workers(count: int) -> dict[str, str]:
    """Return the setting of so many API workers."""
    return {"TALLYBOOK__SERVER__API_WORKERS": str(count)}


class Said(NamedTuple):
    """What a command printed."""

    stdout: str
    stderr: str


def visiting(**more: Any) -> httpx2.Client:
    """Return a client of the loopback that reads no list of authorities: 25 ms each time."""
    return httpx2.Client(verify=False, timeout=ANSWER_SECONDS_MAX, **more)


def asked(method: str, url: str, **more: Any) -> httpx2.Response:
    """Return the answer to one request, over a connection of its own."""
    with visiting() as client:
        return client.request(method, url, **more)


class Server:
    """`tallybook serve` on a folder and a free port; stopped at the end of the block.

    Attributes:
        starts: how often it was started.
        key: who asks: its first key, or that of a tenant.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, str] | None = None, port: int = 0
    ) -> None:
        """Nothing is started yet; a port of its own is kept over restarts."""
        self.port = port
        self.folder = folder
        self.key = KEY
        self.starts = 0
        self._environment = {**os.environ, "TALLYBOOK_FIRST_KEY": KEY, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder.parent / f"{folder.name}.log"

    def __enter__(self) -> Self:
        """Start, and wait until it is ready."""
        self.start()
        assert self.alive(), f"the server does not start: {self.log.read_text()[-3000:]}"
        return self

    def __exit__(self, *_: object) -> None:
        """Stop in order."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)

    def start(self) -> None:
        """Start the process tree."""
        self.starts += 1
        command = [
            sys.executable,
            "-m",
            "tallybook",
            "serve",
            "--data",
            str(self.folder),
            "--port",
            str(self.port),
        ]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                env=self._environment,
                stdin=subprocess.DEVNULL,
            )
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until this process answers; it may die meanwhile, which the caller notices."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while self.alive() and time.monotonic() < deadline:
            info = read_info(self.folder)
            if info is not None and info.pid == self.pid and answers(info.url):
                return
            time.sleep(0.02)
        if self.alive():
            raise AssertionError(f"the server is not ready: {self.log.read_text()[-3000:]}")

    def alive(self) -> bool:
        """Whether the supervisor runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """The address; a stale one where the server was killed."""
        info = read_info(self.folder)
        return info.url if info is not None else "http://127.0.0.1:9"

    def children(self) -> list[dict[str, Any]]:
        """Return kind and pid of the children that `server.json` names."""
        info = read_info(self.folder)
        if info is None or info.pid != self.pid:
            return []
        return [{"kind": child.kind, "pid": child.pid} for child in info.children]

    def kill(self, pid: int | None = None) -> None:
        """End a process at once, the supervisor unless another is named; wait until it is gone."""
        os.kill(self.pid if pid is None else pid, signal.SIGKILL)
        if pid in {None, self.pid}:
            assert self._process is not None
            self._process.wait(60)

    def revive(self) -> None:
        """Start again where the supervisor is gone, once its last child has given up the lock."""
        for _ in range(10):
            time.sleep(0.05)
            if self.alive():
                return
            deadline = time.monotonic() + 60
            while is_locked(self.folder) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert not is_locked(self.folder), "children outlived their supervisor"
            self.start()
        raise AssertionError(f"the server does not stay up: {self.log.read_text()[-3000:]}")

    def tenant(self, name: str) -> Self:
        """Return this server as a new tenant sees it, with a key of its own and nothing in it."""
        spec = {"tenant": f"{name}-{secrets.token_hex(4)}"}
        made = self.post("/api/v1/tenants", msgspec.json.encode(spec))
        guest = copy.copy(self)
        guest.key = made["first_key"]["key"]
        self.known(guest.key)
        return guest

    def client(self, key: str | None = None) -> Client:
        """Return a client of this server."""
        return Client(self.url, key or self.key)

    def tallybook(self, *words: str, code: int = 0) -> str:
        """Run a command and return all that it says; see `command`."""
        return "".join(self.command(*words, code=code))

    def command(self, *words: str, code: int = 0) -> Said:
        """Run a command of the command line, without a process of its own.

        Args:
            words: of the command.
            code: with which it must end.
        """
        out, err = io.StringIO(), io.StringIO()
        speaking = {"TALLYBOOK_URL": self.url, "TALLYBOOK_KEY": self.key, "COLUMNS": "200"}
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, text in speaking.items():
                patch.setenv(name, text)
            found = run(words)
        said = Said(out.getvalue(), err.getvalue())
        assert found == code, said
        return said

    def get(self, path: str) -> Any:
        """Return a JSON answer; retried while processes come back."""
        return self._retried(lambda: msgspec.json.decode(self.raw("GET", path)))

    def post(self, path: str, body: str | bytes, kind: str = "application/json") -> Any:
        """Send a body once and return the JSON answer."""
        answer = self.raw("POST", path, body, kind)
        return msgspec.json.decode(answer) if answer else None

    def raw(
        self, method: str, path: str, body: str | bytes = b"", kind: str = "application/json"
    ) -> bytes:
        """Return the bytes of an answer."""
        content = body.encode() if isinstance(body, str) else body
        with self.client() as client:
            return client.raw(method, path, content=content, headers={"Content-Type": kind}).content

    def known(self, key: str, *, known: bool = True) -> None:
        """Wait until every API worker takes a key, or until none takes it any more."""
        self.by_all(lambda: self._takes(key) is known)

    def by_all(self, look: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until every API worker lets something be seen.

        Args:
            look: asks over a new connection.
            seconds: how long at most.
        """
        deadline, seen = time.monotonic() + seconds, 0
        while seen < IN_A_ROW:
            seen = seen + 1 if look() else 0
            assert time.monotonic() < deadline, "not every process of the server learned of it"
            time.sleep(0 if seen else 0.05)

    def _takes(self, key: str) -> bool | None:
        try:
            with self.client(key) as client:
                client.get("/api/v1/meters")
        except Forbidden as error:
            return error.code != "no-key"
        except Unavailable:
            return None  # nobody says
        return True

    def caught_up(self, seconds: float = 60) -> None:
        """Wait until everything acknowledged is in the lake."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.revive()
            if all(p["events_behind"] == 0 for p in self.get("/api/v1/status")["partitions"]):
                return
            time.sleep(0.05)
        raise AssertionError(f"the lake does not catch up: {self.get('/api/v1/status')}")

    def bill_until_now(self) -> list[str]:
        """Run a billing run to its end; return the ids of all invoices."""
        run = self.post("/api/v1/billing-runs", '{"until": "now"}')
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.revive()
            state = self.get(f"/api/v1/billing-runs/{run['id']}")
            if state["state"] == "done":
                return [
                    invoice["id"] for invoice in self.get("/api/v1/invoices?limit=1000")["items"]
                ]
            assert state["state"] != "failed", state
            time.sleep(0.05)
        raise AssertionError("the billing run does not end")

    def _retried(self, call: Any) -> Any:
        started = time.monotonic()
        while True:
            try:
                return call()
            except TallybookError as error:
                away = isinstance(error, Unavailable)
                patience = START_SECONDS_MAX if away else REFUSED_SECONDS_MAX
                if time.monotonic() - started > patience:
                    raise
                self.revive()
                time.sleep(0.2)
