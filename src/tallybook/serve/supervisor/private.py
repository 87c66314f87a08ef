"""A server for the duration of one command, for work on a folder where none runs."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tallybook.kernel.errors import Unavailable
from tallybook.serve.supervisor import folder
from tallybook.serve.supervisor.tree import answers

START_SECONDS_MAX = 60
LOG = "private-server.log"


@contextmanager
def server_on(data_dir: Path) -> Iterator[str]:
    """Yield the address of a server on the folder: the running one, else a private one.

    Raises:
        Unavailable: the folder cannot be used or the server does not start; the reason is told.
    """
    info = folder.read_info(data_dir) if folder.is_locked(data_dir) else None
    if info is not None and answers(info.url):
        yield info.url
        return
    with _private(data_dir) as url:
        yield url


@contextmanager
def _private(data_dir: Path) -> Iterator[str]:
    folder.prepare(data_dir)
    log = data_dir / LOG
    command = [sys.executable, "-m", "tallybook", "serve", "--private"]
    command += ["--data", str(data_dir), "--host", "127.0.0.1", "--port", "0"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield _wait(process, data_dir, log)
        finally:
            process.terminate()
            process.wait(START_SECONDS_MAX)


def _wait(process: "subprocess.Popen[bytes]", data_dir: Path, log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        info = folder.read_info(data_dir)
        if info is not None and info.pid == process.pid and answers(info.url):
            return info.url
        time.sleep(0.05)
    said = log.read_text(errors="replace").strip().splitlines()[-5:]
    message = f"no server could be started on {data_dir}: " + ("\n".join(said) or "it said nothing")
    raise Unavailable(message, code="no-server")
