"""Quarantine: what could not be processed, why, and the two ways out of it."""

from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler

from tallybook.compose import World
from tallybook.kernel.errors import Invalid, Refused
from tallybook.kernel.event import UNPARSED_TYPE
from tallybook.serve.api.common.paging import page, place_of
from tallybook.serve.api.rest.events import Place, place
from tallybook.serve.api.rest.quarantine import (
    Quarantined,
    Redrive,
    State,
    drop,
    find,
    pieces,
    redrive,
)
from tallybook.serve.console.access import BILLING_PAGE, PAGE, sent_by, session_of
from tallybook.serve.console.auth import Form
from tallybook.serve.console.render import html, pretty

PAGE_ROWS = 50
STATES = ("open", "redriven", "dropped", "all")


@get("/quarantine", opt=PAGE, sync_to_thread=True)
def quarantine_page(
    request: "Request[Any, Any, Any]", world: World, cursor: str | None = None, show: State = "open"
) -> Response[bytes]:
    """List pieces, newest first."""
    session = session_of(request)
    before = place_of(cursor, Place)
    found = pieces(world, session.grant.tenant, show, PAGE_ROWS + 1, before)
    shown = page(found, PAGE_ROWS, lambda both: place(both[0]))
    return html(
        "quarantine.html",
        session=session,
        here="quarantine",
        pieces=[view for _, view in shown.items],
        show=show,
        states=STATES,
        next_cursor=shown.next_cursor,
    )


@get("/quarantine/{id:str}", opt=PAGE, sync_to_thread=True)
def piece_page(request: "Request[Any, Any, Any]", world: World, id: str) -> Response[bytes]:
    """Show one piece, and the forms to correct or drop it."""
    session = session_of(request)
    piece = find(world, session.grant.tenant, id)[1]
    return _piece(session, piece, proposal(piece), "")


@post("/quarantine/{id:str}/redrive", opt=BILLING_PAGE, sync_to_thread=True)
def redrive_piece(
    request: "Request[Any, Any, Any]", world: World, id: str, data: Form
) -> Response[Any]:
    """Send the event of the form in the piece's place."""
    session = sent_by(request, data)
    text = data.get("event", "")
    try:
        event = msgspec.Raw(text.encode())
        msgspec.json.decode(event, type=dict[str, msgspec.Raw])
        asked = Redrive(event=event, reason=data.get("reason", "").strip())
        redrive(world, session.grant, request.app.state.ingest, id, asked)
    except msgspec.MsgspecError as error:
        return _again(request, world, id, text, Invalid(f"this is not a JSON object: {error}"))
    except Refused as error:
        return _again(request, world, id, text, error)
    return Redirect(f"/quarantine/{id}", status_code=303)


@post("/quarantine/{id:str}/drop", opt=BILLING_PAGE, sync_to_thread=True)
def drop_piece(
    request: "Request[Any, Any, Any]", world: World, id: str, data: Form
) -> Response[Any]:
    """Give a piece up."""
    session = sent_by(request, data)
    drop(world, session.grant, id, data.get("reason", ""))
    return Redirect(f"/quarantine/{id}", status_code=303)


def proposal(piece: Quarantined) -> str:
    """Return the text a person starts to correct from."""
    event = piece.event
    if event.type != UNPARSED_TYPE:
        return pretty(event.data)
    start = {"specversion": "1.0", "id": event.id, "source": event.source}
    return pretty(start | {"type": "http.server.request", "time": event.time, "data": {}})


def _piece(session: Any, piece: Quarantined, text: str, wrong: str) -> Response[bytes]:
    return html(
        "piece.html",
        400 if wrong else 200,
        session=session,
        here="quarantine",
        piece=piece,
        text=text,
        wrong=wrong,
        may_decide=session.grant.allows("billing") and piece.state == "open",
    )


def _again(
    request: "Request[Any, Any, Any]", world: World, id: str, text: str, error: Refused
) -> Response[bytes]:
    session = session_of(request)
    return _piece(session, find(world, session.grant.tenant, id)[1], text, error.message)


ROUTES: list[ControllerRouterHandler] = [quarantine_page, piece_page, redrive_piece, drop_piece]
