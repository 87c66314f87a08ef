"""API keys: listed, made, rotated and revoked; a new key's text is shown once."""

from typing import Any

from litestar import Request, Response, get, post
from litestar.types import ControllerRouterHandler

from tallybook.admit.issue import KeySpec, check_giving, check_terms, is_good
from tallybook.admit.key import ROLES
from tallybook.compose import World
from tallybook.kernel.errors import Invalid
from tallybook.serve.api.common.audited import tell
from tallybook.serve.api.common.paging import keyed_page
from tallybook.serve.api.rest.access.keys import (
    KeyView,
    RotateSpec,
    key_view,
    make_key,
    revoke_key,
    rotate_key,
)
from tallybook.serve.console.access import ADMIN_PAGE, sent_by, session_of
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
from tallybook.serve.console.session import Session

PAGE_ROWS = 100
OVERLAPS = {"0": "at once", "3600": "in an hour", "86400": "in a day", "604800": "in a week"}


@get("/keys", opt=ADMIN_PAGE, sync_to_thread=True)
def keys_page(
    request: "Request[Any, Any, Any]",
    world: World,
    cursor: str | None = None,
    all: str = "",
) -> Response[bytes]:
    """List keys by age; those that are over only where they are asked for."""
    session, now_us = session_of(request), world.clock.now_us()
    stored = world.keys.listed(session.grant.tenant)
    some = [key for key in stored if all or is_good(key, now_us)]
    shown = keyed_page(some, PAGE_ROWS, cursor, lambda key: key.id)
    return html(
        "gate/keys.html",
        session=session,
        here="keys",
        keys=[key_view(key, now_us) for key in shown.items],
        next_cursor=shown.next_cursor,
        all=all,
        over=len(stored) - len([key for key in stored if is_good(key, now_us)]),
        roles=ROLES,
        overlaps=OVERLAPS,
    )


@post("/keys", opt=ADMIN_PAGE, status_code=200, sync_to_thread=True)
def create_key(request: "Request[Any, Any, Any]", world: World, data: Form) -> Response[bytes]:
    """Make a key, and show it this once."""
    session = sent_by(request, data)
    ends = text_of(data, "expires")
    spec = KeySpec(
        name=needed(data, "name"),
        roles=[needed(data, "role")],
        subjects=[line.strip() for line in data.get("subjects", "").splitlines() if line.strip()],
        customer=text_of(data, "customer"),
        expires_time=f"{ends}T00:00:00Z" if ends else None,
    )
    check_giving(session.grant, check_terms(spec, world.clock.now_us()).scopes)
    return _made(request, session, make_key(world, session.grant.tenant, spec))


@post("/keys/{id:str}/rotate", opt=ADMIN_PAGE, status_code=200, sync_to_thread=True)
def rotate(request: "Request[Any, Any, Any]", world: World, id: str, data: Form) -> Response[bytes]:
    """Make a key's successor, and show it this once."""
    session = sent_by(request, data)
    overlap = needed(data, "overlap")
    if overlap not in OVERLAPS:
        raise Invalid("choose when the old key ends", field="overlap")
    made = rotate_key(world, session.grant, id, RotateSpec(overlap_seconds=int(overlap)))
    return _made(request, session, made)


@post("/keys/{id:str}/revoke", opt=ADMIN_PAGE, sync_to_thread=True)
def revoke(request: "Request[Any, Any, Any]", world: World, id: str, data: Form) -> Response[Any]:
    """Ask whether a key shall be refused from now on, or refuse it."""
    session = sent_by(request, data)
    key = world.keys.get(session.grant.tenant, id)
    if confirmed(data):
        revoke_key(world, session.grant, id)
        return to("/keys")
    used = "It was never used."
    if key.last_used_us is not None:
        used = "Whatever uses it is refused within a second."
    return ask(
        session,
        "keys",
        Confirmation(
            title=f"Revoke {key.name}?",
            text=f"{used} This cannot be taken back; to exchange a key without a gap, rotate it.",
            action=f"/keys/{id}/revoke",
            button="Revoke the key",
            back="/keys",
            fields=carried(data),
            danger=True,
        ),
    )


def _made(request: "Request[Any, Any, Any]", session: Session, made: KeyView) -> Response[bytes]:
    tell(request, made.id, made)
    return html("gate/key.html", session=session, here="keys", made=made)


ROUTES: list[ControllerRouterHandler] = [keys_page, create_key, rotate, revoke]
