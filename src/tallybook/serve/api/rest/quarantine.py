"""Quarantine: what could not be processed, with its reason; corrected and sent again, or dropped.

The pieces stay in the lake as they came; what people decided about them is kept beside it.
"""

from typing import Annotated, Any, Literal, Protocol

import msgspec
from litestar import Controller, Request, get, post
from litestar.params import Parameter

from tallybook.adapters.sql.quarantine import Action, Decision
from tallybook.compose import World
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.kernel.event import UNPARSED_TYPE
from tallybook.kernel.ids import derived_id
from tallybook.kernel.timestamps import format_us
from tallybook.meter.usage import StoredEvent
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, page, place_of
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.events import EventView, Place, event_view, place

State = Literal["open", "redriven", "dropped", "all"]
SCAN_MAX = 1000


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """One piece in quarantine.

    Attributes:
        id: of the piece; not the event's.
        code: why it is there; `message` says it for people.
        state: open until it is redriven or dropped.
        event: as it was received.
        decided_time: when, RFC 3339; null while open.
        reason: what the person who decided wrote.
    """

    id: str
    code: str
    message: str
    state: str
    event: EventView
    decided_time: str | None = None
    reason: str = ""


class Redrive(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to send a piece again.

    Attributes:
        event: the corrected event; its identity is the piece's unless it names another. Absent
            sends the piece as it came.
        reason: what was corrected, for the record.
    """

    event: msgspec.Raw = msgspec.Raw(b"")
    reason: str = ""


class Drop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a piece is given up."""

    reason: str


class Accepts(Protocol):
    """Stores events durably (the hot path's Python door)."""

    def accept(self, tenant: str, body: bytes, *, partial: bool = False) -> object:
        """Store a JSON array of events; raises Invalid where one is bad."""
        ...


def parse_redrive(body: bytes) -> Redrive:
    """Return what a body asks; the event is not looked into, so its numbers stay as sent."""
    try:
        return msgspec.json.decode(body, type=Redrive) if body.strip() else Redrive()
    except msgspec.MsgspecError as error:
        message = f'the body must be {{"event": {{…}}, "reason": "…"}} or nothing: {error}'
        raise Invalid(message, field="body") from error


def piece_id(event: StoredEvent) -> str:
    """Return the id of a piece, derived from the event's identity."""
    return derived_id("qua", event.source, event.id)


def pieces(
    world: World, tenant: str, state: State, limit: int, before: Place | None
) -> list[tuple[StoredEvent, Quarantined]]:
    """Return up to `limit` pieces in a state, newest first."""
    found: list[tuple[StoredEvent, Quarantined]] = []
    while len(found) < limit:
        batch = world.usage.quarantined(tenant, limit=SCAN_MAX, before=before)
        decided = world.quarantine.decided(tenant, [piece_id(event) for event in batch])
        shown = [(event, _view(event, decided.get(piece_id(event)))) for event in batch]
        found += [both for both in shown if state in {"all", both[1].state}]
        if len(batch) < SCAN_MAX:
            break
        before = place(batch[-1])
    return found[:limit]


def find(world: World, tenant: str, id: str) -> tuple[StoredEvent, Quarantined]:
    """Return one piece; raises Missing."""
    before: Place | None = None
    while batch := world.usage.quarantined(tenant, limit=SCAN_MAX, before=before):
        for event in batch:
            if piece_id(event) == id:
                return event, _view(event, world.quarantine.decided(tenant, [id]).get(id))
        before = place(batch[-1])
    raise Missing(f"there is no piece {id} in quarantine", field="id")


def redrive(world: World, grant: Grant, ingest: Accepts, id: str, asked: Redrive) -> Quarantined:
    """Send a piece again, corrected or as it is; stored first, then recorded.

    Guarantees: sent twice (a crash in between) it is the same event, counted once.

    Raises:
        Invalid: the event is still bad; nothing changed.
        Conflict: it was redriven or dropped before.
    """
    event, seen = find(world, grant.tenant, id)
    _still_open(seen)
    ingest.accept(grant.tenant, b"[" + _to_send(event, asked.event) + b"]")
    reason = asked.reason or ("corrected" if is_given(asked.event) else "as received")
    return _decide(world, grant, event, "redriven", reason)


def drop(world: World, grant: Grant, id: str, reason: str) -> Quarantined:
    """Give a piece up, with a reason for the record."""
    event, seen = find(world, grant.tenant, id)
    _still_open(seen)
    if not reason.strip():
        raise Invalid("say why it is dropped", field="reason")
    return _decide(world, grant, event, "dropped", reason.strip())


def _still_open(seen: Quarantined) -> None:
    if seen.state != "open":
        raise Conflict(f"it was {seen.state} before, at {seen.decided_time}", code="decided")


def _decide(
    world: World, grant: Grant, event: StoredEvent, action: Action, reason: str
) -> Quarantined:
    decision = Decision(
        tenant=grant.tenant,
        id=piece_id(event),
        action=action,
        reason=reason,
        key_id=grant.key_id,
        decided_us=world.clock.now_us(),
    )
    world.quarantine.decide(decision)
    return _view(event, decision)


def is_given(event: msgspec.Raw) -> bool:
    """Whether a redrive carries a corrected event."""
    return bytes(event) not in {b"", b"null"}


def _to_send(event: StoredEvent, corrected: msgspec.Raw) -> bytes:
    """Return the event to send: a correction keeps the piece's identity unless it names another."""
    if not is_given(corrected) and event.type == UNPARSED_TYPE:
        message = "a line that could not be read needs a corrected event to take its place"
        raise Invalid(message, code="needs-correction", field="event")
    if not is_given(corrected):
        return event.data.encode()  # a refused piece is kept whole, as it was received
    try:
        members = msgspec.json.decode(corrected, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError as error:
        raise Invalid("event must be a JSON object, an event", field="event") from error
    known = {"id": event.id, "source": event.source, "specversion": "1.0"}
    return msgspec.json.encode({name: text for name, text in known.items() if text} | members)


def _view(event: StoredEvent, decision: Decision | None) -> Quarantined:
    code, _, message = (event.problem or "").partition(": ")
    return Quarantined(
        id=piece_id(event),
        code=code,
        message=message,
        state="open" if decision is None else decision.action,
        event=event_view((), event),
        decided_time=None if decision is None else format_us(decision.decided_us),
        reason="" if decision is None else decision.reason,
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
        wanted: Annotated[State, Parameter(query="state", required=False)] = "open",
    ) -> Page[Quarantined]:
        """List pieces, newest first."""
        found = pieces(world, grant.tenant, wanted, limit + 1, place_of(cursor, Place))
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
