"""The fleet: last seen, lag, missing batches, clock and certificate of every edge."""

from typing import Any

from litestar import Request, Response, get

from tallybook.compose import World
from tallybook.serve.api.common.paging import page, place_of
from tallybook.serve.api.rest.fleet.edges import edge_view, edge_views
from tallybook.serve.console.access import PAGE, session_of
from tallybook.serve.console.render import html

PAGE_ROWS = 100


@get("/edges", opt=PAGE, sync_to_thread=True)
def edges_page(
    request: "Request[Any, Any, Any]", world: World, cursor: str | None = None
) -> Response[bytes]:
    """List edges by name."""
    session = session_of(request)
    after = place_of(cursor, str)
    found = edge_views(world, session.grant.tenant, PAGE_ROWS + 1, after)
    shown = page(found, PAGE_ROWS, lambda view: view.name)
    return html(
        "edges.html",
        session=session,
        here="edges",
        edges=shown.items,
        next_cursor=shown.next_cursor,
    )


@get("/edges/{name:str}", opt=PAGE, sync_to_thread=True)
def edge_page(request: "Request[Any, Any, Any]", world: World, name: str) -> Response[bytes]:
    """Show one edge with its missing and repeated batches."""
    session = session_of(request)
    tenant = session.grant.tenant
    record = world.edges.get(tenant, name)
    certificate = world.certificates.newest(tenant).get(name)
    edge = edge_view(record, certificate, world.clock.now_us())
    return html("edge.html", session=session, here="edges", edge=edge)
