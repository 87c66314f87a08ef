"""The first page: the money by currency, what came in, whether anything waits; and the server."""

from typing import Any

from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler

from tallybook.compose import World
from tallybook.serve.api.rest.events import EventView, event_view
from tallybook.serve.api.rest.invoices import InvoiceView, invoice_view
from tallybook.serve.api.rest.system import status
from tallybook.serve.console.access import PAGE, session_of
from tallybook.serve.console.books.money import glance
from tallybook.serve.console.render import html

RECENT_EVENTS = 12
RECENT_INVOICES = 5
TYPES_SHOWN = 12
COUNTED_MAX = 5_000_000
"""With more events than this a page does not count them all for a table of types."""


@get("/", opt=PAGE, sync_to_thread=True)
def overview(request: "Request[Any, Any, Any]", world: World) -> Response[bytes]:
    """Show the whole at a glance."""
    session = session_of(request)
    tenant = session.grant.tenant
    now = status(world, tenant)
    few = now.counters.accepted <= COUNTED_MAX
    types = world.usage.by_type(tenant, now.head) if few else {}
    return html(
        "overview.html",
        session=session,
        here="overview",
        status=now,
        behind=sum(part.events_behind for part in now.partitions),
        types=sorted(types.items(), key=lambda item: -item[1])[:TYPES_SHOWN],
        few=few,
        money=glance(world, tenant),
        events=recent_events(world, tenant),
        invoices=recent_invoices(world, tenant),
        meters=len(world.catalog.meters(tenant)),
    )


@get("/system", opt=PAGE, sync_to_thread=True)
def system_page(request: "Request[Any, Any, Any]", world: World) -> Response[bytes]:
    """Show the server's parts and how far each is."""
    session = session_of(request)
    now = status(world, session.grant.tenant)
    return html("system.html", session=session, here="system", status=now)


def recent_events(world: World, tenant: str) -> list[EventView]:
    """Return the newest events with what each meter made of them."""
    meters = world.catalog.meters(tenant)
    return [event_view(meters, e) for e in world.usage.recent(tenant, limit=RECENT_EVENTS)]


def recent_invoices(world: World, tenant: str) -> list[InvoiceView]:
    """Return the newest invoices, newest first."""
    heads = world.invoices.invoices(tenant, limit=RECENT_INVOICES, newest=True)
    now_us = world.clock.now_us()
    return [invoice_view(head, now_us) for head in heads]


ROUTES: list[ControllerRouterHandler] = [overview, system_page]
