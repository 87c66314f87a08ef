"""Decode, check and normalise the events of a request, once (DECISIONS 4, 6, 7).

The fast road takes a whole batch through compiled decoders. msgspec silently keeps the last of
two equal keys and drops unknown ones, so the fast road is taken only when re-encoding what was
decoded gives back as many bytes as came in: then nothing was dropped. Everything else (extension
attributes, escapes, wrong types, refusals) takes the careful road, one event at a time; as a rule
the others of its batch still go fast. Both roads make the same rows of the same events, so that a
retry in other company is no conflict.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tallybook.kernel.errors import Invalid
from tallybook.kernel.event import UNPARSED_TYPE
from tallybook.kernel.limits import (
    ATTRIBUTE_CHARS_MAX,
    EVENT_BYTES_MAX,
    FUTURE_SECONDS_MAX,
    REQUEST_BYTES_MAX,
    REQUEST_EVENTS_MAX,
)
from tallybook.kernel.problem import Problem
from tallybook.kernel.timestamps import FIRST_US, LAST_US, SECOND_US, parse_rfc3339
from tallybook.transport.careful import careful_event
from tallybook.transport.columns import ColumnSet
from tallybook.transport.rows import Rows


class AcceptLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of a request; see `kernel.limits` for units."""

    event_bytes_max: int = EVENT_BYTES_MAX
    request_events_max: int = REQUEST_EVENTS_MAX
    request_bytes_max: int = REQUEST_BYTES_MAX
    future_seconds_max: int = FUTURE_SECONDS_MAX


class Refusal(msgspec.Struct, frozen=True):
    """One piece of a request that is no event.

    Attributes:
        index: its place in the request, from 0.
        id: its event id, '' where it has none.
        problem: why.
        filed: a collector's own report of an unreadable line; quarantined, never refused.
    """

    index: int
    id: str
    problem: Problem
    filed: bool = False


class _WireEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    id: str
    source: str
    type: str
    specversion: str
    subject: str | msgspec.UnsetType | None = msgspec.UNSET
    time: str | msgspec.UnsetType | None = msgspec.UNSET
    datacontenttype: str | msgspec.UnsetType | None = msgspec.UNSET
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_EVENT = msgspec.json.Decoder(_WireEvent)
_EVENTS = msgspec.json.Decoder(list[_WireEvent])
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECTS = msgspec.json.Decoder(list[dict[str, msgspec.Raw] | None])
_ENCODE = msgspec.json.Encoder().encode
_NO_DATA = b"null"
_INSTANT = pa.timestamp("us", tz="UTC")
_VECTOR_MIN = 32
"""Fewer events than this are judged without vectors, whose calls cost more than they save."""
_SECONDS_CHARS = 19
"""Characters of a time with seconds and no zone; shorter ones are judged one by one."""
DEPTH_FAST_MAX = 16
"""Values nested deeper than this take the careful road."""
_JSON = "application/json"
_JSON_TYPES = {None, msgspec.UNSET, _JSON}
JSON_EXT = f'{{"datacontenttype":"{_JSON}"}}'
_NOT_YOURS = Problem(
    code="forbidden", message="the API key may not send events of this subject", subject="subject"
)
_ENVELOPE_BYTES_MAX = 5 * 6 * ATTRIBUTE_CHARS_MAX + 256
"""Most bytes of a compact event besides its data: five texts, each character escaped, and names."""


def accept(
    tenant: str,
    body: bytes,
    now_us: int,
    columns: ColumnSet,
    limits: AcceptLimits,
    subjects: AbstractSet[str] | None = None,
) -> tuple[Rows, list[Refusal]]:
    """Return the rows of a batch and what is refused of it.

    A refused piece has a row too, with its problem, for callers that quarantine; callers that
    refuse the whole request drop the rows.

    Args:
        tenant: whose events.
        body: a JSON array of events, decompressed.
        now_us: receipt time; the time of events that carry none (stamped once, DECISIONS 6).
        columns: typed columns to fill.
        limits: bounds.
        subjects: events of any other subject, or of none, are refused ('forbidden'); None takes
            all.

    Raises:
        Invalid: the request as a whole is too large ('too-large') or no JSON array ('malformed').
    """
    if len(body) > limits.request_bytes_max:
        message = f"the request has {len(body)} bytes; the limit is {limits.request_bytes_max}"
        raise Invalid(message, code="too-large", field="body")
    rows = plain_rows(tenant, body, now_us, columns, limits)
    refused: list[Refusal] = []
    if rows is None:
        pieces = events_of(body, limits)
        rows, refused = _sifted(tenant, pieces, now_us, columns, limits)
    if subjects is not None:
        refused = _kept_to(subjects, body, rows, refused)
    return rows, refused


