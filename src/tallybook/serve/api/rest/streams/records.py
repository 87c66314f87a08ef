"""`/streams/{name}/records`, `ack`, `fail`: how consumers get records and answer for them."""

import time
from functools import partial
from typing import Annotated, Any

import msgspec
from anyio.to_thread import run_sync
from litestar import Controller, Request, get, post
from litestar.params import Parameter

from tallybook.adapters.sqlite.streams import SqliteShares, SqliteStreamReader
from tallybook.compose import World
from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import format_us
from tallybook.route.ports import Answer, Answered, GroupAt, Handed
from tallybook.route.sharing import REASON_CHARS_MAX, lease_lost
from tallybook.serve.api.common.access import READ
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.streams.views import GroupName, RecordView, record_view
from tallybook.serve.api.rest.streams.waiting import Waits

RECORDS_MAX = 1_000
WAIT_SECONDS_MAX = 30

Most = Annotated[int, Parameter(query="max", ge=1, le=RECORDS_MAX, description="Records at once.")]
Wait = Annotated[
    int, Parameter(ge=0, le=WAIT_SECONDS_MAX, description="How long to wait for the first record.")
]
After = Annotated[int, Parameter(ge=0, description="Without a group: records after this id.")]
AnyGroup = Annotated[
    str | None,
    Parameter(query="group", required=False, description="A group; without it, only a look."),
]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Records that were handed out together, or only looked at.

    Attributes:
        lease: what the answer names; '' where there are no records, or no group was named.
        until: when others may have them; null without a lease.
        records: in the order of the stream.
    """

    lease: str
    until: str | None
    records: list[RecordView]


class AckSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a member has processed: `ids`, everything `up_to` one, or else the whole lease."""

    lease: str
    ids: list[int] | None = None
    up_to: int | None = None


class FailSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a member could not process: the `ids` it knows to be at fault, or the whole batch.

    Attributes:
        reason: stands on the dead letter, should it come to one.
    """

    lease: str
    reason: str
    ids: list[int] | None = None


class LeaseSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A lease whose member is still at work."""

    lease: str


class Extended(msgspec.Struct, frozen=True, kw_only=True):
    """A lease that goes on.

    Attributes:
        until: when others may have what is not answered by then, RFC 3339.
    """

    lease: str
    until: str


class AnsweredView(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an answer.

    Attributes:
        acknowledged: records taken off the group's list.
        set_aside: records to be handed out again, in smaller parts.
        dead_letters: records that were given up.
        lost: ids that another member has by now.
    """

    acknowledged: list[int] = []
    set_aside: list[int] = []
    dead_letters: list[int] = []
    lost: list[int] = []


def batch_view(handed: Handed | None) -> Batch:
    """Return what was handed out as the API shows it."""
    if handed is None:
        return Batch(lease="", until=None, records=[])
    attempts = handed.attempts
    views = [record_view(record, attempts.get(record.offset, 0)) for record in handed.records]
    return Batch(lease=handed.lease, until=format_us(handed.until_us), records=views)


def _answer(lease: str, ids: list[int] | None, up_to: int | None, reason: str = "") -> Answer:
    if not lease:
        raise Invalid("name the lease that the records came with", field="lease")
    if ids is not None and up_to is not None:
        raise Invalid("name ids or up_to, not both", field="up_to")
    if ids is not None and len(ids) > RECORDS_MAX:
        raise Invalid(f"at most {RECORDS_MAX} ids at once", field="ids")
    offsets = None if ids is None else tuple(ids)
    return Answer(lease=lease, offsets=offsets, up_to=up_to, reason=reason)


def _checked(answered: Answered) -> Answered:
    if answered.lost and not answered.done:
        raise lease_lost()
    return answered


class Records(Controller):
    """Records of a stream, shared by the members of a group."""

    path = "/streams/{name:str}"
    tags = ("routing",)

    @get("/records", opt=READ)
    async def get_records(
        self,
        world: World,
        grant: Grant,
        request: "Request[Any, Any, Any]",
        name: str,
        group: AnyGroup = None,
        most: Most = 100,
        wait_seconds: Wait = 0,
        after: After = 0,
    ) -> Batch:
        """Get records: for a group, on a lease, waiting for the first; else only a look.

        A batch is handed out whole to one member. What is not acknowledged when the lease ends is
        handed to others. A group that retention overtook is refused with 410 and told what it
        lost.
        """
        if group is None:
            reader = SqliteStreamReader(await run_sync(lambda: world.streams_file))
            found = await run_sync(reader.read, grant.tenant, name, after, most)
            return Batch(lease="", until=None, records=[record_view(record) for record in found])
        at = GroupAt(grant.tenant, name, group)
        waits: Waits = request.app.state.waits
        with waits.place(grant):
            lease = world.ids.new("lse")
            return batch_view(await leased(world, waits, at, lease, most, wait_seconds))

    @post("/ack", opt=READ, status_code=200, sync_to_thread=True)
    def acknowledge(
        self, world: World, grant: Grant, name: str, group: GroupName, data: AckSpec
    ) -> AnsweredView:
        """Acknowledge records; the same again changes nothing."""
        at, shares = GroupAt(grant.tenant, name, group), SqliteShares(world.streams_file)
        answer = _answer(data.lease, data.ids, data.up_to)
        answered = _checked(shares.acknowledge(at, answer, world.clock.now_us()))
        return AnsweredView(acknowledged=answered.done, lost=answered.lost)

    @post("/extend", opt=READ, status_code=200, sync_to_thread=True)
    def extend(
        self, world: World, grant: Grant, name: str, group: GroupName, data: LeaseSpec
    ) -> Extended:
        """Give a lease its whole time again, from now, for work that takes longer.

        A lease that ended goes on too, as long as nobody else was handed the records.
        """
        at, shares = GroupAt(grant.tenant, name, group), SqliteShares(world.streams_file)
        until_us = shares.extend(at, data.lease, world.clock.now_us())
        return Extended(lease=data.lease, until=format_us(until_us))

    @post("/fail", opt=READ, status_code=200, sync_to_thread=True)
    def fail(
        self, world: World, grant: Grant, name: str, group: GroupName, data: FailSpec
    ) -> AnsweredView:
        """Say that a batch could not be processed: it is handed out again in halves.

        Where `ids` are named, these stand alone at once, and the others stay with the member. A
        record that fails alone too often becomes a dead letter with the reason.
        """
        at, shares = GroupAt(grant.tenant, name, group), SqliteShares(world.streams_file)
        answer = _answer(data.lease, data.ids, None, data.reason[:REASON_CHARS_MAX])
        answered = _checked(shares.fail(at, answer, world.clock.now_us()))
        aside = [one for one in answered.done if one not in set(answered.dead)]
        return AnsweredView(set_aside=aside, dead_letters=answered.dead, lost=answered.lost)


async def leased(
    world: World, waits: Waits, at: GroupAt, lease: str, most: int, wait_seconds: float
) -> Handed | None:
    """Return records on a lease, waiting for the first; no thread is held meanwhile."""
    file = await run_sync(lambda: world.streams_file)
    shares = SqliteShares(file)
    deadline = time.monotonic() + wait_seconds
    while True:
        hand_out = partial(shares.lease, at, lease, most, world.clock.now_us())
        handed = await run_sync(hand_out)
        left = deadline - time.monotonic()
        if handed is not None or left <= 0 or waits.over:
            return handed
        await waits.change(file.changes, left)
