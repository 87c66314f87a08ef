"""A disk that is full: what was acknowledged leaves, and the disk gets room again."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tallybook.adapters.files.refused import RefusedFile
from tallybook.adapters.sqlite.spool import Reserve, SqliteSpool
from tallybook.kernel.errors import Invalid, Unavailable
from tallybook.transport.ports import Batch

DRILL = """
import os, sys
from pathlib import Path
from tallybook.adapters.sqlite.spool import SqliteSpool
from tallybook.kernel.errors import Unavailable
from tallybook.transport.ports import Batch

spool = SqliteSpool(Path(sys.argv[1]) / "spool.db", reserve_bytes=6 << 20)
for turn in range(3):
    number = 0
    try:
        while True:
            batch = Batch(10, os.urandom(int(sys.argv[2])))
            spool.append([batch], {"file": f"{turn} {number}"})
            number += 1
    except Unavailable as error:
        assert "full" in str(error), error
    assert number > 4, number
    assert spool.waiting().batches == number
    assert spool.cursors() == {"file": f"{turn} {number - 1}"}, "the cursor moves with its batch"
    while (row := spool.oldest()) is not None:
        assert row.payload is not None
        spool.drop(row.offset)
        number -= 1
    assert number == 0
spool.close()
"""


@pytest.mark.parametrize(("size", "disk"), [(2_000, "15m"), (60_000, "20m"), (900_000, "20m")])
def test_a_spool_that_fills_its_disk_is_emptied_and_filled_again(
    size: int, disk: str, tmp_path: Path
) -> None:
    """Forgetting a row is a write as well, and a full disk takes none."""
    script, small = tmp_path / "drill.py", tmp_path / "small"
    script.write_text(DRILL)
    small.mkdir()
    command = f"mount -t tmpfs -o size={disk} none {small} && exec {sys.executable} {script}"
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", f"{command} {small} {size}"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no file system of our own here: {done.stderr}")
    assert done.returncode == 0, done.stderr


def test_a_reserve_is_held_given_back_and_held_again(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "r", 4096)
    assert not reserve.held
    assert reserve.hold()
    assert (tmp_path / "r").stat().st_size == 4096
    assert Reserve(tmp_path / "r", 4096).held
    reserve.release()
    assert not (tmp_path / "r").exists()
    assert not Reserve(tmp_path / "none" / "r", 4096).hold()


def test_nothing_is_appended_without_a_reserve_or_as_much_room_inside(tmp_path: Path) -> None:
    spool = SqliteSpool(tmp_path / "spool.db", reserve_bytes=1 << 62)  # more than any disk has
    with pytest.raises(Unavailable, match="full"):
        spool.append([Batch(1, b"x")])
    spool.close()


def test_half_a_refused_event_does_not_spoil_the_next(tmp_path: Path) -> None:
    parking, error = RefusedFile(tmp_path), Invalid("no")
    parking.park(b'{"id":"1"}', error)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15, hard))
    try:
        with pytest.raises(Unavailable):
            parking.park(b'{"id":"2"}', error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    parking.park(b'{"id":"3"}', error)
    assert parking.events.read_bytes() == b'{"id":"1"}\n{"id":"3"}\n'
