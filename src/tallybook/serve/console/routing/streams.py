"""Streams: rules with what they delivered, streams with their lag, groups with dead letters."""

from typing import Any

from litestar import Request, Response, get, post
from litestar.response import Redirect

from tallybook.adapters.sqlite.streams import SqliteGroups, SqliteShares, SqliteStreamReader
from tallybook.compose import World
from tallybook.route.ports import GroupAt
from tallybook.serve.api.rest.streams.routes import shown
from tallybook.serve.api.rest.streams.streams import all_streams
from tallybook.serve.api.rest.streams.views import (
    group_view,
    letter_view,
    record_view,
    stream_view,
)
from tallybook.serve.console.access import BILLING_PAGE, PAGE, sent_by, session_of
from tallybook.serve.console.auth import Form
from tallybook.serve.console.forms import needed, to
from tallybook.serve.console.render import html

RECENT = 20
LETTERS = 50


@get("/streams", opt=PAGE, sync_to_thread=True)
def streams_page(request: "Request[Any, Any, Any]", world: World) -> Response[bytes]:
    """Show every rule and every stream."""
    session = session_of(request)
    tenant = session.grant.tenant
    return html(
        "routing/streams.html",
        session=session,
        here="streams",
        rules=shown(world, tenant, world.rules.rules(tenant)),
        streams=all_streams(world, tenant),
    )


@get("/streams/{name:str}", opt=PAGE, sync_to_thread=True)
def stream_page(request: "Request[Any, Any, Any]", world: World, name: str) -> Response[bytes]:
    """Show one stream: its groups, their dead letters, its newest records."""
    session = session_of(request)
    tenant = session.grant.tenant
    reader, groups = SqliteStreamReader(world.streams_file), SqliteGroups(world.streams_file)
    stream, members = reader.stream(tenant, name), groups.groups(tenant, name)
    newest = reader.read(tenant, name, max(0, stream.next_offset - 1 - RECENT), RECENT)
    shares = SqliteShares(world.streams_file)
    letters = [
        (group.name, letter_view(letter))
        for group in members
        for letter in shares.dead_letters(GroupAt(tenant, name, group.name), 0, LETTERS)
    ]
    return html(
        "routing/stream.html",
        session=session,
        here="streams",
        stream=stream_view(stream, members),
        groups=[group_view(group) for group in members],
        letters=letters,
        records=[record_view(record) for record in reversed(newest)],
        may_redrive=session.grant.allows("billing"),
    )


@post("/streams/{name:str}/redrive", opt=BILLING_PAGE, sync_to_thread=True)
def redrive_letters(
    request: "Request[Any, Any, Any]", world: World, name: str, data: Form
) -> Redirect:
    """Hand the dead letters of a group out again."""
    session = sent_by(request, data)
    at = GroupAt(session.grant.tenant, name, needed(data, "group"))
    SqliteShares(world.streams_file).redrive(at, None, world.clock.now_us())
    return to(f"/streams/{name}")
