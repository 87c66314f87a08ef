"""Quarantine: what could not be processed, why, and the two ways out of it."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, get, post
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler

from tallybook.compose import World
from tallybook.kernel.errors import Invalid, Refused
from tallybook.kernel.event import UNPARSED_TYPE
from tallybook.kernel.timestamps import DAY_US, parse_rfc3339
from tallybook.meter.usage import PieceFilter
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
from tallybook.serve.api.rest.quarantine.many import counts, decided, open_ids
from tallybook.serve.console.access import BILLING_PAGE, PAGE, sent_by, session_of
from tallybook.serve.console.auth import Form
from tallybook.serve.console.forms import (
    Confirmation,
    ask,
    carried,
    confirmed,
    needed,
    text_of,
    to,
    unmoved,
)
from tallybook.serve.console.render import html, pretty

PAGE_ROWS = 50
FILTERS = ("code", "source", "type", "from", "to")
STATES = ("open", "redriven", "dropped", "all")


@get("/quarantine", opt=PAGE, sync_to_thread=True)
def quarantine_page(
    request: "Request[Any, Any, Any]", world: World, cursor: str | None = None, show: State = "open"
) -> Response[bytes]:
    """List pieces that a filter names, newest first, under the counts of every reason."""
    session = session_of(request)
    tenant, asked = session.grant.tenant, _filter(request.query_params)
    found = pieces(world, tenant, show, PAGE_ROWS + 1, place_of(cursor, Place), _meant(asked))
    shown = page(found, PAGE_ROWS, lambda both: place(both[0]))
    return html(
        "quarantine.html",
        session=session,
        here="quarantine",
        pieces=[view for _, view in shown.items],
        counts=counts(world, tenant),
        show=show,
        states=STATES,
        asked=asked,
        extra="&" + urlencode(asked) if asked else "",
        next_cursor=shown.next_cursor,
        may_decide=session.grant.allows("billing"),
    )


def _filter(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the filter of a page or form: what is filled in."""
    return {name: text for name in FILTERS if (text := text_of(fields, name))}


def _meant(asked: Mapping[str, str]) -> PieceFilter:
    """Return the pieces that a filter means; days are of UTC, the last one included."""
    begin, last = _day(asked, "from"), _day(asked, "to")
    return PieceFilter(
        code=asked.get("code"),
        source=asked.get("source"),
        type=asked.get("type"),
        from_us=begin,
        to_us=None if last is None else last + DAY_US,
    )


def _day(asked: Mapping[str, str], name: str) -> int | None:
    if name not in asked:
        return None
    found = parse_rfc3339(f"{asked[name]}T00:00:00Z")
    if found is None:
        raise Invalid(f"{name} must be a day such as 2026-11-01", field=name)
    return found


@post("/quarantine/all", opt=BILLING_PAGE, sync_to_thread=True)
def decide_all(request: "Request[Any, Any, Any]", world: World, data: Form) -> Response[Any]:
    """Send again, or drop, all open pieces that a filter names; asked first, with their number."""
    session = sent_by(request, data)
    tenant, asked, action = session.grant.tenant, _filter(data), data.get("action", "")
    if action not in {"redrive", "drop"}:
        raise Invalid("action is redrive or drop", field="action")
    reason = needed(data, "reason") if action == "drop" else text_of(data, "reason")
    ids, more = open_ids(world, tenant, _meant(asked))
    if not confirmed(data):
        return ask(session, "quarantine", _question(data, action, len(ids), more=more))
    unmoved(data, "count", len(ids))
    ingest = request.app.state.ingest

    def act(id: str) -> object:
        if action == "drop":
            return drop(world, session.grant, id, reason)
        return redrive(world, session.grant, ingest, id, Redrive(reason=reason))

    decided(ids, act)
    return to("/quarantine?" + urlencode(asked))


def _question(data: Form, action: str, count: int, *, more: bool) -> Confirmation:
    verb = "Drop" if action == "drop" else "Send again"
    what = (
        "They stay visible, with the reason."
        if action == "drop"
        else "They are sent as they came; what is still wrong stays open."
    )
    rest = " There are more; do the same again for those." if more else ""
    return Confirmation(
        title=f"{verb}: {count} {'piece' if count == 1 else 'pieces'}",
        text=what + rest,
        action="/quarantine/all",
        button=verb,
        back="/quarantine?" + urlencode(_filter(data)),
        fields=carried(data, count=str(count)),
        details=tuple(_filter(data).items()),
        danger=action == "drop",
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


ROUTES: list[ControllerRouterHandler] = [
    quarantine_page,
    decide_all,
    piece_page,
    redrive_piece,
    drop_piece,
]