def plain_rows(
    tenant: str, body: bytes, now_us: int, columns: ColumnSet, limits: AcceptLimits
) -> Rows | None:
    """Return the rows of a batch by the fast road; None where an event needs a closer look.

    Arguments are as of `accept`; none of the events is refused.
    """
    whole = _whole(body)
    if whole is None or len(whole.events) > limits.request_events_max:
        return None
    events, rows = whole.events, Rows(columns)
    rows.ids = [e.id for e in events]
    rows.sources = [e.source for e in events]
    rows.types = [e.type for e in events]
    subjects = [e.subject for e in events]
    if "" in subjects:
        return None
    rows.subjects = [subject or None for subject in subjects]
    rows.datas = _datas(events)
    sent = [e.time for e in events]
    times = _times(sent, now_us)
    if times is None or not _plain(rows, events) or not _fits(body, whole, rows.datas, limits):
        return None
    compact = rows.datas if whole.compact is None else _datas(whole.compact)
    cells = columns.checked_cells(compact)
    if cells is None and not no_repeats(compact):
        return None
    if max(times) > now_us + limits.future_seconds_max * SECOND_US:
        return None
    count = len(events)
    rows.times = times
    rows.stamped = [not time for time in sent]
    rows.tenants = [tenant] * count
    rows.received = [now_us] * count
    rows.exts = [JSON_EXT if e.datacontenttype == _JSON else None for e in events]
    rows.problems = [None] * count
    rows.cells = columns.cells(rows.datas) if cells is None else cells
    return rows


def is_plain(event: bytes) -> bool:
    """Whether the fast road takes an event whatever its values, but for their range.

    Args:
        event: one JSON object.
    """
    body = b"[" + event + b"]"
    limits = AcceptLimits(event_bytes_max=len(body))
    return plain_rows("", body, LAST_US, ColumnSet({}), limits) is not None


class _Whole(NamedTuple):
    """Events of which decoding lost nothing, and the same without white space, if they had any."""

    events: list[_WireEvent]
    compact: list[_WireEvent] | None


def _whole(body: bytes) -> _Whole | None:
    """Return the events, at least one, when nothing of the body is lost by decoding, else None."""
    try:
        body.decode()  # raw values are not looked into, so this is where UTF-8 is checked
        events = _EVENTS.decode(body)
        if len(_ENCODE(events)) == len(body):
            return _Whole(events, None) if events else None
        tight = msgspec.json.format(body, indent=-1)
        compact = _EVENTS.decode(tight)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return _Whole(events, compact) if events and len(_ENCODE(compact)) == len(tight) else None


def _datas(events: Sequence[_WireEvent]) -> list[bytes]:
    return [_NO_DATA if (data := e.data) is msgspec.UNSET else bytes(data) for e in events]


def _times(texts: Sequence[Any], now_us: int) -> list[int] | None:
    if len(texts) < _VECTOR_MIN:
        return instants_singly(texts, now_us)
    if None in texts or msgspec.UNSET in texts:
        return instants_singly(texts, now_us)
    times = instants(pa.array(texts, pa.string()))
    return instants_singly(texts, now_us) if times is None else times.tolist()


def instants(texts: Any) -> "npt.NDArray[np.int64] | None":
    """Return times in microseconds UTC; None where one has to be looked at by itself.

    Args:
        texts: RFC 3339, without NULLs.
    """
    ends = pc.all(pc.ends_with(texts, "Z")).as_py()
    if not ends or pc.min(pc.binary_length(texts)).as_py() <= _SECONDS_CHARS:
        return None
    try:
        times = np.asarray(texts.cast(_INSTANT).view(pa.int64()))
    except pa.ArrowInvalid:
        return None  # more digits than microseconds, a leap second, or no time at all
    return times if times.min() >= FIRST_US else None


