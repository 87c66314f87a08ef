"""The partition of the front doors: a crash between any two statements, two processes at once.

Guarantee 2 of CONTRACTS §1 for cumulative series: what a series grew by is in the log exactly when
its new standing is. A sender that hears nothing sends again; whatever is struck down, and whoever
writes beside, the growths in the log add up to what a plain oracle says.
"""

import contextlib
import itertools
import os
import random
import signal
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallybook.adapters.sqlite import door_log
from tallybook.adapters.sqlite.door_log import (
    SeriesBounds,
    SeriesCount,
    SqliteDoorLog,
    read_series,
    read_tally,
)
from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.collect.doors.decide import prepare
from tallybook.collect.doors.point import Decoded, Point
from tallybook.collect.doors.rules import NO_RULES
from tallybook.kernel.errors import Unavailable
from tallybook.serve.api.doors.commit import Request
from tallybook.transport.accept import AcceptLimits
from tallybook.transport.codec import decode
from tallybook.transport.columns import ColumnSet

S = 1_000_000
NOW = 2_000_000_000 * S
COLUMNS = ColumnSet({})
SERIES = 3


def point(series: int, value: int, at: int, start: int = 0) -> Point:
    return Point(
        name="requests",
        labels={"instance": f"i{series}"},
        kind="counter",
        time_us=NOW + at * S,
        start_us=NOW + start * S if start else 0,
        value=Decimal(value),
    )


def request(points: list[Point]) -> Request:
    decoded = Decoded(points=tuple(points))
    prepared = prepare("default", "otlp", NO_RULES, decoded, NOW + 86_400 * S)
    return Request(prepared, COLUMNS, AcceptLimits(), NOW)


def opened(path: Path) -> SqliteDoorLog:
    def never(_path: Path, error: Exception) -> None:
        raise AssertionError(f"nothing here is damaged: {error}")

    return SqliteDoorLog(path, lambda: NOW, never)


def stored(path: Path) -> dict[str, tuple[str, int]]:
    """Return every event of the log: id -> (subject, value); two of one id must be equal."""
    log = SqliteEventLog(path, readonly=True)
    found: dict[str, tuple[str, int]] = {}
    for row in log.read(0, 100_000):
        assert row.payload is not None
        for event in decode(row.payload).to_pylist():
            assert event["problem"] is None
            told = (event["subject"] or "", int(msgspec.json.decode(event["data"])["value"]))
            assert found.setdefault(event["id"], told) == told
    log.close()
    return found


