"""Stored events in OpenMeter's shapes: `GET /v1/events` a list, `GET /v2/events` pages of them."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import msgspec
from litestar import get
from litestar.params import Parameter

from tallybook.compose import World
from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import format_us, parse_rfc3339
from tallybook.meter.usage import Ownership, StoredEvent
from tallybook.serve.api.common.access import READ
from tallybook.serve.api.common.paging import cursor_of, place_of
from tallybook.serve.api.compat.openmeter.filters import Condition
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.events import Place, place

LIMIT, LIMIT_MAX = 100, 1000
LOOKED_AT_MAX = 50_000
"""Events that are looked at for one page; a page may be short, its cursor goes on."""
_STEP = 1000
_TEXTS = ("id", "source", "subject", "type", "customerId")
_TIMES = {"time": "time_us", "ingestedAt": "received_us", "storedAt": "received_us"}

From = Annotated[str | None, Parameter(query="from", description="RFC 3339, inclusive.")]
To = Annotated[str | None, Parameter(query="to", description="RFC 3339, exclusive.")]
Since = Annotated[str | None, Parameter(query="ingestedAtFrom", description="RFC 3339.")]
Until = Annotated[str | None, Parameter(query="ingestedAtTo", description="RFC 3339.")]
Limit = Annotated[int, Parameter(query="limit", ge=1, le=LIMIT_MAX)]
Owner = Callable[[StoredEvent], str | None]
Wanted = Callable[[StoredEvent], bool]


class EventBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event as a client reads it."""

    id: str
    source: str
    specversion: str
    type: str
    subject: str
    time: str
    data: msgspec.Raw