def instants_singly(texts: Sequence[Any], now_us: int = 0) -> list[int] | None:
    """Return times in microseconds UTC, `now_us` for absent ones; None where one is no time."""
    times: list[int] = []
    for text in texts:
        if text is None or text is msgspec.UNSET:
            times.append(now_us)
            continue
        us = parse_rfc3339(text) if len(text) <= ATTRIBUTE_CHARS_MAX else None
        if us is None:
            return None
        times.append(us)
    return times


def _plain(rows: Rows, events: Sequence[_WireEvent]) -> bool:
    """Whether every attribute is in range and no event needs a closer look."""
    named = [s for s in rows.subjects if s is not None]
    for texts in (rows.ids, rows.sources, rows.types, named):
        lengths = set(map(len, texts))
        if lengths and (min(lengths) == 0 or max(lengths) > ATTRIBUTE_CHARS_MAX):
            return False
    if UNPARSED_TYPE in rows.types or {e.specversion for e in events} != {"1.0"}:
        return False
    return {e.datacontenttype for e in events} <= _JSON_TYPES


def _fits(body: bytes, whole: _Whole, datas: Sequence[bytes], limits: AcceptLimits) -> bool:
    """Whether no event is larger than allowed, as it was sent."""
    if len(body) <= limits.event_bytes_max:
        return True
    if (
        whole.compact is None
        and max(map(len, datas)) + _ENVELOPE_BYTES_MAX <= limits.event_bytes_max
    ):
        return True
    return max(map(len, _RAWS.decode(body))) <= limits.event_bytes_max


def no_repeats(datas: Sequence[bytes]) -> bool:
    """Whether no object, at any depth, has a key twice; False also where it is not certain.

    Args:
        datas: compact JSON objects or nulls.

    Cost: one compiled decode and encode of each level of all events together.
    """
    level: Sequence[bytes] = datas
    for _ in range(DEPTH_FAST_MAX):
        joined = b"[" + b",".join(level) + b"]"
        try:
            objects = _OBJECTS.decode(joined)
        except (msgspec.DecodeError, RecursionError):
            return False
        if len(_ENCODE(objects)) != len(joined):
            return False
        if joined.count(b"{") == len(level) - objects.count(None):  # nothing nested, as usual
            return True
        nested = [o for data, o in zip(level, objects, strict=True) if o and _is_nested(data)]
        inside = [_objects_in(bytes(raw), DEPTH_FAST_MAX) for o in nested for raw in o.values()]
        if None in inside:
            return False
        level = [inner for found in inside if found for inner in found]
        if not level:
            return True
    return False


def _is_nested(data: bytes) -> bool:
    return data.count(b"{") > 1


def _objects_in(raw: bytes, depth: int) -> list[bytes] | None:
    """Return the objects that a value holds in arrays, or is; None where arrays are too deep."""
    if raw[:1] == b"{":
        return [raw]
    if raw[:1] != b"[" or b"{" not in raw:
        return []
    if depth == 0:
        return None
    inside = [_objects_in(bytes(item), depth - 1) for item in _RAWS.decode(raw)]
    return None if None in inside else [inner for found in inside if found for inner in found]


def events_of(body: bytes, limits: AcceptLimits) -> list[bytes]:
    """Return the values of a request's array, each as it was sent; raises Invalid."""
    try:
        pieces = _RAWS.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(
            f"the body is not a JSON array of events: {error}", code="malformed", field="body"
        ) from error
    if len(pieces) > limits.request_events_max:
        message = f"the request has {len(pieces)} events; the limit is {limits.request_events_max}"
        raise Invalid(message, code="too-large", field="body")
    return [bytes(piece) for piece in pieces]


