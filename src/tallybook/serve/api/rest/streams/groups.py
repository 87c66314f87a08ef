"""`/streams/{name}/groups`: made, moved, taken away."""

from typing import Literal

import msgspec
from litestar import Controller, Response, delete, get, post

from tallybook.adapters.sqlite.streams import SqliteGroups
from tallybook.compose import World
from tallybook.kernel.errors import Invalid
from tallybook.route.ports import NewGroup, Start
from tallybook.route.rule import check_name
from tallybook.route.sharing import (
    ATTEMPTS_DEFAULT,
    LEASE_SECONDS_DEFAULT,
    Group,
    GroupTerms,
    checked_terms,
)
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.instants import moment
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, keyed_page
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.streams.unmoved import OWN_TAG, IfMatch, unmoved
from tallybook.serve.api.rest.streams.views import GroupView, group_view


class GroupSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group to be made.

    Attributes:
        to: where it begins: the oldest record kept, the next one to come, the first one routed at
            or after `time`, or an `offset`.
        lease_seconds: how long a member has for a batch before others get it.
        attempts_max: how often a record may fail alone before it is a dead letter.
        ordered: one batch at a time, so that order holds for the whole group.
    """

    name: str
    to: Literal["earliest", "latest", "time", "offset"] = "latest"
    time: str | None = None
    offset: int = 0
    lease_seconds: int = LEASE_SECONDS_DEFAULT
    attempts_max: int = ATTEMPTS_DEFAULT
    ordered: bool = False


class Seek(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a group goes on.

    Attributes:
        to: as when a group is made; 'after-loss' forgets only what retention dropped unread.
    """

    to: Literal["earliest", "latest", "time", "offset", "after-loss"]
    time: str | None = None
    offset: int = 0


def start_of(asked: GroupSpec | Seek) -> Start:
    """Return where to begin; raises Invalid."""
    time_us = moment(asked.time, "time")
    if asked.to == "time" and time_us is None:
        raise Invalid("time must be named, such as 2026-11-01T00:00:00Z", field="time")
    return Start(to=asked.to, time_us=time_us or 0, offset=asked.offset)


class Groups(Controller):
    """Groups of consumers."""

    path = "/streams/{name:str}/groups"
    tags = ("routing",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_groups(
        self,
        world: World,
        grant: Grant,
        name: str,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Page[GroupView]:
        """List the groups of a stream with their lag, by name."""
        found = SqliteGroups(world.streams_file).groups(grant.tenant, name)
        views = [group_view(group) for group in found]
        return keyed_page(views, limit, cursor, lambda view: view.name)

    @post("/", opt=BILLING, sync_to_thread=True)
    def add_group(self, world: World, grant: Grant, name: str, data: GroupSpec) -> GroupView:
        """Make a group."""
        check_name(data.name, "name")
        terms = GroupTerms(
            lease_seconds=data.lease_seconds,
            attempts_max=data.attempts_max,
            ordered=data.ordered,
        )
        new = NewGroup(
            tenant=grant.tenant,
            stream=name,
            name=data.name,
            terms=checked_terms(terms),
            at=start_of(data),
            now_us=world.clock.now_us(),
        )
        return group_view(SqliteGroups(world.streams_file).create(new))

    @get("/{group:str}", opt=READ, sync_to_thread=True)
    def get_group(self, world: World, grant: Grant, name: str, group: str) -> Response[GroupView]:
        """Show a group: where it stands, which is its ETag, and how far it is behind."""
        return _shown(SqliteGroups(world.streams_file).group(grant.tenant, name, group))

    @post("/{group:str}/seek", opt=OWN_TAG, status_code=200, sync_to_thread=True)
    def seek_group(
        self,
        world: World,
        grant: Grant,
        name: str,
        group: str,
        data: Seek,
        if_match: IfMatch = None,
    ) -> Response[GroupView]:
        """Move a group; what its members have and did not acknowledge is handed out anew."""
        groups = SqliteGroups(world.streams_file)
        at, check = start_of(data), unmoved(if_match)
        return _shown(groups.seek(grant.tenant, name, group, at, check))

    @delete("/{group:str}", opt=OWN_TAG, sync_to_thread=True)
    def remove_group(
        self, world: World, grant: Grant, name: str, group: str, if_match: IfMatch = None
    ) -> None:
        """Take a group away, with its dead letters."""
        SqliteGroups(world.streams_file).delete(grant.tenant, name, group, unmoved(if_match))


def _shown(group: Group) -> Response[GroupView]:
    return Response(group_view(group), headers={"etag": group.tag})
