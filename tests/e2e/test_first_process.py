"""The server as the first process of a container: it stops when asked, and buries orphans."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tallybook.serve.supervisor.folder import read_info
from tallybook.serve.supervisor.tree import answers
from tests.e2e.server import KEY, workers

SECONDS = 60
ORPHANS = 3
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"]
UNPRIVILEGED = [*NAMESPACE, "--user", "--map-root-user"]
ADOPTING = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1); os.execvp(sys.argv[1], sys.argv[1:])"
)
"""PR_SET_CHILD_SUBREAPER: orphans come to this process, as they would to process 1."""
LEAVING = f"(for n in {' '.join(map(str, range(ORPHANS)))}; do sleep 0.$n & done); exec "


def namespace() -> list[str]:
    """Return what begins a process as the first of its own; a skip where nobody may."""
    for command in (NAMESPACE, UNPRIVILEGED):
        try:
            subprocess.run([*command, "true"], check=True, capture_output=True, timeout=SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            reason = error
        else:
            return command
    pytest.skip(f"no process namespace may be made here: {reason}")


def adopting() -> list[str]:
    return [sys.executable, "-c", ADOPTING]


def wait_for(what: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.05)


def children(pid: int) -> dict[int, str]:
    """Return the children of a process and their states: 'Z' has ended and waits for its parent."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            _, _, rest = (folder / "stat").read_text().rpartition(")")
        except OSError:
            continue
        state, parent, *_ = rest.split()
        if int(parent) == pid:
            found[int(folder.name)] = state
    return found


@contextmanager
def first(kind: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """Run a server that was left orphans; yield what was started, its pid, and its log."""
    serve = f"{sys.executable} -m tallybook serve --data {folder / 'data'} --port 0"
    begin = namespace() if kind == "namespace" else adopting()
    log = folder / "log"
    environment = {**os.environ, "TALLYBOOK_FIRST_KEY": KEY, **workers(1)}
    with log.open("wb") as output:
        started = subprocess.Popen(
            [*begin, "sh", "-c", LEAVING + serve],
            stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
    try:

        def ready() -> bool:
            assert started.poll() is None, log.read_text()
            info = read_info(folder / "data")
            return info is not None and answers(info.url)

        wait_for(ready, log)
        pid = next(iter(children(started.pid))) if kind == "namespace" else started.pid
        yield started, pid, log
    finally:
        for child in (*children(started.pid), started.pid):
            if started.poll() is None:
                os.kill(child, signal.SIGKILL)
        started.wait(SECONDS)


@pytest.mark.parametrize("kind", ["namespace", "adopting"])
def test_it_buries_orphans_keeps_its_own_and_stops_when_asked(tmp_path: Path, kind: str) -> None:
    with first(kind, tmp_path) as (started, pid, log):
        info = read_info(tmp_path / "data")
        assert info is not None
        assert (info.pid == 1) == (kind == "namespace")
        own = len(info.children)
        wait_for(lambda: len(children(pid)) == own and "Z" not in children(pid).values(), log)
        victim = next(iter(children(pid)))
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: "died (SIGKILL)" in log.read_text(), log)
        wait_for(lambda: len(children(pid)) == own and victim not in children(pid), log)
        os.kill(pid, signal.SIGTERM)
        assert started.wait(SECONDS) == 0, log.read_text()
        assert "killed" not in log.read_text()
    assert not (tmp_path / "data" / "server.json").exists()


def test_it_heeds_a_stop_before_it_is_ready(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "tallybook", "serve", "--data", str(tmp_path / "data"),
               "--port", "0"]  # fmt: skip
    environment = {**os.environ, **workers(1)}
    with log.open("wb") as output:
        started = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    wait_for((tmp_path / "data").exists, log)
    started.send_signal(signal.SIGTERM)
    assert started.wait(SECONDS) == 0, log.read_text()
    assert not (tmp_path / "data" / "server.json").exists()
