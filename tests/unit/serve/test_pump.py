"""The pump and the lake's keeper as objects: damage of one partition stops no other."""

import json
import shutil

import pyarrow as pa
import pytest

from tallybook.adapters.duckdb.source import batches
from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.catalog.meter import MeterSpec, check_meter
from tallybook.kernel.errors import Corrupt, Unavailable
from tallybook.meter.sql import Sql
from tallybook.meter.usage import Counters
from tallybook.serve.api.partition import put_aside, take
from tallybook.serve.worker import pump as pumping
from tallybook.serve.worker.maintain import LakeKeeper
from tallybook.serve.worker.pipeline import (
    caught_up,
    lag,
    partition_numbers,
    read_trim_mark,
    trim_mark,
)
from tallybook.serve.worker.pump import Pump
from tallybook.settings import RetentionSettings, Settings
from tallybook.store import flow
from tallybook.transport.accept import AcceptLimits, accept
from tallybook.transport.codec import encode
from tallybook.transport.columns import ColumnSet
from tallybook.transport.ports import Batch

NOW_US = 1_795_000_000_000_000


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path)


@pytest.fixture
def pump(settings):
    made = Pump(settings)
    yield made
    made.close()


def write(settings, number, ids, value=0):
    """Append one log row of these events to a partition, as a worker does."""
    batch = [
        {
            "specversion": "1.0",
            "id": i,
            "source": "/s",
            "type": "t",
            "data": {"v": value, "x": "y" * 500},
        }
        for i in ids
    ]
    rows, _ = accept("default", json.dumps(batch).encode(), NOW_US, ColumnSet({}), AcceptLimits())
    partition = take(settings.log_dir, number)
    assert partition is not None
    partition.log.append([Batch(len(rows), encode(rows))])
    partition.close()


def drain(pump):
    while (pumped := pump.step()) is not None:
        pump.note(pumped)


def marked(settings, number):
    """Return up to where the pump lets the log of today be trimmed."""
    log = SqliteEventLog(settings.log_dir / f"p{number}.db", readonly=True)
    try:
        return read_trim_mark(trim_mark(settings.log_dir, number), log.epoch)
    finally:
        log.close()


def counted(pump):
    return LakeKeeper(pump._settings).reader.counters("default")


def test_what_is_acknowledged_reaches_the_lake(settings, pump):
    write(settings, 0, ["a", "b"])
    write(settings, 1, ["b", "c"])
    assert not caught_up(settings)
    assert [found.events_behind for found in lag(settings)] == [2, 2]
    drain(pump)
    assert caught_up(settings)
    assert counted(pump) == Counters(received=4, accepted=3, duplicate=1)


