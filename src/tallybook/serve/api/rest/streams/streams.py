"""`/streams`: what there is, and how long it keeps records."""

from litestar import Controller, Response, get, put

from tallybook.adapters.sqlite.streams import SqliteGroups, SqliteStreamReader
from tallybook.compose import World
from tallybook.route.rule import check_name
from tallybook.route.stream import KeepChange, Stream
from tallybook.serve.api.common.access import READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, keyed_page
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.streams.unmoved import OWN_TAG, IfMatch, unmoved
from tallybook.serve.api.rest.streams.views import StreamView, stream_view


def all_streams(world: World, tenant: str) -> list[StreamView]:
    """Return every stream with what its groups lack; looking makes no file where none is."""
    if not world.settings.streams_db.exists():
        return []
    groups = SqliteGroups(world.streams_file).groups(tenant, "")
    streams = SqliteStreamReader(world.streams_file).streams(tenant)
    return [stream_view(stream, groups) for stream in streams]


class Streams(Controller):
    """Outbound streams."""

    path = "/streams"
    tags = ("routing",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_streams(
        self, world: World, grant: Grant, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Page[StreamView]:
        """List streams, by name."""
        views = all_streams(world, grant.tenant)
        return keyed_page(views, limit, cursor, lambda view: view.name)

    @get("/{name:str}", opt=READ, sync_to_thread=True)
    def get_stream(self, world: World, grant: Grant, name: str) -> Response[StreamView]:
        """Show a stream; its ETag is its retention, which is what can be changed."""
        return _shown(world, SqliteStreamReader(world.streams_file).stream(grant.tenant, name))

    @put("/{name:str}", opt=OWN_TAG, sync_to_thread=True)
    def keep_stream(
        self, world: World, grant: Grant, name: str, data: KeepChange, if_match: IfMatch = None
    ) -> Response[StreamView]:
        """Set how long a stream keeps records; makes the stream where it is not there yet.

        What is left out stays as it is; of a new stream it is as the server's settings have it.
        """
        check_name(name, "name")
        reader = SqliteStreamReader(world.streams_file)
        now_us = world.clock.now_us()
        stream = reader.set_keep(grant.tenant, name, data, now_us, unmoved(if_match))
        return _shown(world, stream)


def _shown(world: World, stream: Stream) -> Response[StreamView]:
    groups = SqliteGroups(world.streams_file).groups(stream.tenant, stream.name)
    return Response(stream_view(stream, groups), headers={"etag": stream.tag})
