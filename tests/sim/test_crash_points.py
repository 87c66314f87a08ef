"""A crash between any two writes of the pump and of upkeep repeats work without repeating effect.

Guarantee 2 of CONTRACTS §1, DECISIONS 9. Every write of a short life is a point; the life is lived
once for each point, struck down there, opened anew and continued. Counters, rows and aggregates
must be those of the life without a crash. The same again for a disk that refuses once, where the
process goes on with what it has.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tallybook.adapters.delta.event_table import DeltaEventTable
from tallybook.adapters.runs.index import RunIndex
from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.catalog.meter import MeterSpec, check_meter
from tallybook.kernel.errors import Unavailable
from tallybook.meter.usage import UsageQuery
from tallybook.serve.worker.maintain import LakeKeeper
from tallybook.settings import Settings
from tallybook.store.flow import catch_up
from tallybook.store.ports import Commit, LogPosition
from tests.sim.road import Road, event

SUM = check_meter(MeterSpec(key="s", event_type="t", aggregation="SUM", value="$.v"))
COUNT = check_meter(MeterSpec(key="c", event_type="t", aggregation="COUNT"))
ROUNDS = 4


class Crash(BaseException):
    """The process is gone: nothing may catch it and go on."""


class Points:
    """Counts the writes; strikes at one of them."""

    def __init__(self, strike_at: int, kind: Callable[[], BaseException]):
        self.strike_at, self.kind, self.passed = strike_at, kind, []

    def at(self, name: str) -> None:
        self.passed.append(name)
        if len(self.passed) == self.strike_at:
            raise self.kind()


class StruckTable(DeltaEventTable):
    points: Points

    def append(self, rows, commit: Commit) -> None:
        self.points.at("before the lake commit")
        super().append(rows, commit)
        self.points.at("after the lake commit")

    def replace(self, old, rows) -> int:
        self.points.at("before a merge of files")
        written = super().replace(old, rows)
        self.points.at("after a merge of files")
        return written

    def _written(self, path, pieces, count):
        added = super()._written(path, pieces, count)
        self.points.at("between file and commit")
        return added

    def tidy(self, keep_hours) -> list[str]:
        self.points.at("before the clean-up")
        deleted = super().tidy(keep_hours)
        self.points.at("after the clean-up")
        return deleted

    def _fsync_version(self, version) -> None:
        self.points.at("between commit and fsync")
        super()._fsync_version(version)


class StruckIndex(RunIndex):
    points: Points

    def put(self, seq, keys, row_hash) -> None:
        self.points.at("before the index")
        super().put(seq, keys, row_hash)
        self.points.at("after the index")

    def _write_memory(self):
        self.points.at("before a run file")
        super()._write_memory()
        self.points.at("after a run file")


class StruckLog(SqliteEventLog):
    points: Points

    def read(self, after, rows_max, bytes_max=None):
        self.points.at("before the log is read")
        return super().read(after, rows_max, bytes_max)

    def trim(self, upto) -> None:
        self.points.at("before the trim")
        super().trim(upto)
        self.points.at("after the trim")


class Life(Road):
    """A road of which every write is a point."""

    def __init__(self, folder: Path, points: Points):
        self.points = points
        self.settings = Settings(data_dir=folder)
        super().__init__(folder, partitions=2)
        self.meters = [SUM]
        self.open_logs()

    def open_logs(self) -> None:
        for log in self.logs:
            log.close()
        self.logs = [StruckLog(log.path) for log in self.logs]
        for log in self.logs:
            log.points = self.points

    def open_lake(self) -> None:
        super().open_lake()
        self.table.__class__, self.index.__class__ = StruckTable, StruckIndex
        self.table.points = self.index.points = self.points
        self.keeper = LakeKeeper(self.settings)
        self.keeper.table.__class__, self.keeper.table.points = StruckTable, self.points

    def work(self) -> None:
        """One turn: pump all, flush and merge the index, trim, roll up, compact, clean."""
        while self.pump() is not None:
            pass
        self.index.flush()
        for number, log in enumerate(self.logs):
            log.trim(self.table.offset(LogPosition(log.epoch, number)))
        self.roll([SUM, COUNT], steps=1)
        while self.keeper.compact():
            pass
        self.keeper.tidy(0)


def batches(turn: int) -> list[list[dict[str, object]]]:
    """Return what is sent in a turn: new events, repeated ones, a conflict, an unreadable one."""
    time = f"2026-11-0{turn + 1}T00:00:00Z"
    new = [event(f"e{turn}-{i}", time, "a", {"v": turn * 10 + i}) for i in range(5)]
    old = [event(f"e{turn - 1}-{i}", f"2026-11-0{turn}T00:00:00Z", "a", {"v": 0}) for i in range(2)]
    return [[*new, new[0], {"id": f"bad{turn}"}], [*(old if turn else []), new[1]]]


def outcome(life: Life) -> list[object]:
    head = life.reader.head()
    span = (life.reader.span("default", "t", head) or (0, 0), 10**18)
    bounds = (span[0][0], span[1])
    rows = [
        life.reader.usage(UsageQuery(tenant="default", meter=m, bounds=bounds, cut=head))
        for m in (SUM, COUNT)
    ]
    stored = [
        (e.id, e.data, e.problem)
        for bad in (False, True)
        for e in life.reader.recent("default", limit=1000, quarantined=bad)
    ]
    counted = life.reader.counters("default")
    assert counted.received == counted.accepted + counted.duplicate + counted.quarantined
    assert life.reader.stored("default", head).accepted == counted.accepted
    return [rows, sorted(stored, key=str), counted]


def live(folder: Path, points: Points, recover: Callable[[Life], None]) -> list[object]:
    life = Life(folder, points)
    for turn in range(ROUNDS):
        for partition, batch in enumerate(batches(turn)):
            life.send(batch, partition=partition)
        try:
            life.work()
        except (Crash, Unavailable):
            recover(life)
            life.work()
    found = outcome(life)
    life.close()
    return found


def reopen(life: Life) -> None:
    """Start again from what is on disk, as a new process does."""
    life.open_logs()
    life.open_lake()


def go_on(life: Life) -> None:
    """Continue with the objects at hand, as the pump does after a disk error."""
    catch_up(life.index, life.table)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Let merges of index and files happen within the short life."""
    merge = "tallybook.serve.worker.maintain.next_merge"
    monkeypatch.setattr(merge, lambda files: list(files) if len(files) > 2 else [])
    monkeypatch.setattr("tallybook.adapters.runs.index.FANOUT", 2)


