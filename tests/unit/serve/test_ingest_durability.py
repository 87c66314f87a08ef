"""What the event door promises of the disk: shared flushes, and no answer before it is durable."""

import asyncio
import threading
import time

import pytest

from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.kernel.errors import Invalid, Unavailable
from tallybook.serve.api.group_commit import WAITING_EVENTS_MAX, GroupCommit, merged
from tallybook.serve.api.partition import take, take_lowest
from tallybook.serve.worker.pipeline import mark_text
from tallybook.transport.accept import accept
from tallybook.transport.columns import ColumnSet
from tallybook.transport.rows import Rows
from tests.unit.serve.event_door import (
    COLUMNS,
    KEY,
    LIMITS,
    Server,
    as_json,
    event,
)


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path / "log")
    yield made
    made.close()


def test_a_client_that_goes_away_stores_nothing(server):
    async def cut():
        said = [{"type": "http.request", "body": as_json(event())[:9], "more_body": True}]
        heard = []

        async def receive():
            return said.pop(0) if said else {"type": "http.disconnect"}

        async def tell(message):
            heard.append(message)

        headers = [(b"authorization", KEY)]
        await server.app({"type": "http", "headers": headers}, receive, tell)
        return heard[0]["status"]

    assert asyncio.run(cut()) == 503
    assert server.stored() == []


def test_a_full_disk_is_said_and_nothing_is_stored(server):
    (pages,) = server.log._db.execute("PRAGMA page_count").fetchone()
    server.log._db.execute(f"PRAGMA max_page_count = {pages}")
    noise = [
        event(str(i), data={"x": "".join(chr(33 + i * j % 89) for j in range(900))})
        for i in range(50)
    ]
    status, headers, found = server.post(as_json(noise))
    assert status == 503
    assert headers[b"retry-after"] == b"1"
    assert found["code"] == "unavailable"
    assert "full" in found["detail"]
    assert server.stored() == []
    server.log._db.execute("PRAGMA max_page_count = 100000")
    assert server.post(as_json(noise))[0] == 204
    assert len(server.stored()) == 50


def test_a_bug_while_storing_is_heard_by_who_waits(server):
    def broken():
        rows, _ = accept("acme", as_json([event()]), 0, COLUMNS, LIMITS)
        rows.ids = [5]
        return rows

    heard = threading.Event()
    failures = []

    def note(tokens, error):
        failures.append(error)
        heard.set()

    commit = GroupCommit(server.log, note, server.log.path.with_suffix(".none"))
    commit.submit(broken(), "token")
    assert heard.wait(5)
    commit.close()
    assert isinstance(failures[0], Unavailable)


class SlowLog(SqliteEventLog):
    """A disk that takes its time, and counts."""

    flushes = 0

    def append(self, batches, cursors=None):
        self.flushes += 1
        time.sleep(0.05)
        return super().append(batches, cursors)


def test_requests_share_flushes(server):
    server.log.__class__ = SlowLog

    async def many():
        return await asyncio.gather(*[server.send(as_json(event(str(i)))) for i in range(100)])

    assert {status for status, _, _ in asyncio.run(many())} == {204}
    assert len(server.stored()) == 100
    assert server.log.flushes <= 10
    assert len(server.log.read(0, 1000)) <= 10


def test_nothing_is_answered_before_it_is_durable(server):
    server.log.__class__ = SlowLog

    async def one():
        task = asyncio.create_task(server.send(as_json(event())))
        await asyncio.sleep(0.02)
        early = task.done()
        await task
        return early

    assert asyncio.run(one()) is False


def test_a_client_that_left_while_the_disk_worked(server):
    server.log.__class__ = SlowLog

    async def leave():
        task = asyncio.create_task(server.send(as_json(event("1"))))
        await asyncio.sleep(0.01)
        task.cancel()
        return (await server.send(as_json(event("2"))))[0]

    assert asyncio.run(leave()) == 204
    assert [e["id"] for e in server.stored()] == ["1", "2"]


def test_a_loop_that_ended_does_not_stop_the_flushes(server):
    server.log.__class__ = SlowLog

    async def abandon():
        asyncio.create_task(server.send(as_json(event("1"))))  # noqa: RUF006
        await asyncio.sleep(0.01)

    asyncio.run(abandon())
    assert server.post(as_json(event("2")))[0] == 204


