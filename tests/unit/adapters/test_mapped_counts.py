"""The mapped file of counts under kills, damage and crowds."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tallybook.adapters.mapped.counts import MappedCounts, put_aside
from tallybook.adapters.mapped.locks import ByteLocks
from tallybook.adapters.mapped.table import RECORD_BYTES, SlotFile
from tallybook.admit.plan.bind import place
from tallybook.admit.plan.decide import FRESH, Held, Place
from tallybook.kernel.errors import Corrupt, Unavailable

A = place(("a",))
HAMMER = """
import os, sys
from pathlib import Path
from tallybook.adapters.mapped.counts import MappedCounts, put_aside
from tallybook.admit.plan.bind import place
counts = MappedCounts(Path(sys.argv[1]), put_aside)
A, B, OWN = place(("a",)), place(("b",)), place(("own",), own=True)
def more(held):
    return [(one[0] + 1, *one[1:]) for one in held], None
while True:
    counts.change([A, B, OWN], more)
    os.write(1, b".")
"""


def counts_at(folder: Path) -> MappedCounts:
    return MappedCounts(folder / "limits.bin", put_aside)


def add(counts: MappedCounts, where: Place) -> Held:
    return counts.change([where], lambda held: ([(held[0][0] + 1, *held[0][1:])], held[0]))


def test_killed_writers_lose_no_count_and_give_back_what_is_their_own(tmp_path: Path) -> None:
    path = tmp_path / "limits.bin"
    done = 0
    for _ in range(3):
        writers = [
            subprocess.Popen([sys.executable, "-c", HAMMER, str(path)], stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.read(1) == b"."
            done += 1
        time.sleep(0.2)
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            done += len(writer.communicate()[0])
    counts = counts_at(tmp_path)
    (a, b) = counts.read([A, place(("b",))])
    assert done <= b[0] <= a[0] <= done + 6, "at most the last one of each that was not told"
    assert counts.read([place(("own",), own=True)]) == [FRESH]


def test_a_half_written_record_leaves_the_one_before_it(tmp_path: Path) -> None:
    counts = counts_at(tmp_path)
    add(counts, A)
    add(counts, A)
    slots = SlotFile(tmp_path / "limits.bin", bytes(16))
    at = slots.find(A.name)
    assert at is not None
    found = slots.read(at)
    assert found is not None
    newer = at + RECORD_BYTES * found[2]
    with (tmp_path / "limits.bin").open("r+b") as file:
        file.seek(newer + 30)
        file.write(b"\xff" * 20)  # as if a write had stopped in the middle
    assert counts.read([A]) == [(1, 0, 0, 0)]
    assert add(counts, A) == (1, 0, 0, 0)
    assert counts.read([A]) == counts_at(tmp_path).read([A]) == [(2, 0, 0, 0)]


def test_a_slot_that_cannot_be_read_is_left_and_its_count_begins_anew(tmp_path: Path) -> None:
    counts, other = counts_at(tmp_path), place(("other",))
    add(counts, A)
    add(counts, other)
    slots = SlotFile(tmp_path / "limits.bin", bytes(16))
    at = slots.find(A.name)
    assert at is not None
    with (tmp_path / "limits.bin").open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 2 * RECORD_BYTES)
    fresh = counts_at(tmp_path)
    assert add(fresh, A) == FRESH
    assert fresh.read([A, other]) == [(1, 0, 0, 0), (1, 0, 0, 0)]
    assert slots.find(A.name) != at


@pytest.mark.parametrize("content", [b"x", b"something else entirely" * 10_000])
def test_a_file_that_is_none_of_counts_is_put_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "limits.bin").write_bytes(content)
    counts = counts_at(tmp_path)
    add(counts, A)
    assert counts.read([A]) == [(1, 0, 0, 0)]
    (kept,) = tmp_path.glob("limits.bin.damaged-*")
    assert kept.read_bytes() == content


def test_what_cannot_be_put_aside_stops(tmp_path: Path) -> None:
    (tmp_path / "limits.bin").write_bytes(b"x")
    with pytest.raises(Corrupt):
        MappedCounts(tmp_path / "limits.bin", lambda _path, _error: None)


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        MappedCounts(tmp_path / "file" / "limits.bin", put_aside)
    (tmp_path / "limits.bin").mkdir()
    with pytest.raises(Unavailable):
        counts_at(tmp_path)


def test_nobody_waits_for_ever_for_a_process_that_stopped(tmp_path: Path) -> None:
    counts = counts_at(tmp_path)
    add(counts, A)
    holder = ByteLocks(tmp_path / "limits.lock")
    holder.take(A.stripe)
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="give the counts") as caught:
        add(counts, A)
    assert caught.value.code == "limits-unavailable"
    assert time.monotonic() - begun < 20
    holder.drop(A.stripe)
    assert add(counts, A) == (1, 0, 0, 0)


def test_a_crowd_makes_the_file_longer_for_all(tmp_path: Path) -> None:
    one, two = counts_at(tmp_path), counts_at(tmp_path)
    size = (tmp_path / "limits.bin").stat().st_size
    places = [place(("crowd", str(number))) for number in range(5_000)]
    for where in places:
        add(one, where)
    assert (tmp_path / "limits.bin").stat().st_size > size
    assert {held[0] for held in two.read(places)} == {1}
    assert [add(two, where)[0] for where in places[:10]] == [1] * 10
    one.sync()
    one.sync_all()
    assert one.generation == two.generation