def never() -> BaseException:
    raise AssertionError("this life is not struck")


def refused() -> BaseException:
    return Unavailable("No space left on device")


@pytest.mark.parametrize(
    ("kind", "recover"), [(Crash, reopen), (refused, go_on)], ids=["crash", "disk"]
)
def test_no_point_changes_the_outcome(tmp_path, kind, recover):
    whole = Points(0, never)
    expected = live(tmp_path / "whole", whole, reopen)
    seen = set()
    for at, name in enumerate(whole.passed, start=1):
        if whole.passed[:at].count(name) not in {1, ROUNDS - 1}:
            continue  # the first times and a late one say as much as all
        points = Points(at, kind)
        assert live(tmp_path / str(at), points, recover) == expected, (at, name)
        seen.add(name)
    assert seen == set(whole.passed)
    assert len(seen) >= 12


def test_a_file_that_was_written_but_not_committed_is_no_part_of_the_lake(tmp_path):
    points = Points(0, never)
    life = Life(tmp_path, points)
    life.send(batches(0)[0])
    life.work()
    (data,) = (tmp_path / "lake" / "events").glob("*.parquet")
    before = outcome(life)
    data.with_name("part-orphan.parquet").write_bytes(data.read_bytes())
    reopen(life)
    assert outcome(life) == before
    life.keeper.tidy(0)
    assert outcome(life) == before
    life.close()