def test_close_flushes_and_then_refuses(tmp_path):
    made = Server(tmp_path)
    made.log.__class__ = SlowLog
    rows, _ = accept("acme", as_json([event()]), 0, COLUMNS, LIMITS)
    told = []
    commit = GroupCommit(
        made.log, lambda tokens, error: told.append((tokens, error)), tmp_path / "m"
    )
    for i in range(5):
        commit.submit(rows, i)
    commit.close()
    assert sorted(token for tokens, _ in told for token in tokens) == [0, 1, 2, 3, 4]
    assert {error for _, error in told} == {None}
    with pytest.raises(Unavailable):
        commit.submit(rows, 9)
    made.close()
    assert len(SqliteEventLog(made.log.path).read(0, 100)) >= 1


def test_a_mark_of_another_epoch_trims_nothing(server, tmp_path):
    """The log of a worker that found its own damaged starts at offset 1 again."""
    rows, _ = accept("acme", as_json([event()]), 0, COLUMNS, LIMITS)
    mark = tmp_path / "mark"
    commit = GroupCommit(server.log, lambda *_: None, mark)
    commit.submit(rows, "token")
    commit.close()
    mark.write_text(mark_text("of-the-damaged-log", 5000))
    commit._trim()
    assert [row.offset for row in server.log.read(0, 10)] == [1]
    mark.write_text(mark_text(server.log.epoch, 1))
    commit._trim()
    assert server.log.read(0, 10) == []


def test_too_much_waiting_is_told_to_come_back(server):
    gate, writing = threading.Event(), threading.Event()

    class Stuck(SqliteEventLog):
        def append(self, batches, cursors=None):
            writing.set()
            gate.wait(60)
            return super().append(batches, cursors)

    server.log.__class__ = Stuck
    rows = Rows(COLUMNS)
    for _ in range(40):
        rows.extend(
            accept("acme", as_json([event(str(i)) for i in range(50)]), 0, COLUMNS, LIMITS)[0]
        )
    commit = GroupCommit(server.log, lambda *_: None, server.log.path.with_suffix(".none"))
    commit.submit(rows, 0)
    assert writing.wait(10)  # the first is being written; what follows waits
    for i in range(WAITING_EVENTS_MAX // len(rows)):
        commit.submit(rows, i)
    with pytest.raises(Unavailable) as caught:
        commit.submit(rows, 0)
    assert caught.value.retry_after_seconds == 1
    with commit._wake:
        commit._waiting.clear()
    gate.set()
    commit.close()


def test_events_from_python(server):
    found = server.app.accept("acme", as_json([event("1"), {"id": "x"}]), partial=True)
    assert (found.stored, len(found.quarantined)) == (1, 1)
    with pytest.raises(Invalid) as caught:
        server.app.accept("acme", as_json([event("2"), {"id": "x"}]))
    assert caught.value.code == "missing-attribute"
    assert server.app.accept("acme", b"[]").stored == 0
    server.log.__class__ = SlowLog
    with pytest.raises(Unavailable, match="send the same events again"):
        server.app.accept("acme", as_json([event("3")]), timeout_seconds=0.001)


def test_large_requests_become_few_rows():
    rows, _ = accept("acme", as_json([event(str(i)) for i in range(50)]), 0, COLUMNS, LIMITS)
    other = Rows(ColumnSet({}))
    other.extend(accept("acme", as_json([event("x")]), 0, other.columns, LIMITS)[0])
    assert [len(r) for r in merged([rows] * 3)] == [150]
    assert [len(r) for r in merged([rows, other, rows])] == [50, 1, 50]
    assert sum(len(r) for r in merged([rows] * 1000)) == 50_000


def test_one_writer_a_partition(tmp_path):
    first, second = take_lowest(tmp_path), take_lowest(tmp_path)
    assert (first.number, second.number) == (0, 1)
    assert take(tmp_path, 0) is None
    first.close()
    again = take(tmp_path, 0)
    assert again is not None
    assert again.log.epoch == first.log.epoch
    again.close()
    second.close()


def test_a_partition_that_cannot_be_opened_is_given_up_again(tmp_path):
    (tmp_path / "p0.db").mkdir()
    for _ in range(3):
        with pytest.raises(Unavailable):
            take(tmp_path, 0)
    (tmp_path / "p0.db").rmdir()
    made = take(tmp_path, 0)
    assert made is not None, "nobody holds its lock"
    made.close()


def test_a_damaged_log_is_put_aside_and_accepting_goes_on(tmp_path):
    (tmp_path / "p0.db").write_bytes(b"no database at all, " * 300)
    made = take_lowest(tmp_path)
    assert made.number == 0
    (aside,) = tmp_path.glob("p0.db.damaged-*")
    assert aside.read_bytes().startswith(b"no database")
    made.close()
