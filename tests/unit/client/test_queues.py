"""Where events wait: bounded in memory, durable in a folder that processes share."""

import threading
import time
from pathlib import Path

import pytest

from tallybook import Unavailable
from tallybook.adapters.sqlite.spool import SqliteSpool
from tallybook.client.buffer import MemoryQueue
from tallybook.client.spool import SUFFIX, SpoolFile, SpoolQueue

MB = 1 << 20


def pieces(*numbers):
    return [b'{"id":"%d"}' % n for n in numbers]


def test_memory_gives_the_oldest_and_keeps_them_until_they_are_done():
    queue = MemoryQueue(100, MB, "raise", None)
    queue.put(pieces(1, 2, 3))
    taken = queue.head(2, MB)
    assert taken is not None
    assert taken.pieces == pieces(1, 2)
    assert queue.waiting() == 3
    queue.done(taken)
    assert queue.head(9, MB).pieces == pieces(3)
    assert queue.head(9, 1).pieces == pieces(3)  # at least one, however small the bound


def test_full_memory_raises_or_waits_for_room():
    queue = MemoryQueue(2, MB, "raise", None)
    queue.put(pieces(1, 2))
    with pytest.raises(Unavailable) as refused:
        queue.put(pieces(3))
    assert refused.value.code == "buffer-full"
    assert queue.waiting() == 2

    waiting = MemoryQueue(2, MB, "block", None)
    waiting.put(pieces(1, 2))
    thread = threading.Thread(target=waiting.put, args=(pieces(3),))
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive()
    waiting.done(waiting.head(1, MB))
    thread.join(5)
    assert waiting.waiting() == 2

    patient = MemoryQueue(2, MB, "block", 0.05)
    patient.put(pieces(1, 2))
    with pytest.raises(Unavailable):
        patient.put(pieces(3))


def test_a_batch_larger_than_memory_enters_an_empty_queue():
    queue = MemoryQueue(2, 10, "raise", None)
    queue.put(pieces(1, 2, 3))
    assert queue.waiting() == 3


def test_a_spool_keeps_events_until_they_are_done(tmp_path):
    queue = SpoolQueue(tmp_path, MB)
    queue.put(pieces(1, 2))
    queue.put(pieces(3))
    taken = queue.head(2, MB)
    assert taken.pieces == pieces(1, 2)
    queue.done(taken)
    assert queue.waiting() == 1
    assert queue.head(9, MB).pieces == pieces(3)
    queue.close()


def test_what_a_process_left_is_taken_over_and_its_file_removed(tmp_path):
    left = SpoolFile(tmp_path / f"1-dead{SUFFIX}")
    left.append(pieces(1, 2))
    left.close(remove=False)
    queue = SpoolQueue(tmp_path, MB)
    assert queue.waiting() == 2
    queue.put(pieces(3))
    found = []
    while (taken := queue.head(9, MB)) is not None:
        found += taken.pieces
        queue.done(taken)
    assert sorted(found) == pieces(1, 2, 3)
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) == 1
    queue.close()
    assert not list(tmp_path.glob(f"*{SUFFIX}*"))


def test_a_file_whose_process_lives_is_left_alone(tmp_path):
    first, second = SpoolQueue(tmp_path, MB), SpoolQueue(tmp_path, MB)
    first.put(pieces(1))
    assert second.head(9, MB) is None
    assert second.waiting() == 0
    second.close()
    assert first.waiting() == 1
    first.close()


def test_a_damaged_row_is_set_aside_and_the_rest_goes_on(tmp_path):
    queue = SpoolQueue(tmp_path, MB)
    queue.put(pieces(1))
    queue.put(pieces(2))
    queue.put(pieces(3))
    queue._own._spool._db.execute("UPDATE batch SET payload = x'00' WHERE offset = 2")
    taken = queue.head(9, MB)
    assert taken.pieces == pieces(1, 3)
    queue.done(taken)
    assert queue.damaged == 1
    assert [path.read_bytes() for path in tmp_path.glob("damaged-*")] == [b"\0"]
    queue.close()


def test_a_row_that_is_damaged_alone_does_not_stand_in_the_way(tmp_path):
    queue = SpoolQueue(tmp_path, MB)
    queue.put(pieces(1))
    queue._own._spool._db.execute("UPDATE batch SET payload = x'00'")
    assert queue.head(9, MB) is None
    assert queue.waiting() == 0
    queue.close()


def test_a_file_that_is_no_spool_is_kept_under_another_name(tmp_path):
    (tmp_path / f"1-bad{SUFFIX}").write_bytes(b"this is no database at all" * 200)
    queue = SpoolQueue(tmp_path, MB)
    assert queue.damaged == 1
    assert len(list(tmp_path.glob("damaged-*.db"))) == 1
    queue.close()


def test_a_full_spool_says_so(tmp_path):
    queue = SpoolQueue(tmp_path, 1)
    queue.put(pieces(1))
    with pytest.raises(Unavailable) as refused:
        queue.put(pieces(2))
    assert refused.value.code == "buffer-full"
    queue.close()


def test_threads_share_flushes_and_none_is_lost(tmp_path):
    queue = SpoolQueue(tmp_path, 64 * MB)
    threads = [
        threading.Thread(target=lambda at=at: [queue.put(pieces(at * 50 + n)) for n in range(50)])
        for at in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert queue.waiting() == 400
    found = []
    while (taken := queue.head(90, MB)) is not None:
        found += taken.pieces
        queue.done(taken)
    assert sorted(found) == sorted(pieces(*range(400)))
    queue.close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        SpoolQueue(Path(tmp_path / "file" / "spool"), MB)


def test_a_spool_is_read_in_small_pieces(tmp_path, monkeypatch):
    """A row has up to a MiB: what a long outage has left must not come into memory at once."""
    queue = SpoolQueue(tmp_path, 1 << 30)
    for n in range(100):
        queue.put([b'{"n":%d}' % n])
    asked = []
    real = SqliteSpool.read

    def reading(self, after, rows_max):
        asked.append(rows_max)
        return real(self, after, rows_max)

    monkeypatch.setattr(SqliteSpool, "read", reading)
    taken = queue.head(70, 1 << 20)
    assert taken.pieces == [b'{"n":%d}' % n for n in range(70)]
    assert asked == [32, 32, 32]
    queue.done(taken)
    assert queue.head(1000, 1 << 20).pieces == [b'{"n":%d}' % n for n in range(70, 100)]
    queue.close()
