"""One piece: look, correct, send again, drop; and the list of them."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, get, post
from litestar.params import Parameter

from tallybook.compose import World
from tallybook.meter.usage import PieceFilter
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.instants import moment
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, page, place_of
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.events import Place, place
from tallybook.serve.api.rest.quarantine.pieces import (
    Quarantined,
    State,
    drop,
    find,
    parse_redrive,
    pieces,
    redrive,
)

From = Annotated[
    str | None,
    Parameter(query="from", required=False, description="Received at or after, RFC 3339."),
]
To = Annotated[
    str | None, Parameter(query="to", required=False, description="Received before, RFC 3339.")
]
Wanted = Annotated[State, Parameter(query="state", required=False)]


class Drop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a piece is given up."""

    reason: str


def piece_filter(
    code: str | None, source: str | None, kind: str | None, from_: str | None, to: str | None
) -> PieceFilter:
    """Return which pieces are meant; raises Invalid."""
    return PieceFilter(
        code=code,
        source=source,
        type=kind,
        from_us=moment(from_, "from"),
        to_us=moment(to, "to"),
    )


class Quarantine(Controller):
    """What could not be processed."""

    path = "/quarantine"
    tags = ("quarantine",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_pieces(
        self,
        world: World,
        grant: Grant,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        wanted: Wanted = "open",
        code: str | None = None,
        source: str | None = None,
        type: str | None = None,
        from_: From = None,
        to: To = None,
    ) -> Page[Quarantined]:
        """List pieces, newest first: of one state, code, source, type or time of receipt."""
        asked = piece_filter(code, source, type, from_, to)
        before = place_of(cursor, Place)
        found = pieces(world, grant.tenant, wanted, limit + 1, before, asked)
        shown = page(found, limit, lambda both: place(both[0]))
        return Page([view for _, view in shown.items], shown.next_cursor)

    @get("/{id:str}", opt=READ, sync_to_thread=True)
    def get_piece(self, world: World, grant: Grant, id: str) -> Quarantined:
        """Show one piece."""
        return find(world, grant.tenant, id)[1]

    @post("/{id:str}/redrive", opt=BILLING, status_code=200, sync_to_thread=True)
    def redrive_piece(
        self,
        world: World,
        grant: Grant,
        request: "Request[Any, Any, Any]",
        id: str,
        body: bytes,
    ) -> Quarantined:
        """Send a piece again: `{"event": {…}, "reason": "…"}`, or as it came with no body."""
        return redrive(world, grant, request.app.state.ingest, id, parse_redrive(body))

    @post("/{id:str}/drop", opt=BILLING, status_code=200, sync_to_thread=True)
    def drop_piece(self, world: World, grant: Grant, id: str, data: Drop) -> Quarantined:
        """Give a piece up, with a reason."""
        return drop(world, grant, id, data.reason)
