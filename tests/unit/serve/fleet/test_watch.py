"""The watch beside the event door: it notes who sent, and changes no answer."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tallybook.adapters.sql.edge.edges import Sighting
from tallybook.collect.sending.parcel import Parcel, headers_of
from tallybook.kernel.errors import Forbidden, Unavailable
from tallybook.serve.api.fleet.watch import CERTIFIED, FleetWatch


class Grant:
    tenant = "default"


class Gate:
    def check(self, authorization: str | None, scope: str, *, bound: bool = False) -> Grant:
        if authorization != "Bearer good":
            raise Forbidden("who?", code="no-key")
        assert scope == "ingest"
        return Grant()


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
    watch = FleetWatch(answering(status), Gate(), kept.note)
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
    watch = FleetWatch(answering(401), Gate(), kept.note)
    assert len(ask(watch, headers)) == 2
    watch.close()
    assert kept.sightings == []


def test_a_database_that_is_away_loses_no_note_and_changes_no_answer() -> None:
    kept = Kept()
    kept.away = True
    watch = FleetWatch(answering(204), Gate(), kept.note)
    ask(watch, GOOD)
    watch._flush()
    kept.away = False
    ask(watch, GOOD)
    watch.close()
    assert len(kept.sightings) == 2
