"""`/streams/{name}/sse`: Server-Sent Events, for a group or only to look.

A group's records are leased to the connection. Each event's id carries the lease, so that a client
that comes back with `Last-Event-ID`, as every EventSource does by itself, acknowledges all it got.
A connection lasts half a lease at most: a live client comes back in time, and a dead one's records
go to others when the lease ends.
"""

import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from anyio.to_thread import run_sync
from litestar import Request, get
from litestar.params import Parameter
from litestar.response import Stream

from tallybook.adapters.sqlite.streams import SqliteGroups, SqliteShares, SqliteStreamReader
from tallybook.compose import World
from tallybook.kernel.errors import Invalid, TallybookError
from tallybook.route.ports import Answer, GroupAt
from tallybook.serve.api.common.access import READ
from tallybook.serve.api.common.problem import encoded, problem_of
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.streams.records import AnyGroup, leased
from tallybook.serve.api.rest.streams.views import RecordView, record_view
from tallybook.serve.api.rest.streams.waiting import Waits

SECONDS_MAX = 300.0
HEARTBEAT_SECONDS = 10.0
BATCH = 100
BATCHES_MAX = 100
"""Sent on one connection to a group: an EventSource comes back and acknowledges them."""
_ID = re.compile(r"([0-9]{1,13})(?:-(lse_[0-9a-z]{26})\.([0-9]{1,3}))?\Z")

LastId = Annotated[
    str | None,
    Parameter(
        header="last-event-id", required=False, description="The id of the last event received."
    ),
]
From = Annotated[
    Literal["earliest", "latest"],
    Parameter(query="from", description="Without a group and Last-Event-ID: where to begin."),
]


@get("/streams/{name:str}/sse", opt=READ, tags=["routing"], media_type="text/event-stream")
async def follow_stream(
    world: World,
    grant: Grant,
    request: "Request[Any, Any, Any]",
    name: str,
    group: AnyGroup = None,
    from_: From = "latest",
    last_event_id: LastId = None,
) -> Stream:
    """Follow a stream as Server-Sent Events, one `record` event each; resumed by Last-Event-ID.

    For a group, an event's record counts as processed when the client comes back with its id, or
    when it is acknowledged by `ack` with the lease that the id ends with.
    """
    last = _last(last_event_id)
    waits: Waits = request.app.state.waits
    if group is not None:
        at = GroupAt(grant.tenant, name, group)
        seconds = await run_sync(_begin, world, at, last)
        lines = _for_group(world, grant, waits, at, seconds)
    else:
        after = await run_sync(_after, world, grant.tenant, name, from_, last)
        lines = _look(world, grant, waits, name, after)
    return Stream(lines, media_type="text/event-stream")


class _Last(msgspec.Struct, frozen=True):
    """The last event a client got: its record, and which batch of which connection it was in."""

    offset: int = 0
    connection: str = ""
    batch: int = 0

    def answers(self) -> list[Answer]:
        """Return what the client has: earlier batches, this one so far; the rest goes back."""
        if not self.connection:
            return []
        at = min(self.batch, BATCHES_MAX)
        leases = [f"{self.connection}.{n}" for n in range(BATCHES_MAX)]
        got = [Answer(lease=lease) for lease in leases[:at]]
        got += [Answer(lease=one, up_to=self.offset, release=True) for one in leases[at : at + 1]]
        return got + [Answer(lease=lease, offsets=(), release=True) for lease in leases[at + 1 :]]


def _last(text: str | None) -> _Last:
    if text is None:
        return _Last()
    found = _ID.match(text)
    if found is None:
        message = "Last-Event-ID is not one that this stream sent; leave it out"
        raise Invalid(message, field="last-event-id")
    return _Last(int(found[1]), found[2] or "", int(found[3] or 0))


def _begin(world: World, at: GroupAt, last: _Last) -> float:
    """Acknowledge what the client got before; return how long the connection may last."""
    group = SqliteGroups(world.streams_file).group(at.tenant, at.stream, at.group)
    for answer in last.answers():
        SqliteShares(world.streams_file).acknowledge(at, answer, world.clock.now_us())
    return min(SECONDS_MAX, group.terms.lease_seconds / 2)


def _after(world: World, tenant: str, name: str, start: str, last: _Last) -> int:
    stream = SqliteStreamReader(world.streams_file).stream(tenant, name)
    if last.offset:
        return last.offset
    return (stream.first_offset if start == "earliest" else stream.next_offset) - 1


async def _for_group(
    world: World, grant: Grant, waits: Waits, at: GroupAt, seconds: float
) -> AsyncIterator[bytes]:
    """Send what the group is handed; acknowledged when the client comes back."""
    until, batch = time.monotonic() + seconds, 0
    connection = world.ids.new("lse")
    yield b"retry: 500\n\n"
    try:
        with waits.place(grant):
            while time.monotonic() < until and batch < BATCHES_MAX and not waits.over:
                wait = min(HEARTBEAT_SECONDS, until - time.monotonic())
                lease = f"{connection}.{batch}"
                handed = await leased(world, waits, at, lease, BATCH, wait)
                if handed is None:
                    yield b": still here\n\n"
                    continue
                for record in handed.records:
                    view = record_view(record, handed.attempts.get(record.offset, 0))
                    yield _event(f"{record.offset}-{lease}", view)
                batch += 1
    except TallybookError as error:
        yield b"event: problem\ndata: " + encoded(problem_of(error)) + b"\n\n"


async def _look(
    world: World, grant: Grant, waits: Waits, name: str, after: int
) -> AsyncIterator[bytes]:
    file = await run_sync(lambda: world.streams_file)
    reader = SqliteStreamReader(file)
    until, beat = time.monotonic() + SECONDS_MAX, time.monotonic()
    yield b"retry: 500\n\n"
    try:
        with waits.place(grant):
            while time.monotonic() < until and not waits.over:
                found = await run_sync(reader.read, grant.tenant, name, after, BATCH)
                for record in found:
                    yield _event(str(record.offset), record_view(record))
                    after = record.offset
                if found:
                    continue
                if time.monotonic() - beat > HEARTBEAT_SECONDS:
                    beat = time.monotonic()
                    yield b": still here\n\n"
                await waits.change(file.changes, HEARTBEAT_SECONDS)
    except TallybookError as error:
        yield b"event: problem\ndata: " + encoded(problem_of(error)) + b"\n\n"


def _event(id: str, view: RecordView) -> bytes:
    return f"id: {id}\nevent: record\ndata: ".encode() + msgspec.json.encode(view) + b"\n\n"