def totals(path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for subject, value in stored(path).values():
        found[subject] = found.get(subject, 0) + value
    return found


def rows(path: Path) -> int:
    """Return how many events the log holds, the same twice counted twice."""
    log = SqliteEventLog(path, readonly=True)
    try:
        return log.state().events_total
    finally:
        log.close()


# The default subject of OTLP is none of these labels, so the door is told which one it is.
NO_RULES = msgspec.structs.replace(NO_RULES, subject=["instance"])

LIFE = [
    request([point(s, 10 * n * (s + 1), 10 * n, 1) for s in range(SERIES)]) for n in range(1, 4)
]
TRUTH = {f"i{s}": 30 * (s + 1) for s in range(SERIES)}


class Struck(BaseException):
    """The process is gone."""


class Statements:
    """A connection that counts statements and strikes at one of them."""

    def __init__(self, db):
        self._db, self._count = db, itertools.count(1)

    def __getattr__(self, name):
        return getattr(self._db, name)

    def execute(self, *args):
        StruckTables.strike(next(self._count), args[0])
        return self._db.execute(*args)

    def executemany(self, *args):
        StruckTables.strike(next(self._count), args[0])
        return self._db.executemany(*args)


class StruckTables(door_log._Tables):
    strike = staticmethod(lambda _number, _statement: None)

    def make(self, now_us):
        super().make(now_us)
        self._db = Statements(self._db)


@pytest.fixture
def strikes(monkeypatch):
    """Let a function see, and stop, every statement of the logs that are opened from now on."""

    def strike(function):
        monkeypatch.setattr(StruckTables, "strike", staticmethod(function))
        monkeypatch.setattr(door_log, "_Tables", StruckTables)

    return strike


def statements_of_one_request(tmp_path, strikes) -> list[str]:
    seen: list[str] = []
    strikes(lambda _number, statement: seen.append(statement))
    log = opened(tmp_path / "count.db")
    log.write([LIFE[0]])
    log.close()
    return seen


def test_raised_at_each_statement_nothing_is_lost_or_doubled(tmp_path, strikes):
    count = len(statements_of_one_request(tmp_path, strikes))
    assert count > 8
    for nth in range(1, count + 1):
        path = tmp_path / f"{nth}.db"

        def strike(number, _statement, nth=nth):
            if number == nth:
                raise Struck

        for one in LIFE:
            strikes(strike)
            log = opened(path)
            with contextlib.suppress(Struck):  # later requests make fewer statements
                log.write([one])
            strikes(lambda _number, _statement: None)
            log.write([one])  # the same process goes on
            log.write([one])  # a sender that did not hear
            log.close()
        assert totals(path) == TRUTH, f"struck at statement {nth}"
        assert rows(path) == SERIES * len(LIFE)


def test_killed_at_each_statement_nothing_is_lost_or_doubled(tmp_path, strikes):
    count = len(statements_of_one_request(tmp_path, strikes))
    for nth in range(1, count + 2):  # the last dies after the commit, before it can answer
        path = tmp_path / f"{nth}.db"
        for one in LIFE:
            child = os.fork()
            if child == 0:
                die = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
                strikes(lambda number, _statement, nth=nth, die=die: number == nth and die())
                opened(path).write([one])
                die()
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
            strikes(lambda _number, _statement: None)
            log = opened(path)
            log.write([one])
            log.close()
        assert totals(path) == TRUTH, f"killed at statement {nth}"
        assert rows(path) == SERIES * len(LIFE)


def test_a_full_disk_refuses_the_request_and_the_next_try_counts(tmp_path, strikes):
    import sqlite3

    def full(_number, statement):
        if statement.startswith("INSERT INTO batch"):
            raise sqlite3.OperationalError("database or disk is full")

    strikes(full)
    log = opened(tmp_path / "p.db")
    with pytest.raises(Unavailable):
        log.write([LIFE[0]])
    strikes(lambda _number, _statement: None)
    log.write([LIFE[0]])
    log.close()
    assert totals(tmp_path / "p.db") == {name: total // 3 for name, total in TRUTH.items()}


def test_one_request_that_cannot_be_decided_spoils_no_other(tmp_path):
    class Broken(Request, frozen=True):
        def decide(self, view):
            raise ZeroDivisionError("a bug")

    log = opened(tmp_path / "p.db")
    broken = Broken(LIFE[1].prepared, COLUMNS, AcceptLimits(), NOW)
    answers = log.write([LIFE[0], broken, LIFE[2]])
    log.close()
    assert isinstance(answers[1], ZeroDivisionError)
    assert totals(tmp_path / "p.db") == dict(TRUTH.items())


deliveries = st.lists(
    st.tuples(st.integers(0, SERIES - 1), st.integers(0, 9)), min_size=1, max_size=40
)


@settings(max_examples=30)
@given(deliveries)
def test_any_order_of_requests_makes_what_the_oracle_says(tmp_path_factory, sent):
    """Samples of known start: whatever comes when, and how often, the newest says the total."""
    path = tmp_path_factory.mktemp("doors") / "p.db"
    log = opened(path)
    newest: dict[str, int] = {}
    for series, n in sent:
        log.write([request([point(series, 7 * n, 10 * n + 10, 1)])])
        newest[f"i{series}"] = max(newest.get(f"i{series}", 0), 7 * n)
    log.close()
    assert totals(path) == {name: value for name, value in newest.items() if value}


@pytest.mark.parametrize("seed", range(3))
def test_two_processes_that_deliver_the_same_at_once_count_it_once(tmp_path, seed):
    path = tmp_path / "p.db"
    opened(path).close()
    children = []
    for worker in range(2):
        child = os.fork()
        if child == 0:
            dice = random.Random(f"{seed}/{worker}")
            log = opened(path)
            try:
                for one in LIFE:
                    for _ in range(dice.randint(1, 3)):
                        log.write([one])
                    if dice.random() < 0.3:
                        log.write([dice.choice(LIFE)])
                log.close()
            except BaseException:  # noqa: BLE001
                os._exit(1)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    # A late sample adds nothing and a newer one adds the difference, whoever wrote before.
    assert totals(path) == TRUTH
    tally = {row.reason: row.count for row in read_tally(path, "default")}
    assert tally["events"] == rows(path)
    assert tally["repeated"] > 0


def test_a_damaged_file_is_put_aside_and_a_new_one_takes_its_place(tmp_path):
    path = tmp_path / "p256.db"
    log = opened(path)
    log.write(LIFE[:1])
    log.close()
    path.write_bytes(b"not a database at all" * 1000)
    for companion in tmp_path.glob("p256.db-*"):
        companion.unlink()
    kept = []

    def aside(damaged: Path, error: Exception) -> None:
        kept.append(str(error))
        damaged.rename(damaged.with_suffix(".damaged"))

    log = SqliteDoorLog(path, lambda: NOW + 2 * S, aside)
    with pytest.raises(Unavailable, match="put aside"):
        log.write(LIFE[:1])
    # The new log cannot know what the old one counted: these counters began before it did.
    log.write([LIFE[1], LIFE[2]])
    log.close()
    assert len(kept) == 1
    assert totals(path) == {f"i{s}": 10 * (s + 1) for s in range(SERIES)}


def test_a_log_that_was_replaced_is_opened_anew(tmp_path):
    path = tmp_path / "p256.db"
    log = opened(path)
    log.write(LIFE[:1])
    for file in tmp_path.glob("p256.db*"):
        file.rename(tmp_path / f"old-{file.name}")
    log.write(LIFE[1:2])
    log.close()
    assert rows(path) == SERIES


def test_no_worker_ever_takes_the_doors_partition():
    from tallybook.serve.api.partition import PARTITIONS_MAX
    from tallybook.serve.worker.pipeline import DOORS_PARTITION

    assert DOORS_PARTITION >= PARTITIONS_MAX


def crowded(path: Path, most: int) -> SqliteDoorLog:
    return SqliteDoorLog(path, lambda: NOW, lambda _path, _error: None, SeriesBounds(tenant=most))


DAYS = 86_400


def test_where_series_crowd_the_longest_unseen_are_forgotten_and_come_back_as_baselines(tmp_path):
    path = tmp_path / "p256.db"
    log = crowded(path, 20)
    for series in range(19):  # each seen a day later than the one before
        log.write([request([point(series, 100, (series - 18) * DAYS)])])
    assert log.forget_unseen(NOW - 7 * DAYS * S) == 1  # down to nine tenths, no further
    assert read_series(path) == SeriesCount(
        known=18, forgotten=1, fullest="default", fullest_known=18
    )
    assert log.forget_unseen(NOW - 7 * DAYS * S) == 0
    log.write([request([point(0, 150, 1), point(1, 150, 1)])])
    assert totals(path) == {"i1": 50}  # what the first grew by meanwhile nobody knows
    log.write([request([point(0, 175, 2)])])
    assert totals(path) == {"i0": 25, "i1": 50}
    log.close()


def test_series_of_this_week_are_never_forgotten_and_new_ones_are_refused(tmp_path):
    path = tmp_path / "p256.db"
    log = crowded(path, 5)
    log.write([request([point(series, 10, -series * DAYS) for series in range(5)])])
    assert log.forget_unseen(NOW - 7 * DAYS * S) == 0
    (answer,) = log.write([request([point(9, 10, 1), point(0, 30, 1)])])
    assert (answer.refused, answer.lost) == (1, 1)  # its sender is told
    assert totals(path) == {"i0": 20}
    assert {row.reason: row.count for row in read_tally(path, "default")}["series-limit"] == 1
    log.close()


def test_a_tenant_does_not_take_the_room_of_another(tmp_path):
    path = tmp_path / "p256.db"
    bounds = SeriesBounds(tenant=3, all=5)
    log = SqliteDoorLog(path, lambda: NOW, lambda _path, _error: None, bounds)

    def sent(tenant: str, count: int) -> int:
        points = tuple(point(series, 10, -9 * DAYS) for series in range(count))
        found = prepare(tenant, "otlp", NO_RULES, Decoded(points=points), NOW)
        (answer,) = log.write([Request(found, COLUMNS, AcceptLimits(), NOW)])
        return answer.refused

    assert (sent("a", 5), sent("b", 1), sent("c", 9)) == (2, 0, 8)
    assert read_series(path).fullest == "a"
    assert log.forget_unseen(NOW - 7 * DAYS * S) == 1  # of a's
    log.close()
    bounds = SeriesBounds(tenant=3, all=3)
    log = SqliteDoorLog(path, lambda: NOW, lambda _path, _error: None, bounds)
    assert log.forget_unseen(NOW - 7 * DAYS * S) == 2  # of all
    assert read_series(path).known == 2
    log.close()
    with closing(sqlite3.connect(path)) as db:
        counted = db.execute("SELECT tenant, count(*) FROM series GROUP BY tenant").fetchall()
        told = db.execute("SELECT name, value FROM meta WHERE name GLOB 'series:*'").fetchall()
    assert {f"series:{name}": str(count) for name, count in counted} == {
        name: value for name, value in told if value != "0"
    }


def test_a_file_of_an_older_version_learns_whose_its_series_are(tmp_path):
    path = tmp_path / "p256.db"
    opened(path).write([request([point(0, 10, 0)])])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("ALTER TABLE series DROP COLUMN tenant")
        db.execute("DELETE FROM meta WHERE name GLOB 'series:*'")
    log = opened(path)
    log.write([request([point(0, 15, 1), point(1, 10, 1)])])
    assert totals(path) == {"i0": 5}
    assert read_series(path).fullest_known == 1
    log.close()


@pytest.mark.parametrize("start", [0, 1])
def test_a_forgotten_series_counts_nothing_twice(tmp_path, start):
    """Whatever is sent again later, and whether or not it tells its start."""
    path = tmp_path / "p256.db"
    log = crowded(path, 1)
    life = [request([point(0, 10 * n, n, start)]) for n in range(1, 6)]
    for each in life:
        log.write([each])
    counted = in_lake(path)
    later = NOW + 8 * DAYS * S
    assert log.forget_unseen(later - 7 * DAYS * S) == 1
    for each in (life[4], life[2], life[0]):
        log.write([each])
    again = prepare(
        "default", "otlp", NO_RULES, Decoded(points=(point(0, 70, 8 * DAYS, start),)), later
    )
    log.write([Request(again, COLUMNS, AcceptLimits(), later)])
    assert in_lake(path) == counted + 20  # what it grew by since the newest that came again
    log.close()


def in_lake(path: Path) -> int:
    """Return the sum as the lake has it: of two events with one identity the first counts."""
    log = SqliteEventLog(path, readonly=True)
    found: dict[str, int] = {}
    for row in log.read(0, 1000):
        for event in decode(row.payload or b"").to_pylist():
            found.setdefault(event["id"], int(msgspec.json.decode(event["data"])["value"]))
    log.close()
    return sum(found.values())


def test_an_older_copy_of_the_log_begins_anew_and_counts_nothing_that_the_lake_knows(tmp_path):
    """A restored file whose standings are older than the lake would count growth again."""
    path, backup = tmp_path / "p256.db", tmp_path / "backup.db"
    log = opened(path)
    log.write([LIFE[0]])
    log.close()
    backup.write_bytes(path.read_bytes())
    log = opened(path)
    log.write([LIFE[1]])
    log.close()
    lake, seen = stored(path), SqliteEventLog(path, readonly=True)
    state = seen.state()
    seen.close()
    assert len(lake) == 2 * SERIES  # and the pump has brought it all to the lake
    for part in ("", "-wal", "-shm"):
        path.with_name(path.name + part).unlink(missing_ok=True)
    path.write_bytes(backup.read_bytes())

    log = SqliteDoorLog(path, lambda: NOW + 60 * S, lambda _path, _error: None)
    assert log.trim(lambda epoch: state.last_offset if epoch == state.epoch else 0)
    assert not log.trim(lambda epoch: state.last_offset if epoch == state.epoch else 0)
    log.write([LIFE[2]])
    log.close()
    found = lake | stored(path)
    assert sum(value for _, value in found.values()) <= sum(TRUTH.values())
    assert read_series(path).known == SERIES


def test_a_restore_gives_the_log_another_epoch_and_no_standings(tmp_path):
    path = tmp_path / "p256.db"
    now = [NOW]
    log = SqliteDoorLog(path, lambda: now[0], lambda _path, _error: None)
    log.write([LIFE[0]])
    now[0] += 60 * S
    before = SqliteEventLog(path, readonly=True)
    log.begin_anew()
    after = SqliteEventLog(path, readonly=True)
    assert (before.epoch != after.epoch, read_series(path).known) == (True, 0)
    before.close()
    after.close()
    log.write([LIFE[1]])
    assert totals(path) == {f"i{s}": 10 * (s + 1) for s in range(SERIES)}  # the first life's alone
    log.close()
