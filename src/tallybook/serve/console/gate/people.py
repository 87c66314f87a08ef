"""People who sign in with a password: listed, added, given another password, signed out, ended."""

from typing import Any

from litestar import Request, Response, get, post
from litestar.types import ControllerRouterHandler

from tallybook.admit.key import ROLES
from tallybook.compose import World
from tallybook.serve.api.common.audited import tell
from tallybook.serve.api.common.paging import keyed_page
from tallybook.serve.api.rest.access.users import (
    UserSpec,
    UserView,
    end,
    end_sessions,
    give_password,
    good_user,
    make_user,
    user_view,
)
from tallybook.serve.console.access import ADMIN_PAGE, sent_by, session_of
from tallybook.serve.console.auth import Form
from tallybook.serve.console.forms import Confirmation, ask, carried, confirmed, needed, to
from tallybook.serve.console.render import html
from tallybook.serve.console.session import Session

PAGE_ROWS = 100
FOR_PEOPLE = ("viewer", "biller", "owner")


@get("/people", opt=ADMIN_PAGE, sync_to_thread=True)
def people_page(
    request: "Request[Any, Any, Any]",
    world: World,
    cursor: str | None = None,
    all: str = "",
) -> Response[bytes]:
    """List people by name; those who may no longer sign in only where they are asked for."""
    session, now_us = session_of(request), world.clock.now_us()
    stored = world.users.listed(session.grant.tenant)
    views = [user_view(user, now_us) for user in stored if all or user.ended_us is None]
    shown = keyed_page(views, PAGE_ROWS, cursor, lambda view: view.name)
    return html(
        "gate/people.html",
        session=session,
        here="people",
        people=shown.items,
        next_cursor=shown.next_cursor,
        all=all,
        over=sum(user.ended_us is not None for user in stored),
        roles={role: ROLES[role] for role in FOR_PEOPLE},
    )


@post("/people", opt=ADMIN_PAGE | {"audit": "user"}, status_code=200, sync_to_thread=True)
def add_person(request: "Request[Any, Any, Any]", world: World, data: Form) -> Response[bytes]:
    """Let somebody sign in, and show the password this once."""
    session = sent_by(request, data)
    spec = UserSpec(name=needed(data, "name"), roles=[needed(data, "role")])
    return _shown(request, session, make_user(world, session.grant, spec))


@post("/people/{name:str}/password", opt=ADMIN_PAGE | {"audit": "user"}, status_code=200,
      sync_to_thread=True)  # fmt: skip
def new_password(
    request: "Request[Any, Any, Any]", world: World, name: str, data: Form
) -> Response[bytes]:
    """Give somebody another password, and show it this once."""
    session = sent_by(request, data)
    return _shown(request, session, give_password(world, session.grant, name, None))


@post("/people/{name:str}/sign-out", opt=ADMIN_PAGE | {"audit": "user"}, sync_to_thread=True)
def sign_out(request: "Request[Any, Any, Any]", world: World, name: str, data: Form) -> Any:
    """End all sessions of somebody."""
    session = sent_by(request, data)
    tell(request, name, end_sessions(world, session.grant, name))
    return to("/people")


@post("/people/{name:str}/end", opt=ADMIN_PAGE | {"audit": "user"}, sync_to_thread=True)
def end_person(
    request: "Request[Any, Any, Any]", world: World, name: str, data: Form
) -> Response[Any]:
    """Ask whether somebody shall sign in no more, or see to it."""
    session = sent_by(request, data)
    good_user(world, session.grant, name)
    if confirmed(data):
        end(world, session.grant, name)
        tell(request, name, user_view(world.users.get(session.grant.tenant, name), 0))
        return to("/people")
    return ask(
        session,
        "people",
        Confirmation(
            title=f"Let {name} sign in no more?",
            text="The sessions end within a second. It cannot be undone; the name stays used.",
            action=f"/people/{name}/end",
            button="End the access",
            back="/people",
            fields=carried(data),
            danger=True,
        ),
    )


def _shown(request: "Request[Any, Any, Any]", session: Session, made: UserView) -> Response[bytes]:
    tell(request, made.name, made)
    return html("gate/person.html", session=session, here="people", made=made)


ROUTES: list[ControllerRouterHandler] = [
    people_page,
    add_person,
    new_password,
    sign_out,
    end_person,
]
