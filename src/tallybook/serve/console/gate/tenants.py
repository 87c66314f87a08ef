"""Tenants: an operator sees who is kept apart from whom, makes one, closes and opens it."""

from collections import Counter
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.types import ControllerRouterHandler

from tallybook.admit.tenant import FIRST, check_closing
from tallybook.compose import World
from tallybook.serve.api.common.audited import tell
from tallybook.serve.api.common.paging import keyed_page
from tallybook.serve.api.rest.access.tenants import (
    TenantSpec,
    TenantView,
    make_tenant,
    tenant_view,
)
from tallybook.serve.console.access import OPERATOR_PAGE, sent_by, session_of
from tallybook.serve.console.auth import Form
from tallybook.serve.console.forms import (
    Confirmation,
    ask,
    carried,
    confirmed,
    needed,
    text_of,
    to,
)
from tallybook.serve.console.render import html

PAGE_ROWS = 100


class Row(msgspec.Struct, frozen=True):
    """A tenant with how many people and good keys it has."""

    view: TenantView
    keys: int
    people: int


@get("/tenants", opt=OPERATOR_PAGE, sync_to_thread=True)
def tenants_page(
    request: "Request[Any, Any, Any]", world: World, cursor: str | None = None
) -> Response[bytes]:
    """List the tenants that were made, by id."""
    session = session_of(request)
    views = [tenant_view(one) for one in world.tenants.listed()]
    shown = keyed_page(views, PAGE_ROWS, cursor, lambda view: view.tenant)
    if cursor is None:  # the first tenant was not made, and is always there
        first = TenantView(tenant=FIRST, name="", created_time="", open=True)
        shown = msgspec.structs.replace(shown, items=[first, *shown.items])
    now_us, people = world.clock.now_us(), world.users.counted()
    keys = Counter(
        key.tenant for key in world.keys.good() if key.expires_us is None or key.expires_us > now_us
    )
    return html(
        "gate/tenants.html",
        session=session,
        here="tenants",
        tenants=[Row(one, keys[one.tenant], people.get(one.tenant, 0)) for one in shown.items],
        kept={FIRST, session.grant.tenant},
        own=session.grant.tenant,
        next_cursor=shown.next_cursor,
    )


@post("/tenants", opt=OPERATOR_PAGE | {"audit": "tenant"}, status_code=200, sync_to_thread=True)
def add_tenant(request: "Request[Any, Any, Any]", world: World, data: Form) -> Response[bytes]:
    """Make a tenant, and show its first key this once."""
    session = sent_by(request, data)
    spec = TenantSpec(tenant=needed(data, "tenant"), name=text_of(data, "name"))
    made = make_tenant(world, spec)
    tell(request, made.tenant, msgspec.structs.replace(made, first_key=None))
    return html("gate/tenant.html", session=session, here="tenants", made=made)


@post("/tenants/{tenant:str}/close", opt=OPERATOR_PAGE | {"audit": "tenant"}, sync_to_thread=True)
def close_tenant(
    request: "Request[Any, Any, Any]", world: World, tenant: str, data: Form
) -> Response[Any]:
    """Ask whether a tenant's keys and people shall be refused, or refuse them."""
    session = sent_by(request, data)
    check_closing(tenant, session.grant.tenant)
    known = world.tenants.get(tenant)
    if confirmed(data):
        world.tenants.close(tenant, world.clock.now_us())
        tell(request, tenant, tenant_view(world.tenants.get(tenant)))
        return to("/tenants")
    return ask(
        session,
        "tenants",
        Confirmation(
            title=f"Close {known.name or tenant}?",
            text="Its keys and people are refused within a second. Its data stays as it is, and"
            " it can be opened again.",
            action=f"/tenants/{tenant}/close",
            button="Close it",
            back="/tenants",
            fields=carried(data),
            danger=True,
        ),
    )


@post("/tenants/{tenant:str}/open", opt=OPERATOR_PAGE | {"audit": "tenant"}, sync_to_thread=True)
def open_tenant(request: "Request[Any, Any, Any]", world: World, tenant: str, data: Form) -> Any:
    """Take the keys of a closed tenant again."""
    sent_by(request, data)
    world.tenants.close(tenant, None)
    tell(request, tenant, tenant_view(world.tenants.get(tenant)))
    return to("/tenants")


ROUTES: list[ControllerRouterHandler] = [tenants_page, add_tenant, close_tenant, open_tenant]
