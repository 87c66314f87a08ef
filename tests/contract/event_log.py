"""One suite for every `EventLog`: each test tries to break a sentence of the port."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallybook.adapters.memory.event_log import MemoryEventLog
from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.adapters.sqlite.spool import SqliteSpool
from tallybook.kernel.errors import Corrupt, Unavailable
from tallybook.transport.ports import Batch, EventLog


class Bench(Protocol):
    """A log under test, and what a test may do to it from outside."""

    log: EventLog

    def reopen(self) -> EventLog: ...
    def damage(self, offset: int) -> None: ...


class MemoryBench:
    def __init__(self) -> None:
        self.log: EventLog = MemoryEventLog()

    def reopen(self) -> EventLog:
        return self.log

    def damage(self, offset: int) -> None:
        assert isinstance(self.log, MemoryEventLog)
        self.log.damage(offset)


class SqliteBench:
    def __init__(self, path: Path, kind: type[SqliteEventLog] = SqliteEventLog) -> None:
        self.path = path
        self.kind = kind
        self.log: EventLog = kind(path)

    def reopen(self) -> EventLog:
        self.close()
        self.log = self.kind(self.path)
        return self.log

    def damage(self, offset: int) -> None:
        with sqlite3.connect(self.path) as db:
            row = db.execute("SELECT payload FROM batch WHERE offset = ?", (offset,)).fetchone()
            flipped = bytes([row[0][0] ^ 1]) + row[0][1:]
            db.execute("UPDATE batch SET payload = ? WHERE offset = ?", (flipped, offset))
        db.close()

    def close(self) -> None:
        assert isinstance(self.log, SqliteEventLog)
        self.log.close()


@pytest.fixture(params=["memory", "sqlite", "spool"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "memory":
        yield MemoryBench()
        return
    kind = SqliteSpool if request.param == "spool" else SqliteEventLog
    made = SqliteBench(tmp_path / "log" / "p0.db", kind)
    yield made
    made.close()


A, B, C = Batch(1, b"a"), Batch(2, b"bb"), Batch(3, b"ccc")


def test_a_new_log_is_empty(bench: Bench) -> None:
    state = bench.log.state()
    assert (state.first_offset, state.last_offset) == (1, 0)
    assert (state.events_total, state.stored_bytes) == (0, 0)
    assert bench.log.read(0, 10) == []
    assert bench.log.cursors() == {}


def test_what_is_appended_is_read_in_order_with_running_totals(bench: Bench) -> None:
    last = bench.log.append([A, B])
    assert bench.log.append([C]) > last
    rows = bench.log.read(0, 10)
    assert [(r.events, r.events_total, r.payload) for r in rows] == [
        (1, 1, b"a"),
        (2, 3, b"bb"),
        (3, 6, b"ccc"),
    ]
    assert [r.offset for r in rows] == sorted({r.offset for r in rows})
    assert rows[1].offset == last
    assert rows[0].appended_us <= rows[2].appended_us


def test_reading_goes_on_after_an_offset_and_stops_at_the_bound(bench: Bench) -> None:
    bench.log.append([A, B, C])
    first = bench.log.read(0, 1)
    assert [r.payload for r in first] == [b"a"]
    assert [r.payload for r in bench.log.read(first[0].offset, 10)] == [b"bb", b"ccc"]
    assert bench.log.read(bench.log.state().last_offset, 10) == []


def test_reading_stops_with_the_row_that_reaches_so_many_bytes(bench: Bench) -> None:
    bench.log.append([A, B, C])
    for bytes_max, expected in [(1, [b"a"]), (2, [b"a", b"bb"]), (4, [b"a", b"bb", b"ccc"])]:
        assert [r.payload for r in bench.log.read(0, 10, bytes_max)] == expected
    assert [r.payload for r in bench.log.read(0, 1, 100)] == [b"a"]
    assert len(bench.log.read(0, 10, 100)) == 3


def test_cursors_go_with_the_batch_and_are_replaced_by_name(bench: Bench) -> None:
    bench.log.append([A], {"x": "1", "y": "1"})
    bench.log.append([], {"x": "2"})
    assert bench.log.cursors() == {"x": "2", "y": "1"}
    assert bench.log.state().events_total == 1


def test_trimming_drops_the_oldest_for_good(bench: Bench) -> None:
    bench.log.append([A, B, C])
    second = bench.log.read(0, 2)[1].offset
    bench.log.trim(second)
    assert [r.payload for r in bench.log.read(0, 10)] == [b"ccc"]
    state = bench.log.state()
    assert state.first_offset == state.last_offset
    assert (state.events_total, state.stored_bytes) == (6, 3)


def test_offsets_are_not_reused_after_everything_was_trimmed(bench: Bench) -> None:
    last = bench.log.append([A, B])
    bench.log.trim(last)
    state = bench.log.state()
    assert (state.first_offset, state.last_offset) == (last + 1, last)
    log = bench.reopen()
    assert log.append([C]) > last
    assert log.read(0, 10)[0].events_total == 6


def test_everything_survives_reopening_in_the_same_epoch(bench: Bench) -> None:
    epoch = bench.log.state().epoch
    bench.log.append([A, B], {"x": "1"})
    before = bench.log.read(0, 10)
    log = bench.reopen()
    assert log.state().epoch == epoch
    assert log.read(0, 10) == before
    assert log.cursors() == {"x": "1"}


def test_two_logs_have_two_epochs(bench: Bench, tmp_path: Path) -> None:
    other = SqliteEventLog(tmp_path / "other.db")
    assert other.state().epoch != bench.log.state().epoch
    other.close()


def test_a_damaged_row_has_no_payload_and_its_neighbours_are_whole(bench: Bench) -> None:
    bench.log.append([A, B, C])
    bench.damage(bench.log.read(0, 2)[1].offset)
    assert [r.payload for r in bench.reopen().read(0, 10)] == [b"a", None, b"ccc"]
    assert [r.events for r in bench.log.read(0, 10)] == [1, 2, 3]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    st.lists(
        st.one_of(
            st.lists(st.binary(min_size=1, max_size=40), max_size=4),
            st.integers(min_value=0, max_value=30),
            st.just("reopen"),
        ),
        max_size=15,
    )
)
def test_any_sequence_keeps_exactly_what_was_not_trimmed(
    tmp_path_factory: pytest.TempPathFactory, actions: list[list[bytes] | int | str]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    for bench in (MemoryBench(), SqliteBench(folder / "p.db")):
        kept: list[tuple[int, bytes]] = []
        total = 0
        for action in actions:
            if isinstance(action, list):
                before = bench.log.state().last_offset
                last = bench.log.append([Batch(1, p) for p in action], {"total": str(total)})
                total += len(action)
                new = bench.log.read(before, 100)
                assert [r.payload for r in new] == action
                assert not new or new[-1].offset == last
                kept += [(r.offset, r.payload or b"") for r in new]
            elif isinstance(action, int):
                bench.log.trim(action)
                kept = [pair for pair in kept if pair[0] > action]
            else:
                bench.reopen()
            assert [(r.offset, r.payload) for r in bench.log.read(0, 1000)] == kept
            state = bench.log.state()
            assert state.events_total == total
            assert state.stored_bytes == sum(len(p) for _, p in kept)
        if isinstance(bench, SqliteBench):
            bench.close()


def test_sqlite_a_failed_append_leaves_neither_batch_nor_cursor(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "p.db")
    log.append([A], {"x": "1"})
    blocker = sqlite3.connect(tmp_path / "p.db", isolation_level=None)
    blocker.execute("CREATE TRIGGER full BEFORE INSERT ON batch WHEN NEW.events = 3"
                    " BEGIN SELECT RAISE(ABORT, 'disk full'); END")  # fmt: skip
    with pytest.raises(Unavailable, match="disk full"):
        log.append([B, C], {"x": "2"})
    blocker.close()
    assert [r.payload for r in log.read(0, 10)] == [b"a"]
    assert log.cursors() == {"x": "1"}
    assert log.append([B]) == log.state().last_offset
    log.close()


def test_sqlite_a_reader_beside_the_writer_sees_what_was_acknowledged(tmp_path: Path) -> None:
    writer = SqliteEventLog(tmp_path / "p.db")
    writer.append([A])
    reader = SqliteEventLog(tmp_path / "p.db", readonly=True)
    writer.append([B])
    assert [r.payload for r in reader.read(0, 10)] == [b"a", b"bb"]
    with pytest.raises(Unavailable):
        reader.append([C])
    reader.close()
    writer.close()


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be one" * 50])
def test_sqlite_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.db"
    path.write_bytes(content)
    with pytest.raises(Corrupt):
        SqliteEventLog(path)


def test_sqlite_a_missing_file_or_folder_is_unavailable(tmp_path: Path) -> None:
    attempts: list[Callable[[], EventLog]] = [
        lambda: SqliteEventLog(tmp_path / "none.db", readonly=True),
        lambda: SqliteEventLog(tmp_path / "file" / "p.db"),
    ]
    (tmp_path / "file").write_text("in the way")
    for attempt in attempts:
        with pytest.raises(Unavailable):
            attempt()


def test_a_cursor_set_to_nothing_is_forgotten(bench: Bench) -> None:
    bench.log.append([A], {"one": "1", "two": "2"})
    bench.log.append([], {"one": "", "never": "", "three": "3"})
    assert bench.log.cursors() == {"two": "2", "three": "3"}
    assert bench.reopen().cursors() == {"two": "2", "three": "3"}
