"""The Python client on a real server: its guide, and what it recorded before it was killed."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tallybook import Client

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "python-client.md"
RECORDER = """
import sys
from tallybook import Client
url, key, spool, first = sys.argv[1:]
client = Client(url, key, spool=spool, linger_seconds=0.01, retry_seconds_max=0.1)
for n in range(int(first), 10**9):
    client.record("killed", "s", {"n": n})
    print(n, flush=True)
"""


@pytest.fixture(scope="module")
def server(shared_server):
    return shared_server.tenant("client")


def test_every_block_of_the_guide_runs(server, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 8
    script = tmp_path / "guide.py"
    script.write_text("\n".join(blocks))
    environment = os.environ | {"TALLYBOOK_URL": server.url, "TALLYBOOK_KEY": server.key}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, timeout=120,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "acme may export" in done.stdout
    assert "time-in-future" in done.stdout
    assert "waiting=0" in done.stdout


def test_what_was_recorded_before_a_kill_arrives_once(server, tmp_path):
    """Killed again and again, with a server, without one, several at once; then one that ends."""
    spool = tmp_path / "spool"
    told: list[Path] = []
    for at in range(6):
        url = server.url if at % 3 else "http://127.0.0.1:9"
        files = [tmp_path / f"{at}-{k}.txt" for k in range(2)]
        running = [
            _recorder(url, server.key, spool, file, n) for n, file in enumerate(files, at * 2)
        ]
        _await_some(files)
        time.sleep(0.3)
        for process in running:
            process.send_signal(signal.SIGKILL)
            process.wait(30)
        told += files
    recorded = [int(line) for file in told for line in file.read_text().split("\n")[:-1]]
    with Client(server.url, server.key, spool=spool) as client:
        client.record("killed", "s", {"n": -1})
        client.flush(60)
        assert client.stats.waiting == 0
    assert len(recorded) > 100
    server.caught_up()
    arrived = [event["data"]["n"] for event in client_events(server)]
    assert len(arrived) == len(set(arrived)), "counted twice"
    missing = {*recorded, -1} - set(arrived)
    assert not missing, f"{len(missing)} recorded events never arrived"
    # A record that was under way when the kill came may have arrived, though it had not returned.
    assert len(set(arrived) - {*recorded, -1}) <= 12
    assert not list(spool.glob("*.spool"))


def client_events(server):
    with Client(server.url, server.key) as client:
        yield from client.events.list(type="killed", limit=1000)


def _await_some(files):
    """Wait until every process has recorded something."""
    deadline = time.monotonic() + 60
    while not all(file.stat().st_size for file in files):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _recorder(url, key, spool, out, number):
    with out.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-c", RECORDER, url, key, str(spool), str(number * 1_000_000)],
            stdout=file,
        )
