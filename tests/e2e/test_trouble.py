"""What goes wrong on real machines: a clear error, nothing lost, and `doctor` tells.

Disk full, a corrupted log row, a malformed log file, a clock that jumps. (A folder that cannot be
used, and a second server on the same folder or port: test_server.py.)
"""

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.kernel.errors import TallybookError, Unavailable
from tallybook.transport.accept import AcceptLimits, accept
from tallybook.transport.codec import encode
from tallybook.transport.columns import ColumnSet
from tallybook.transport.ports import Batch
from tests.e2e.server import Server, workers

METER = '[[meters]]\nkey = "requests"\nevent_type = "t"\naggregation = "COUNT"\n'


def batch(prefix: str, count: int, size: int = 10) -> str:
    """Return a batch of events with some data."""
    pad = "x" * size
    return json.dumps(
        [
            {
                "specversion": "1.0",
                "id": f"{prefix}-{i}",
                "source": "/t",
                "type": "t",
                "data": {"pad": f"{i}{pad}"},
            }
            for i in range(count)
        ]
    )


def send(server: Server, body: str) -> bool:
    """Send a batch; whether it was acknowledged."""
    try:
        server.raw("POST", "/api/v1/events", body, "application/cloudevents-batch+json")
    except Unavailable:
        return False
    return True


def doctor(folder: Path) -> str:
    """Return what `tallybook doctor` says of a folder."""
    command = [sys.executable, "-m", "tallybook", "doctor", "--data", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that two workers used: a meter, and ten events of it in the lake."""
    folder = tmp_path_factory.mktemp("used") / "data"
    with Server(folder, workers(2)) as server:
        server.post("/api/v1/catalog/apply", METER, kind="application/toml")
        assert send(server, batch("first", 10))
        server.caught_up()
    return folder


@pytest.fixture
def folder(used: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to be spoilt."""
    return shutil.copytree(used, tmp_path / "data")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 160 MiB of its own."""
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(mount)],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"this user may not mount a file system: {made.stderr.decode().strip()}")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_disk_full_refuses_and_loses_nothing(small_disk: Path) -> None:
    """Acknowledged before, refused while full, accepted after; the total is exact."""
    ballast = small_disk / "ballast"
    acknowledged = 0
    with Server(small_disk / "data", {"TALLYBOOK__LAKE__MAINTAIN_SECONDS": "1"}) as server:
        server.post("/api/v1/catalog/apply", METER, kind="application/toml")
        acknowledged += 100 * send(server, batch("before", 100))
        server.caught_up()
        with ballast.open("wb") as file:
            try:
                while True:
                    file.write(b"\0" * 65536)
                    file.flush()
            except OSError:
                pass  # full: that is the point
        refused = 0
        for i in range(40):
            if send(server, batch(f"full{i}", 200, 5000)):
                acknowledged += 200
            else:
                refused += 1
        assert refused > 0, "a full disk must refuse"
        time.sleep(4)  # long enough that every process wants to write something
        assert server.alive(), "a full disk must not end the server"
        assert "disk" in doctor(small_disk / "data").lower()
        ballast.unlink()
        deadline = time.monotonic() + 60
        while not send(server, batch("after", 50)):
            assert time.monotonic() < deadline, "the server does not recover when the disk has room"
            time.sleep(0.1)
        acknowledged += 50
        server.caught_up()
        counted = server.get("/api/v1/meters/requests/query")["data"][0]["value"]
        assert counted >= acknowledged
        assert server.get("/api/v1/reconcile")["ok"]


def test_a_corrupted_log_row_is_parked_and_counted(folder: Path) -> None:
    """Its events leave the accounts by the quarantine, the partition goes on, doctor tells."""
    log = SqliteEventLog(folder / "log" / "p0.db")
    rows, _ = accept(
        "default",
        batch("second", 7).encode(),
        time.time_ns() // 1000,
        ColumnSet({}),
        AcceptLimits(),
    )
    bad = log.append([Batch(7, encode(rows))])
    rows, _ = accept(
        "default", batch("third", 5).encode(), time.time_ns() // 1000, ColumnSet({}), AcceptLimits()
    )
    log.append([Batch(5, encode(rows))])
    log.close()
    with sqlite3.connect(folder / "log" / "p0.db") as database:
        database.execute(
            "UPDATE batch SET payload = zeroblob(length(payload)) WHERE offset = ?", (bad,)
        )
    database.close()
    with Server(folder) as server:
        server.caught_up()
        counters = server.get("/api/v1/status")["counters"]
        assert (counters["received"], counters["accepted"], counters["quarantined"]) == (22, 15, 7)
        items = server.get("/api/v1/quarantine")["items"]
        assert {item["code"] for item in items} == {"corrupt-log-row"}
        assert server.get("/api/v1/reconcile")["ok"]
        assert list((folder / "log" / "parked").iterdir())
        assert "parked" in doctor(folder)


def test_a_malformed_log_file_is_put_aside(folder: Path) -> None:
    """The file is kept under another name, accepting goes on, doctor tells."""
    for path in (folder / "log").glob("p0.db*"):
        path.unlink()
    (folder / "log" / "p0.db").write_bytes(b"this is no database" * 1000)
    with Server(folder, workers(2)) as server:
        for i in range(6):  # reaches both workers
            assert send(server, batch(f"second{i}", 10))
        server.caught_up()
        assert server.get("/api/v1/meters/requests/query")["data"][0]["value"] == 70
        assert "damaged" in doctor(folder)
    assert list((folder / "log").glob("p0.db.damaged-*"))


def test_a_clock_that_jumps_changes_no_count(folder: Path) -> None:
    """Log rows from next year, then from now: order, trimming and counting go by offsets."""
    year_us = 365 * 24 * 3600 * 1_000_000
    log = SqliteEventLog(folder / "log" / "p0.db")
    rows, _ = accept(
        "default",
        batch("future", 7).encode(),
        time.time_ns() // 1000,
        ColumnSet({}),
        AcceptLimits(),
    )
    ahead = log.append([Batch(7, encode(rows))])
    log.close()
    with sqlite3.connect(folder / "log" / "p0.db") as database:
        database.execute(
            "UPDATE batch SET appended_us = appended_us + ? WHERE offset = ?", (year_us, ahead)
        )
    database.close()
    with Server(folder) as server:
        assert "clock" in doctor(folder)
        assert send(server, batch("third", 5))
        server.caught_up()
        assert server.get("/api/v1/meters/requests/query")["data"][0]["value"] == 22
        assert server.get("/api/v1/reconcile")["ok"]


def test_errors_are_of_our_family(tmp_path: Path) -> None:
    """A log in a place that is no folder is Unavailable, not a driver's exception."""
    (tmp_path / "file").write_text("")
    with pytest.raises(TallybookError):
        SqliteEventLog(tmp_path / "file" / "p0.db")
