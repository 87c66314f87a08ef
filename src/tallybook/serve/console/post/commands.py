"""What people do with endpoints: add, change, test, replay, give a new secret, remove."""

from typing import Any

from litestar import Request, Response, post
from litestar.types import ControllerRouterHandler

from tallybook.compose import World
from tallybook.deliver.flow import probe, remove, replay, replay_since
from tallybook.kernel.errors import Refused
from tallybook.kernel.period import parse_moment, zone
from tallybook.serve.api.rest.webhooks.commands import (
    EndpointChange,
    EndpointSpec,
    add_endpoint,
    change_endpoint,
    find_endpoint,
    rotate_secret,
)
from tallybook.serve.console.access import ADMIN_PAGE, BILLING_PAGE, sent_by
from tallybook.serve.console.auth import Form
from tallybook.serve.console.forms import Confirmation, ask, confirmed, needed, text_of, to
from tallybook.serve.console.post.pages import Fresh, listing
from tallybook.serve.console.session import Session

OVERLAP_HOURS = 24


@post("/webhooks", opt=ADMIN_PAGE, status_code=200, sync_to_thread=True)
def add_page(request: "Request[Any, Any, Any]", world: World, data: Form) -> Response[Any]:
    """Add the endpoint of the form and show its secret, this once."""
    session = sent_by(request, data)
    form = {name: data.get(name, "") for name in ("url", "kinds", "customers", "description")}
    try:
        spec = EndpointSpec(
            url=needed(data, "url"),
            description=text_of(data, "description"),
            kinds=needed(data, "kinds").split(),
            customers=text_of(data, "customers").split(),
        )
        made, secret = add_endpoint(world, session.grant.tenant, spec)
    except Refused as error:
        return listing(world, session, wrong=error.message, form=form)
    return listing(world, session, Fresh(made.id, made.address, secret))


@post("/webhooks/{id:str}/test", opt=BILLING_PAGE, sync_to_thread=True)
def test_page(
    request: "Request[Any, Any, Any]", world: World, id: str, data: Form
) -> Response[Any]:
    """Send `webhook.test` and show its delivery."""
    session = sent_by(request, data)
    made = probe(world.post, session.grant.tenant, id, world.clock.now_us())
    return to(f"/webhooks/deliveries/{made.id}")


@post("/webhooks/{id:str}/replay", opt=BILLING_PAGE, sync_to_thread=True)
def replay_page(
    request: "Request[Any, Any, Any]", world: World, id: str, data: Form
) -> Response[Any]:
    """Send everything that was not delivered since a date, after asking."""
    session = sent_by(request, data)
    since = needed(data, "since")
    since_us = parse_moment(since, zone("UTC"), "since")
    if not confirmed(data):
        return _ask(
            session,
            Confirmation(
                title="Send again?",
                text=f"Everything since {since} (UTC) that this endpoint was not told: given up,"
                " cancelled, or happened while it was disabled.",
                action=f"/webhooks/{id}/replay",
                button="Send again",
                back=f"/webhooks/{id}",
                fields={"since": since},
            ),
        )
    tenant = session.grant.tenant
    replay_since(world.post, world.post, tenant, id, since_us, world.clock.now_us())
    return to(f"/webhooks/{id}")


@post("/webhooks/{id:str}/rotate", opt=ADMIN_PAGE, status_code=200, sync_to_thread=True)
def rotate_page(
    request: "Request[Any, Any, Any]", world: World, id: str, data: Form
) -> Response[Any]:
    """Make a new secret after asking, and show it, this once."""
    session = sent_by(request, data)
    if not confirmed(data):
        return _ask(
            session,
            Confirmation(
                title="Make a new secret?",
                text=f"It is shown once. The present one signs too for {OVERLAP_HOURS} hours, so"
                " that the receiver can be changed in the meantime.",
                action=f"/webhooks/{id}/rotate",
                button="Make a new secret",
                back=f"/webhooks/{id}",
            ),
        )
    made, secret = rotate_secret(world, session.grant.tenant, id, OVERLAP_HOURS)
    return listing(world, session, Fresh(made.id, made.address, secret))


@post("/webhooks/{id:str}/switch", opt=ADMIN_PAGE, sync_to_thread=True)
def switch_page(
    request: "Request[Any, Any, Any]", world: World, id: str, data: Form
) -> Response[Any]:
    """Disable an endpoint after asking, or enable it again."""
    session = sent_by(request, data)
    enabled = data.get("enabled") == "yes"
    if not enabled and not confirmed(data):
        return _ask(
            session,
            Confirmation(
                title="Disable this endpoint?",
                text="It is told nothing more, and what is on its way is cancelled. Both can be"
                " sent again once it is enabled.",
                action=f"/webhooks/{id}/switch",
                button="Disable",
                back=f"/webhooks/{id}",
                fields={"enabled": "no"},
                danger=True,
            ),
        )
    change_endpoint(world, session.grant.tenant, id, EndpointChange(enabled=enabled))
    return to(f"/webhooks/{id}")


@post("/webhooks/{id:str}/remove", opt=ADMIN_PAGE, sync_to_thread=True)
def remove_page(
    request: "Request[Any, Any, Any]", world: World, id: str, data: Form
) -> Response[Any]:
    """Remove an endpoint, after asking."""
    session = sent_by(request, data)
    tenant = session.grant.tenant
    endpoint = find_endpoint(world, tenant, id)
    if not confirmed(data):
        return _ask(
            session,
            Confirmation(
                title="Remove this endpoint?",
                text="What is on its way to it is cancelled, and its secret is forgotten.",
                action=f"/webhooks/{id}/remove",
                button="Remove",
                back=f"/webhooks/{id}",
                details=(("URL", endpoint.address),),
                danger=True,
            ),
        )
    remove(world.post, tenant, id, world.clock.now_us())
    return to("/webhooks")


@post("/webhooks/deliveries/{id:str}/replay", opt=BILLING_PAGE, sync_to_thread=True)
def replay_delivery_page(
    request: "Request[Any, Any, Any]", world: World, id: str, data: Form
) -> Response[Any]:
    """Send a delivery again; the receiver knows it by its id."""
    session = sent_by(request, data)
    replay(world.post, session.grant.tenant, id, world.clock.now_us())
    return to(f"/webhooks/deliveries/{id}")


def _ask(session: Session, asked: Confirmation) -> Response[bytes]:
    return ask(session, "webhooks", asked)


ROUTES: list[ControllerRouterHandler] = [
    add_page,
    test_page,
    replay_page,
    rotate_page,
    switch_page,
    remove_page,
    replay_delivery_page,
]