def damage(path):
    """Overwrite pages in the middle, which hold rows."""
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(size // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096 * 4)


def test_a_damaged_partition_is_left_out_and_the_others_go_on(settings, pump, monkeypatch):
    for i in range(100):
        write(settings, 0, [f"{i}-{j}" for j in range(50)])
    path = settings.log_dir / "p0.db"
    sound = path.read_bytes()
    damage(path)
    write(settings, 1, ["a", "b"])
    drain(pump)
    assert 0 in pump._retry
    assert counted(pump).accepted >= 2
    pump.say_what_may_go()
    assert marked(settings, 1) == 1
    assert lag(settings)[1].events_behind == 0

    path.write_bytes(sound)  # restored from a copy
    monkeypatch.setattr(pumping, "LEFT_OUT_SECONDS", 0.0)
    pump._retry.clear()
    drain(pump)
    found = counted(pump)
    assert found.accepted + found.quarantined == 5_002
    assert caught_up(settings)


def test_a_row_that_fails_its_checksum_is_parked_and_counted(settings, pump):
    write(settings, 0, ["a", "b"])
    write(settings, 0, ["c"])
    log = SqliteEventLog(settings.log_dir / "p0.db")
    log._db.execute("UPDATE batch SET payload = zeroblob(9) WHERE offset = 1")
    log.close()
    drain(pump)
    assert counted(pump) == Counters(received=3, accepted=1, quarantined=2)
    (parked,) = (settings.log_dir / "parked").iterdir()
    assert parked.read_bytes() == bytes(9)


def test_a_log_that_was_put_aside_is_followed_by_the_one_in_its_place(settings, pump):
    write(settings, 0, ["a"])
    drain(pump)
    put_aside(settings.log_dir / "p0.db", Corrupt("malformed"))
    write(settings, 0, ["a", "b"])
    pump.say_what_may_go()
    drain(pump)
    assert counted(pump) == Counters(received=3, accepted=2, duplicate=1)


def test_an_unreadable_file_is_no_partition_but_no_obstacle(settings, pump):
    write(settings, 1, ["a"])
    (settings.log_dir / "p0.db").write_bytes(b"no database " * 999)
    (settings.log_dir / "px.db").write_bytes(b"")
    drain(pump)
    assert counted(pump).accepted == 1
    assert [found.problem != "" for found in lag(settings)] == [True, False]
    assert partition_numbers(settings.log_dir) == [0, 1]


def test_conflicts_are_kept_where_an_operator_finds_them(settings, pump):
    write(settings, 0, ["a"], value=1)
    write(settings, 0, ["a"], value=2)
    write(settings, 0, ["a"], value=1)
    drain(pump)
    assert counted(pump).id_conflict == 1
    (line,) = (settings.lake_dir / "conflicts.jsonl").read_text().splitlines()
    kept = json.loads(line)
    assert (kept["id"], kept["commit_seq"], json.loads(kept["data"])["v"]) == ("a", 1, 2)


def test_nothing_is_trimmed_before_it_is_in_the_lake_and_old_enough(tmp_path):
    settings = Settings(data_dir=tmp_path, retention=RetentionSettings(log_hours=1))
    pump = Pump(settings)
    write(settings, 0, ["a"])
    pump.say_what_may_go()
    assert marked(settings, 0) == 0
    drain(pump)
    pump.say_what_may_go()
    assert marked(settings, 0) == 0, "younger than an hour"
    pump.close()


def test_a_keeper_trims_what_no_worker_writes(settings, pump):
    write(settings, 0, ["a"])
    drain(pump)
    pump.say_what_may_go()
    LakeKeeper(settings).round()
    assert lag(settings)[0].stored_bytes == 0
    held = take(settings.log_dir, 0)
    assert held is not None, "the keeper gave the partition back"
    held.close()


def test_after_the_index_is_lost_it_is_built_again(settings):
    first = Pump(settings)
    write(settings, 0, ["a", "b"])
    drain(first)
    first.close()
    shutil.rmtree(settings.lake_dir / "index")
    second = Pump(settings)
    write(settings, 0, ["b", "c"])
    drain(second)
    assert counted(second) == Counters(received=4, accepted=3, duplicate=1)
    second.close()


def test_a_lake_older_than_its_index_is_refused(settings):
    first = Pump(settings)
    write(settings, 0, ["a"])
    drain(first)
    first.close()
    shutil.rmtree(settings.lake_dir / "events")
    second = Pump(settings)
    with pytest.raises(Corrupt, match="lake/index"):
        second.step()
    second.close()


def test_a_full_disk_stops_nothing_for_good(settings, pump, monkeypatch):
    write(settings, 0, ["a"])
    drain(pump)
    folder = settings.log_dir / "parked"
    folder.write_text("in the way")
    log = SqliteEventLog(settings.log_dir / "p0.db")
    log.append([Batch(1, b"noise")])
    log._db.execute("UPDATE batch SET crc = 1 WHERE offset = 2")
    log.close()
    with pytest.raises(Unavailable):
        pump.step()
    folder.unlink()
    pump.recover()
    drain(pump)
    assert counted(pump) == Counters(received=2, accepted=1, quarantined=1)


def test_a_mark_of_a_damaged_log_trims_nothing_of_the_one_in_its_place(settings, pump):
    for i in range(5):
        write(settings, 0, [f"old-{i}"])
    drain(pump)
    pump.say_what_may_go()
    assert marked(settings, 0) == 5
    put_aside(settings.log_dir / "p0.db", Corrupt("malformed"))
    write(settings, 0, ["new"])
    assert marked(settings, 0) == 0, "offset 1 of the new log is not in the lake yet"
    LakeKeeper(settings).round()
    pump.say_what_may_go()
    drain(pump)
    assert counted(pump).accepted == 6
    pump.say_what_may_go()
    assert marked(settings, 0) == 1


def test_a_meter_that_cannot_be_rolled_up_holds_up_nothing_else(settings, pump, monkeypatch):
    """A sum past 38 digits, which any sender can make, must not end the keeper of the lake."""
    keeper = LakeKeeper(settings)
    meters = [
        check_meter(MeterSpec(key=key, event_type="t", aggregation="SUM", value="$.v"))
        for key in ("bad", "good")
    ]
    monkeypatch.setattr(keeper._catalog, "all_meters", lambda: [("default", m) for m in meters])
    tried = []

    def build(tenant, meter):
        tried.append(meter.key)
        if meter.key == "bad":
            past = "SELECT sum(CAST('9e25' AS DECIMAL(38,12))) FROM range(2)"
            with batches(keeper.reader.source.cursor(), Sql(past), 1):
                raise AssertionError("a sum past 38 digits was found")
        return False

    monkeypatch.setattr(keeper.reader.rollups, "build", build)
    keeper.round()
    assert tried == ["bad", "good"]


def test_a_step_is_bounded_by_bytes_however_few_the_events(settings, pump, monkeypatch):
    monkeypatch.setattr(flow, "COMMIT_BYTES_MAX", 10_000)
    for number in (0, 1):
        for i in range(5):
            write(settings, number, [f"{number}-{i}-{j}" for j in range(20)])
    steps = []
    while (pumped := pump.step()) is not None:
        steps.append((pumped.received, pumped.more))
    assert steps == [(40, True)] * 5, "a row of each partition, then the next"
    assert counted(pump) == Counters(received=200, accepted=200)


def test_trim_marks_that_say_nothing(tmp_path):
    assert read_trim_mark(tmp_path / "absent", "e1") == 0
    for text in ("soon", "7", "e1", "e1 ", "e1 soon", "e1 -7", "e2 7", "e1 \u00b2"):
        (tmp_path / "odd").write_text(text)
        assert read_trim_mark(tmp_path / "odd", "e1") == 0, text
    (tmp_path / "odd").write_text("e1 7")
    assert read_trim_mark(tmp_path / "odd", "e1") == 7


@pytest.mark.parametrize(
    ("received", "more", "took", "seconds"),
    [
        (1, False, 0.01, pumping.COMMIT_SECONDS),
        (pumping.BUSY_EVENTS - 1, False, 0.07, pumping.COMMIT_SECONDS),
        (pumping.BUSY_EVENTS, False, 0.1, pumping.BUSY_SECONDS),
        (pumping.BUSY_EVENTS, False, 0.21, 0.7),
        (1, False, 0.21, 0.7),
        (1, False, 9.0, pumping.SLOW_SECONDS_MAX),
        (flow.COMMIT_EVENTS_MAX, True, 0.3, 0.0),
    ],
)
def test_what_comes_fast_fills_larger_commits_and_a_backlog_waits_for_nothing(
    received, more, took, seconds
):
    conflicts = pa.table({})
    made = flow.Pumped(seq=1, received=received, stored=received, conflicts=conflicts, more=more)
    assert pumping.pause_after(made, took) == pytest.approx(seconds)
    assert seconds < 1, "what is accepted can be asked for within two seconds"


def test_large_log_rows_are_read_a_few_at_a_time_and_none_is_left(settings, pump, monkeypatch):
    monkeypatch.setattr(flow, "READ_BYTES_MAX", 1)
    for i in range(5):
        write(settings, 0, [f"{i}-{j}" for j in range(20)])
    asked = []
    read = SqliteEventLog.read

    def reading(log, after, rows_max, bytes_max=None):
        asked.append(len(found := read(log, after, rows_max, bytes_max)))
        return found

    monkeypatch.setattr(SqliteEventLog, "read", reading)
    pumped = pump.step()
    assert (pumped.received, pumped.more) == (100, False)
    assert max(asked) == 1


def test_a_large_damaged_row_does_not_hide_what_follows_it(settings, pump, monkeypatch):
    monkeypatch.setattr(flow, "READ_BYTES_MAX", 20_000)
    for i in range(5):
        write(settings, 0, [f"{i}-{j}" for j in range(20)])
    partition = take(settings.log_dir, 0)
    try:
        database = partition.log._db
        database.execute("UPDATE batch SET payload = zeroblob(20000) WHERE offset = 2")
    finally:
        partition.close()
    pumped = pump.step()
    assert (pumped.received, pumped.more) == (100, False)
    assert pump.step() is None


def test_the_engine_gives_back_after_every_step_of_a_roll_up(settings, monkeypatch):
    keeper = LakeKeeper(settings)
    meter = check_meter(MeterSpec(key="m", event_type="t", aggregation="SUM", value="$.v"))
    monkeypatch.setattr(keeper._catalog, "all_meters", lambda: [("default", meter)])
    steps, done = iter([True, True, False]), []
    monkeypatch.setattr(
        keeper.reader.rollups, "build", lambda *_: done.append("step") or next(steps)
    )
    release = keeper.reader.source.release
    monkeypatch.setattr(keeper.reader.source, "release", lambda: done.append("back") or release())
    keeper.roll_up()
    assert done == ["step", "back", "step", "back", "step"]
