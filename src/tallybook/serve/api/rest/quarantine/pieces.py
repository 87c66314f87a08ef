"""Pieces of the quarantine: found without a search, sent again or dropped, each on record."""

from typing import Literal, Protocol

import msgspec

from tallybook.adapters.sql.quarantine import Action, Decision, Trace
from tallybook.compose import World
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.kernel.event import UNPARSED_TYPE
from tallybook.kernel.ids import base32, derived_id
from tallybook.kernel.timestamps import format_us
from tallybook.meter.usage import PieceFilter, StoredEvent
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.events import EventView, Place, event_view, place

State = Literal["open", "redriven", "dropped", "all"]
SCAN_MAX = 1000
PREFIX = "qua_"
ID_CHARS = 25
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


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
    """Return the id of a piece: the commit that brought it and its hash, where it is found by."""
    return f"{PREFIX}{base32(event.commit_seq << 63 | event.row_hash, ID_CHARS)}"


def _earlier_id(event: StoredEvent) -> str:
    """Return the id that earlier versions gave the piece; decisions may be on record under it."""
    return derived_id("qua", event.source, event.id)


def _decisions(world: World, tenant: str, events: list[StoredEvent]) -> dict[str, Decision]:
    """Return the decisions about pieces, by their id."""
    ids = {_earlier_id(event): piece_id(event) for event in events}
    found = world.quarantine.decided(tenant, [*ids, *ids.values()])
    return {ids.get(name, name): decision for name, decision in found.items()}


def pieces(
    world: World,
    tenant: str,
    state: State,
    limit: int,
    before: Place | None,
    asked: PieceFilter | None = None,
) -> list[tuple[StoredEvent, Quarantined]]:
    """Return up to `limit` pieces in a state, newest first."""
    found: list[tuple[StoredEvent, Quarantined]] = []
    while len(found) < limit:
        batch = world.usage.quarantined(tenant, limit=SCAN_MAX, before=before, asked=asked)
        decided = _decisions(world, tenant, batch)
        shown = [(event, _view(event, decided.get(piece_id(event)))) for event in batch]
        found += [both for both in shown if state in {"all", both[1].state}]
        if len(batch) < SCAN_MAX:
            break
        before = place(batch[-1])
    return found[:limit]


def find(world: World, tenant: str, id: str) -> tuple[StoredEvent, Quarantined]:
    """Return one piece; raises Missing. Reads the commit that brought it, nothing else."""
    number = _number(id.removeprefix(PREFIX)) if id.startswith(PREFIX) else None
    event = None
    if number is not None:
        event = world.usage.piece(tenant, number >> 63, number & ((1 << 63) - 1))
    if event is None:
        raise Missing(f"there is no piece {id} in quarantine", field="id")
    return event, _view(event, _decisions(world, tenant, [event]).get(id))


def _number(text: str) -> int | None:
    if len(text) != ID_CHARS or not set(text) <= set(_DIGITS):
        return None
    number = 0
    for char in text:
        number = number << 5 | _DIGITS.index(char)
    return number if number < 1 << 126 else None


def redrive(world: World, grant: Grant, ingest: Accepts, id: str, asked: Redrive) -> Quarantined:
    """Send a piece again, corrected or as it is; stored first, then recorded.

    Guarantees: sent twice (a crash in between) it is the same event, counted once.

    Raises:
        Invalid: the event is still bad; nothing changed.
        Conflict: it was redriven or dropped before.
    """
    event, seen = find(world, grant.tenant, id)
    _still_open(seen)
    sent = _to_send(event, asked.event)
    ingest.accept(grant.tenant, b"[" + sent + b"]")
    reason = asked.reason or ("corrected" if is_given(asked.event) else "as received")
    return _decide(world, grant, event, "redriven", reason, sent.decode())


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
    world: World, grant: Grant, event: StoredEvent, action: Action, reason: str, sent: str = ""
) -> Quarantined:
    decision = Decision(
        tenant=grant.tenant,
        id=piece_id(event),
        action=action,
        reason=reason,
        key_id=grant.key_id,
        decided_us=world.clock.now_us(),
    )
    code, _, message = (event.problem or "").partition(": ")
    trace = Trace(
        code=code,
        message=message,
        source=event.source,
        event_id=event.id,
        before=event.data,
        after=sent,
    )
    world.quarantine.decide(decision, trace)
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
