"""Recent events, and which meters each one touched, or why not."""

from collections.abc import Sequence

import msgspec
from litestar import get

from tallybook.catalog.meter import Meter
from tallybook.compose import World
from tallybook.kernel.decimals import measure, plain
from tallybook.kernel.timestamps import format_us
from tallybook.meter.usage import StoredEvent
from tallybook.serve.api.bounds import Span, one_of, spans_of
from tallybook.serve.api.common.access import READ_BOUND
from tallybook.serve.api.common.instants import From, moment
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, page, place_of
from tallybook.serve.api.gate import Grant
from tallybook.transport.columns import ColumnSet, text_of

Place = tuple[int, str, str]


class Touch(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one meter made of an event.

    Attributes:
        meter: its key.
        value: what was measured, '1' for COUNT; None where the meter leaves the event out.
        reason: why it is left out, '' where it counts.
        filtered: left out by the meter's filter: out of its scope, and no problem.
    """

    meter: str
    value: str | None = None
    reason: str = ""
    filtered: bool = False


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """A stored event.

    Attributes:
        time: event time. received_time: receipt time. Both RFC 3339.
        data: as received.
        extensions: the other attributes, null for none.
        commit_seq: the lake commit that brought it.
        problem: why it is in quarantine; null for an accepted event.
        meters: every meter of its type, and what it made of it.
    """

    id: str
    source: str
    type: str
    subject: str | None
    time: str
    received_time: str
    data: msgspec.Raw
    extensions: msgspec.Raw | None
    commit_seq: int
    problem: str | None
    meters: list[Touch]


def touches(meters: Sequence[Meter], event: StoredEvent) -> list[Touch]:
    """Return what each meter of the event's type made of it."""
    if event.problem is not None:
        return []
    return [_touch(meter, event) for meter in meters if meter.event_type == event.type]


def _touch(meter: Meter, event: StoredEvent) -> Touch:
    columns = ColumnSet(meter.columns())
    cells = columns.cells([event.data.encode()])
    found = {column.name: cell[0] for column, cell in zip(columns.columns, cells, strict=True)}
    by_path = {columns.paths[name]: text_of(cell) for name, cell in found.items()}
    for rule in meter.filter:
        if by_path.get(rule.path) not in rule.any_of:
            reason = f"{rule.path} is not one of {', '.join(rule.any_of)}"
            return Touch(meter.key, reason=reason, filtered=True)
    if meter.value is None:
        return Touch(meter.key, "1")
    text = by_path.get(meter.value)
    if text is None:
        return Touch(meter.key, reason=f"{meter.value} is missing")
    if meter.aggregation == "UNIQUE_COUNT":
        return Touch(meter.key, text)
    value, _ = measure(text)
    if value is None:
        return Touch(meter.key, reason=f"{meter.value} is not a number in range: {text[:40]}")
    return Touch(meter.key, plain(value))


def event_view(meters: Sequence[Meter], event: StoredEvent) -> EventView:
    """Return an event as the API shows it."""
    return EventView(
        id=event.id,
        source=event.source,
        type=event.type,
        subject=event.subject,
        time=format_us(event.time_us),
        received_time=format_us(event.received_us),
        data=_json(event.data),
        extensions=None if event.ext is None else _json(event.ext),
        commit_seq=event.commit_seq,
        problem=event.problem,
        meters=touches(meters, event),
    )


def _json(text: str) -> msgspec.Raw:
    """Return stored text as JSON; what was quarantined may be none, and is shown as a string."""
    raw = text.encode()
    try:
        msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return msgspec.Raw(msgspec.json.encode(text))
    return msgspec.Raw(raw)


def place(event: StoredEvent) -> Place:
    """Return where an event stands in the order of lists."""
    return event.time_us, event.source, event.id


@get("/events", opt=READ_BOUND, tags=["events"], sync_to_thread=True)
def list_events(
    world: World,
    grant: Grant,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
    id: str | None = None,
    source: str | None = None,
    type: str | None = None,
    subject: str | None = None,
    from_: From = None,
) -> Page[EventView]:
    """List events that are in the lake, newest event time first.

    A key that is for several subjects, or for a customer, has to name one of them.
    """
    asked = {"id": id, "source": source, "type": type, "subject": subject}
    since = moment(from_, "from")
    where = {name: text for name, text in asked.items() if text is not None}
    before = place_of(cursor, Place)
    if grant.bound:
        spans = one_of(spans_of(world.catalog.load(grant.tenant), grant), subject)
    else:
        spans = [Span(())]
    found = list[StoredEvent]()
    for span in spans:
        found += world.usage.recent(
            grant.tenant,
            limit=limit + 1,
            where=where | ({"subject": span.subjects[0]} if span.subjects else {}),
            since_us=max((at for at in (since, span.start_us) if at is not None), default=None),
            before=_before(before, span.end_us),
        )
    found.sort(key=place, reverse=True)
    meters = world.catalog.meters(grant.tenant)
    shown = page(found[: limit + 1], limit, place)
    return Page([event_view(meters, event) for event in shown.items], shown.next_cursor)


def _before(cursor: Place | None, end_us: int | None) -> Place | None:
    """Return the earlier of two places; the end of a span is before all events of its instant."""
    ends = None if end_us is None else (end_us, "", "")
    return min((one for one in (cursor, ends) if one is not None), default=None)