def _sifted(
    tenant: str, pieces: Sequence[bytes], now_us: int, columns: ColumnSet, limits: AcceptLimits
) -> tuple[Rows, list[Refusal]]:
    """Take the fast road with all events but those that look unusual by themselves.

    One whose data has a key twice does not, and has all of them looked at.
    """
    latest_us = now_us + limits.future_seconds_max * SECOND_US
    likely = [_looks_plain(piece, latest_us, limits.event_bytes_max) for piece in pieces]
    count, plain = sum(likely), None
    if count >= _VECTOR_MIN:
        body = b"[" + b",".join([piece for piece, is_ in zip(pieces, likely, strict=True) if is_])
        plain = plain_rows(tenant, body + b"]", now_us, columns, limits)
    if plain is None:
        return _careful(tenant, pieces, now_us, columns, limits)
    rest = [piece for piece, is_ in zip(pieces, likely, strict=True) if not is_]
    odd, refused = _careful(tenant, rest, now_us, columns, limits)
    rows = Rows(columns)
    rows.extend(odd)
    rows.extend(plain)
    places = [index for index, is_ in enumerate(likely) if not is_]
    rows.reorder([*places, *(index for index, is_ in enumerate(likely) if is_)])
    found = [msgspec.structs.replace(one, index=places[one.index]) for one in refused]
    return rows, found


def _looks_plain(piece: bytes, latest_us: int, bytes_max: int) -> bool:
    """Whether an event has nothing unusual in its attributes, and an object or nothing as data."""
    try:
        piece.decode()
        event = _EVENT.decode(piece)
        if len(_ENCODE(event)) != len(piece) and not _is_whole(
            msgspec.json.format(piece, indent=-1)
        ):
            return False
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    texts = [event.id, event.source, event.type, *([event.subject] if event.subject else ())]
    lengths = [*map(len, texts)]
    if event.subject == "" or not (min(lengths) > 0 and max(lengths) <= ATTRIBUTE_CHARS_MAX):
        return False
    times = instants_singly([event.time])
    (data,) = _datas([event])
    return (
        event.specversion == "1.0"
        and event.type != UNPARSED_TYPE
        and event.datacontenttype in _JSON_TYPES
        and times is not None
        and times[0] <= latest_us
        and len(piece) <= bytes_max
        and (data[:1] == b"{" or data == _NO_DATA)
    )


def _is_whole(compact: bytes) -> bool:
    """Whether decoding loses nothing of an event without white space."""
    return len(_ENCODE(_EVENT.decode(compact))) == len(compact)


def _careful(
    tenant: str, pieces: Sequence[bytes], now_us: int, columns: ColumnSet, limits: AcceptLimits
) -> tuple[Rows, list[Refusal]]:
    rows, refused = Rows(columns), []
    latest_us = now_us + limits.future_seconds_max * SECOND_US
    for index, raw in enumerate(pieces):
        event = careful_event(raw, now_us, latest_us, limits.event_bytes_max)
        if event.problem is not None:
            refused.append(
                Refusal(index, event.id if event.named else "", event.problem, event.filed)
            )
        _append(rows, tenant, now_us, event)
    datas = [_NO_DATA if bad else data for data, bad in zip(rows.datas, rows.problems, strict=True)]
    rows.cells = columns.cells(datas)
    return rows, refused


def _kept_to(
    subjects: AbstractSet[str], body: bytes, rows: Rows, refused: list[Refusal]
) -> list[Refusal]:
    """Give a problem to each event of another subject; the last reason there is (CONTRACTS §2)."""
    others = {
        index
        for index, (subject, problem) in enumerate(zip(rows.subjects, rows.problems, strict=True))
        if subject not in subjects and problem is None
    }
    if not others:
        return refused
    pieces = _RAWS.decode(body)
    for index in others:
        rows.datas[index], rows.exts[index] = bytes(pieces[index]), None
        rows.problems[index] = f"{_NOT_YOURS.code}: {_NOT_YOURS.message}"
    datas = [_NO_DATA if bad else data for data, bad in zip(rows.datas, rows.problems, strict=True)]
    rows.cells = rows.columns.cells(datas)
    found = [Refusal(index, rows.ids[index], _NOT_YOURS) for index in others]
    return sorted([*refused, *found], key=lambda one: one.index)


def _append(rows: Rows, tenant: str, now_us: int, event: Any) -> None:
    rows.tenants.append(tenant)
    rows.ids.append(event.id)
    rows.sources.append(event.source)
    rows.types.append(event.type)
    rows.subjects.append(event.subject)
    rows.times.append(event.time_us)
    rows.stamped.append(event.stamped)
    rows.received.append(now_us)
    rows.exts.append(event.ext)
    rows.datas.append(event.data)
    problem = event.problem
    rows.problems.append(None if problem is None else f"{problem.code}: {problem.message}")
