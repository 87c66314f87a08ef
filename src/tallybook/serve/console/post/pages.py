"""Endpoints with their health, the deliveries of one, and the attempts of a delivery."""

from typing import Any, Literal

import msgspec
from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler

from tallybook.compose import World
from tallybook.deliver.kinds import KINDS
from tallybook.deliver.ports import Asked
from tallybook.deliver.state import UNTOLD, DeliveryState
from tallybook.serve.api.common.paging import page, place_of
from tallybook.serve.api.rest.webhooks.commands import find_endpoint
from tallybook.serve.api.rest.webhooks.deliveries import place
from tallybook.serve.api.rest.webhooks.views import (
    EndpointView,
    delivery_detail,
    delivery_view,
    endpoint_view,
)
from tallybook.serve.console.access import PAGE, session_of
from tallybook.serve.console.render import html, pretty
from tallybook.serve.console.session import Session

PAGE_ROWS = 50
Show = Literal["all", "on their way", "delivered", "not delivered"]
SHOWN: dict[Show, tuple[DeliveryState, ...]] = {
    "all": (),
    "on their way": ("pending", "retrying"),
    "delivered": ("delivered",),
    "not delivered": UNTOLD,
}


class Fresh(msgspec.Struct, frozen=True):
    """A secret that was just made, to be shown this once."""

    endpoint: str
    url: str
    secret: str


@get("/webhooks", opt=PAGE, sync_to_thread=True)
def endpoints_page(request: "Request[Any, Any, Any]", world: World) -> Response[bytes]:
    """List endpoints, and offer to add one."""
    return listing(world, session_of(request))


def listing(
    world: World,
    session: Session,
    fresh: Fresh | None = None,
    wrong: str = "",
    form: dict[str, str] | None = None,
) -> Response[bytes]:
    """Return the page of all endpoints.

    Args:
        world: parts of this process.
        session: whose page it is.
        fresh: a secret to show.
        wrong: what is wrong with the form.
        form: what was in it.
    """
    now_us = world.clock.now_us()
    found = [endpoint_view(one, now_us) for one in world.post.endpoints(session.grant.tenant)]
    return html(
        "post/endpoints.html",
        400 if wrong else 200,
        session=session,
        here="webhooks",
        endpoints=found,
        kinds=KINDS,
        families=sorted({f"{kind.name.partition('.')[0]}.*" for kind in KINDS}),
        fresh=fresh,
        wrong=wrong,
        form=form or {"url": "", "kinds": "*", "customers": "", "description": ""},
        may_change=session.grant.allows("admin"),
    )


@get("/webhooks/{id:str}", opt=PAGE, sync_to_thread=True)
def endpoint_page(
    request: "Request[Any, Any, Any]",
    world: World,
    id: str,
    cursor: str | None = None,
    show: Show = "all",
) -> Response[bytes]:
    """Show an endpoint's health and its deliveries, newest fact first."""
    session = session_of(request)
    tenant = session.grant.tenant
    view = endpoint_view(find_endpoint(world, tenant, id), world.clock.now_us())
    asked = Asked(
        endpoint=id,
        states=SHOWN[show],
        before=place_of(cursor, tuple[int, str]),
        limit=PAGE_ROWS + 1,
    )
    found = page(world.post.deliveries(tenant, asked), PAGE_ROWS, place)
    return html(
        "post/endpoint.html",
        session=session,
        here="webhooks",
        endpoint=view,
        deliveries=[delivery_view(one) for one in found.items],
        next_cursor=found.next_cursor,
        show=show,
        choices=tuple(SHOWN),
        may_send=_may_send(session, view),
        may_replay=session.grant.allows("billing"),
        may_change=session.grant.allows("admin"),
        today=world.clock.now_us(),
    )


def _may_send(session: Session, view: EndpointView) -> bool:
    return session.grant.allows("billing") and view.state != "disabled"


@get("/webhooks/deliveries/{id:str}", opt=PAGE, sync_to_thread=True)
def delivery_page(request: "Request[Any, Any, Any]", world: World, id: str) -> Response[bytes]:
    """Show a delivery: what is sent, and every attempt."""
    session = session_of(request)
    tenant = session.grant.tenant
    delivery, fact, attempts = world.post.delivery(tenant, id)
    detail = delivery_detail(delivery, fact, attempts)
    there = next((one for one in world.post.endpoints(tenant) if one.id == delivery.endpoint), None)
    view = None if there is None else endpoint_view(there, world.clock.now_us())
    return html(
        "post/delivery.html",
        session=session,
        here="webhooks",
        delivery=detail,
        body=pretty(detail.body),
        endpoint=view,
        may_send=view is not None and _may_send(session, view),
    )


ROUTES: list[ControllerRouterHandler] = [endpoints_page, endpoint_page, delivery_page]
