"""A record: a stored event as the router sees it, and the document that patterns are matched on.

The document is the event in the JSON form of CloudEvents: `specversion`, `id`, `source`, `type`,
`subject` where there is one, `time` (RFC 3339, UTC, also where the sender gave none), the
extension attributes beside them, and `data`. Consumers get the same document.
"""

from functools import lru_cache
from typing import Any

import msgspec

from tallybook.kernel.timestamps import format_us
from tallybook.route.pattern.numbers import exact

_encode = msgspec.json.encode
_VALUES = msgspec.json.Decoder(float_hook=exact)
_RAWS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NO_DATA = "null"


@lru_cache(maxsize=8)
def _time(us: int) -> str:
    """Return an instant as text; a record's is asked for twice."""
    return format_us(us)


class Place(msgspec.Struct, frozen=True, order=True):
    """How far a reader of the lake has come.

    Attributes:
        commit_seq: a lake commit.
        row: how many of its rows, in the order of records, are done; `DONE` is all of them.
    """

    commit_seq: int = 0
    row: int = 0


DONE = 1 << 40


def begun_anew(place: Place) -> Place:
    """Return where a reader goes on after a stop: a commit in the middle is read from its start.

    What it put on streams already is known there, and is not put again.
    """
    return place if place.row >= DONE else Place(place.commit_seq, 0)


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One accepted event of the lake.

    Attributes:
        time_us: event time, microseconds UTC.
        ext: JSON object of the extension attributes, None for none.
        data: JSON as received; 'null' for none.
        commit_seq: the lake commit that brought it.
        key: the event's identity within the lake, 16 bytes.
    """

    tenant: str
    id: str
    source: str
    type: str
    subject: str | None
    time_us: int
    received_us: int
    ext: str | None
    data: str
    commit_seq: int
    key: bytes


def envelope(record: Record) -> bytes:
    """Return the record as a CloudEvent, JSON; data and extensions to the letter as received."""
    subject = b"" if record.subject is None else b',"subject":' + _encode(record.subject)
    ext = b"" if record.ext is None else _members(record.ext)
    return (
        b'{"specversion":"1.0","id":' + _encode(record.id)
        + b',"source":' + _encode(record.source)
        + b',"type":' + _encode(record.type)
        + subject
        + b',"time":"' + _time(record.time_us).encode() + b'"'
        + ext
        + (b"" if record.data == _NO_DATA else b',"data":' + record.data.encode())
        + b"}"
    )  # fmt: skip


def _members(ext: str) -> bytes:
    """Return the members of a JSON object, each after a comma."""
    inner = ext.strip()[1:-1].strip()
    return b"," + inner.encode() if inner else b""


def document(record: Record) -> dict[str, Any]:
    """Return what patterns are matched on; numbers are exact."""
    found: dict[str, Any] = {} if record.ext is None else _VALUES.decode(record.ext)
    found["specversion"] = "1.0"
    found["id"] = record.id
    found["source"] = record.source
    found["type"] = record.type
    found["time"] = _time(record.time_us)
    if record.subject is not None:
        found["subject"] = record.subject
    if record.data != _NO_DATA:
        found["data"] = _VALUES.decode(record.data)
    return found


def document_of(text: bytes) -> dict[str, Any]:
    """Return the document of an event that somebody tries a pattern on.

    Raises:
        msgspec.MsgspecError: it is no JSON object.
    """
    _RAWS.decode(text)
    found: dict[str, Any] = _VALUES.decode(text)
    return found