class IngestedShown(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A stored event as a client reads it."""

    event: EventBody
    ingested_at: str
    stored_at: str
    customer_id: str | None = None
    validation_error: str | None = None


class EventsShown(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of stored events."""

    items: list[IngestedShown]
    next_cursor: str | None


def _shown(event: StoredEvent, owner: str | None, types: set[str]) -> IngestedShown:
    at = format_us(event.received_us)
    known = event.type in types
    return IngestedShown(
        event=EventBody(
            id=event.id,
            source=event.source,
            specversion="1.0",
            type=event.type,
            subject=event.subject or "",
            time=format_us(event.time_us),
            data=msgspec.Raw(event.data.encode()),
        ),
        ingested_at=at,
        stored_at=at,
        customer_id=owner,
        validation_error=None if known else f"no meter found for event type: {event.type}",
    )


def owner_of(owned: list[Ownership]) -> Owner:
    """Return a function from an event to the customer whose it is."""
    by_subject: dict[str, list[Ownership]] = {}
    for each in owned:
        by_subject.setdefault(each.subject, []).append(each)

    def owner(event: StoredEvent) -> str | None:
        spans = by_subject.get(event.subject or "", ())
        return next((span.owner for span in spans if _within(span, event.time_us)), None)

    return owner


def _within(span: Ownership, at_us: int) -> bool:
    begun = span.start_us is None or span.start_us <= at_us
    return begun and (span.end_us is None or at_us < span.end_us)


def _moment(text: str | None, field: str) -> int | None:
    if not text:
        return None
    found = parse_rfc3339(text.replace(" ", "+"))
    if found is None:
        raise Invalid(f"{field} must be RFC 3339, such as 2026-11-01T00:00:00Z", field=field)
    return found


@get("/v1/events", opt=READ, sync_to_thread=True)
def list_events(
    world: World,
    grant: Grant,
    limit: Limit = LIMIT,
    id: str | None = None,
    subject: str | None = None,
    customer_id: Annotated[list[str] | None, Parameter(query="customerId")] = None,
    from_: From = None,
    to: To = None,
    since: Since = None,
    until: Until = None,
) -> list[IngestedShown]:
    """List stored events, newest event time first; id matches in part."""
    owner = owner_of(world.catalog.ownerships(grant.tenant))
    first, last = _moment(since, "ingestedAtFrom"), _moment(until, "ingestedAtTo")
    customers = set(customer_id or ())

    def wanted(event: StoredEvent) -> bool:
        return (
            (not id or id in event.id)
            and (not customers or owner(event) in customers)
            and (first is None or event.received_us >= first)
            and (last is None or event.received_us <= last)
        )

    end = _moment(to, "to")
    found = _Search(
        world=world,
        tenant=grant.tenant,
        where={"subject": subject} if subject else {},
        since_us=_moment(from_, "from"),
        before=None if end is None else (end, "", ""),
    ).page(wanted, limit)
    types = {meter.event_type for meter in world.catalog.meters(grant.tenant)}
    return [_shown(event, owner(event), types) for event in found.events]


@get("/v2/events", opt=READ, sync_to_thread=True)
def page_events(
    world: World,
    grant: Grant,
    limit: Limit = LIMIT,
    cursor: str | None = None,
    filter: str | None = None,
) -> EventsShown:
    """List stored events in pages, newest event time first."""
    owner = owner_of(world.catalog.ownerships(grant.tenant))
    asked = _filter(filter)
    found = _Search(
        world=world,
        tenant=grant.tenant,
        where={n: c.eq for n, c in asked.items() if c.eq is not None and n in _TEXTS[:4]},
        since_us=None,
        before=place_of(cursor, Place),
    ).page(lambda event: all(_holds(c, name, event, owner) for name, c in asked.items()), limit)
    types = {meter.event_type for meter in world.catalog.meters(grant.tenant)}
    shown = [_shown(event, owner(event), types) for event in found.events]
    return EventsShown(items=shown, next_cursor=found.following)


class _Found(msgspec.Struct, frozen=True):
    events: list[StoredEvent]
    following: str | None


class _Search(msgspec.Struct, frozen=True, kw_only=True):
    """Events of the lake from a place on, newest first."""

    world: World
    tenant: str
    where: dict[str, str]
    since_us: int | None
    before: Place | None

    def page(self, wanted: Wanted, limit: int) -> _Found:
        """Return so many that are wanted, and where to go on."""
        found: list[StoredEvent] = []
        last: StoredEvent | None = None
        for seen, event in enumerate(self._events()):
            if len(found) == limit or seen == LOOKED_AT_MAX:
                assert last is not None
                return _Found(found, cursor_of(place(last)))
            last = event
            if wanted(event):
                found.append(event)
        return _Found(found, None)

    def _events(self) -> Iterator[StoredEvent]:
        before = self.before
        while True:
            some = self.world.usage.recent(
                self.tenant, limit=_STEP, where=self.where, since_us=self.since_us, before=before
            )
            yield from some
            if len(some) < _STEP:
                return
            before = place(some[-1])


def _filter(text: str | None) -> dict[str, Condition]:
    if not text:
        return {}
    try:
        asked = msgspec.json.decode(text, type=dict[str, Condition])
    except (msgspec.MsgspecError, RecursionError) as error:
        message = 'filter must be JSON such as {"subject": {"$eq": "a"}}'
        raise Invalid(message, field="filter") from error
    unknown = asked.keys() - {*_TEXTS, *_TIMES}
    if unknown:
        raise Invalid(f"filter: there is no field {min(unknown)}", field="filter")
    return {name: _timed(c) if name in _TIMES else c for name, c in asked.items()}


def _timed(condition: Condition) -> Condition:
    """Return a condition on times as one on texts that sort as the times do."""
    changes: dict[str, Any] = {}
    for name in ("eq", "ne", "gt", "gte", "lt", "lte"):
        at_us = _moment(getattr(condition, name), "filter")
        if at_us is not None:
            changes[name] = _sortable(at_us)
    for name in ("and_", "or_"):
        parts = getattr(condition, name)
        if parts is not None:
            changes[name] = [_timed(part) for part in parts]
    return msgspec.structs.replace(condition, **changes)


def _sortable(at_us: int) -> str:
    return f"{at_us:020d}"


def _holds(condition: Condition, name: str, event: StoredEvent, owner: Owner) -> bool:
    if name in _TIMES:
        return condition.holds(_sortable(getattr(event, _TIMES[name])))
    return condition.holds(owner(event) if name == "customerId" else getattr(event, name))
