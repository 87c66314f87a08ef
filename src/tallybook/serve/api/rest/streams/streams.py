"""`/streams`: what there is, and how long it keeps records."""

from litestar import Controller, get, put

from tallybook.adapters.sqlite.streams import SqliteGroups, SqliteStreamReader
from tallybook.compose import World
from tallybook.route.rule import check_name
from tallybook.route.stream import Keep, checked_keep
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, keyed_page
from tallybook.serve.api.gate import Grant
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
    def get_stream(self, world: World, grant: Grant, name: str) -> StreamView:
        """Show a stream."""
        stream = SqliteStreamReader(world.streams_file).stream(grant.tenant, name)
        groups = SqliteGroups(world.streams_file).groups(grant.tenant, name)
        return stream_view(stream, groups)

    @put("/{name:str}", opt=BILLING, sync_to_thread=True)
    def keep_stream(self, world: World, grant: Grant, name: str, data: Keep) -> StreamView:
        """Set how long a stream keeps records; makes the stream where it is not there yet."""
        check_name(name, "name")
        reader = SqliteStreamReader(world.streams_file)
        stream = reader.set_keep(grant.tenant, name, checked_keep(data), world.clock.now_us())
        groups = SqliteGroups(world.streams_file).groups(grant.tenant, name)
        return stream_view(stream, groups)
