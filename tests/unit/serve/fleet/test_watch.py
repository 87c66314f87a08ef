"""The watch beside the event door: it notes who sent, and changes no answer."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tallybook.adapters.sql.database import open_database
from tallybook.adapters.sql.edge.edges import Sighting, SqlEdges
from tallybook.adapters.sqlite.noted_log import NotedLog
from tallybook.collect.sending.parcel import Parcel, headers_of
from tallybook.kernel.errors import Forbidden, Unavailable
from tallybook.serve.api.fleet.notes import Notes
from tallybook.serve.api.fleet.watch import CERTIFIED, FleetWatch
from tallybook.serve.api.ingest import NOTING
from tallybook.transport.ports import Batch


class Grant:
    tenant = "default"


class Gate:
    def check(self, authorization: str | None, scope: str, *, bound: bool = False) -> Grant:
        if authorization != "Bearer good":
            raise Forbidden("who?", code="no-key")
        assert scope == "ingest"
        return Grant()


class NoNotes:
    """A log without notes."""

    def tell(self, _keep: object) -> None: ...

    def tell_all(self, _keep: object) -> None: ...


class Kept:
    def __init__(self) -> None:
        self.away = False
        self.sightings: list[Sighting] = []

    def note(self, sightings: Sequence[Sighting]) -> int:
        if self.away:
            raise Unavailable("away")
        self.sightings += sightings
        return 0


def ask(watch: FleetWatch, headers: dict[str, str], **more: Any) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {}

    scope = {"headers": [(n.encode(), v.encode()) for n, v in headers.items()], **more}
    asyncio.run(watch(scope, receive, send))
    return sent


def answering(status: int) -> Any:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


NOTE = headers_of(Parcel(edge="web-1", incarnation="i", number=7), 5)
GOOD = {**NOTE, "authorization": "Bearer good"}


@pytest.mark.parametrize(("status", "stored"), [(204, True), (200, True), (503, False)])
def test_what_is_noted(status: int, stored: bool) -> None:
    kept = Kept()
    watch = FleetWatch(answering(status), Gate(), kept.note, NoNotes())
    assert ask(watch, GOOD, **{CERTIFIED: "web-1"})[0]["status"] == status
    watch.close()
    (one,) = kept.sightings
    assert (one.tenant, one.seen.stored, one.seen.certified) == ("default", stored, True)
    assert one.seen.note.parcel.number == 7


@pytest.mark.parametrize("headers", [
    NOTE, {**NOTE, "authorization": "Bearer bad"}, {"authorization": "Bearer good"},
    {"authorization": "Bearer good", "tallybook-edge": "no name"},
])  # fmt: skip
def test_whoever_has_no_key_or_no_name_is_not_noted(headers: dict[str, str]) -> None:
    kept = Kept()
    watch = FleetWatch(answering(401), Gate(), kept.note, NoNotes())
    assert len(ask(watch, headers)) == 2
    watch.close()
    assert kept.sightings == []


def test_a_database_that_is_away_loses_no_note_and_changes_no_answer() -> None:
    kept = Kept()
    kept.away = True
    watch = FleetWatch(answering(204), Gate(), kept.note, NoNotes())
    ask(watch, GOOD)
    watch._flush()
    kept.away = False
    ask(watch, GOOD)
    watch.close()
    assert len(kept.sightings) == 2


def storing(log: NotedLog, tenant: str = "default") -> Any:
    """Answer 204 once a batch and its note are in the log."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        log.append_noted([Batch(1, b"x")], [scope[NOTING](tenant)])
        await answering(204)(scope, _receive, send)

    return app


def numbered(number: int) -> dict[str, str]:
    note = headers_of(Parcel(edge="web-1", incarnation="i", number=number), 5)
    return {**note, "authorization": "Bearer good"}


class Killed(BaseException):
    """What SIGKILL is to a process."""


@pytest.mark.parametrize("told_before", [False, True])
def test_a_batch_and_its_note_are_one_transaction_and_told_once(
    tmp_path: Path, told_before: bool
) -> None:
    """Whether it is killed before the control database was told, or right after."""
    edges = SqlEdges(open_database(f"sqlite:///{tmp_path / 'control.db'}"))
    path, forgotten = tmp_path / "p0.db", list[int]()
    log = NotedLog(path)

    def killed(sightings: Sequence[Sighting]) -> int:
        if told_before:
            edges.note(sightings)
        raise Killed

    watch = FleetWatch(storing(log), Gate(), killed, Notes(tmp_path, path, forgotten.append))
    for number in (1, 2, 3):
        ask(watch, numbered(number))
    with pytest.raises(Killed):
        watch._flush()
    log.close()

    log = NotedLog(path)  # the next life of this worker
    notes = Notes(tmp_path, path, forgotten.append)
    watch = FleetWatch(storing(log), Gate(), edges.note, notes)
    ask(watch, numbered(4))
    watch.close()
    (life,) = edges.get("default", "web-1").incarnations
    assert (life.received, life.missing(), life.repeats) == (((1, 4),), (), 0)
    assert forgotten == [4]
    log.forget_notes(4)
    assert log.notes(0, 9) == []
    ask(watch, numbered(4))  # the edge has not heard the answer: it came twice
    watch.close()
    assert edges.get("default", "web-1").incarnations[0].repeats == 1
    notes.close()
    log.close()


def test_what_a_worker_left_that_never_came_back_is_told_by_another(tmp_path: Path) -> None:
    edges = SqlEdges(open_database(f"sqlite:///{tmp_path / 'control.db'}"))
    left = NotedLog(tmp_path / "p1.db")
    for number in (1, 2):
        away = Notes(tmp_path, left.path, lambda _: None)
        ask(FleetWatch(storing(left), Gate(), edges.note, away), numbered(number))
    own = NotedLog(tmp_path / "p0.db")
    for _ in range(2):  # every worker looks, at every start
        notes = Notes(tmp_path, own.path, lambda _: None)
        watch = FleetWatch(storing(own), Gate(), edges.note, notes)
        watch.start()
        watch.close()
        notes.close()
    (life,) = edges.get("default", "web-1").incarnations
    assert (life.received, life.repeats) == (((1, 2),), 0)


def test_a_refused_batch_is_noted_as_not_stored(tmp_path: Path) -> None:
    kept, log = Kept(), NotedLog(tmp_path / "p0.db")

    async def fails(scope: Any, _receive: Any, send: Any) -> None:
        scope[NOTING]("default")  # made, and the disk refused
        await answering(503)(scope, _receive, send)

    watch = FleetWatch(fails, Gate(), kept.note, Notes(tmp_path, log.path, lambda _: None))
    ask(watch, GOOD)
    watch.close()
    assert [one.seen.stored for one in kept.sightings] == [False]
