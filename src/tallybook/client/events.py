"""Events as a program records them, checked and spelled at once."""

import secrets
import socket
import time
from collections.abc import Mapping
from datetime import datetime
from itertools import count

import msgspec

from tallybook.kernel.errors import Invalid, TallybookError
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX, EVENT_BYTES_MAX
from tallybook.kernel.timestamps import format_us, parse_rfc3339, to_us

RESERVED = frozenset({"id", "source", "type", "specversion", "subject", "time", "data"})


class RefusedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that cannot be counted as it is.

    Attributes:
        event: as it was sent, JSON.
        code: why, as in the API's problems; message: the same for people.
        quarantined: the server keeps it: it can be corrected and redriven there. Otherwise the
            server has not taken it; with a spool it is in `refused.ndjson` beside it.
    """

    event: bytes
    code: str
    message: str
    quarantined: bool


class Names:
    """Makes identities: one random part for a process, then numbers. Anew after a fork."""

    def __init__(self) -> None:
        """Draw the random part."""
        self._own = secrets.token_hex(10)
        self._numbers = count(1)

    def next(self) -> str:
        """Return a fresh id; safe for threads."""
        return f"{self._own}-{next(self._numbers)}"


def default_source() -> str:
    """Return the source of events whose program names none: this machine."""
    return f"app:{socket.gethostname()}"


def event_line(
    kind: str,
    subject: str | None,
    data: object,
    *,
    id: str,
    source: str,
    time_of: datetime | str | None,
    extensions: Mapping[str, object] | None,
) -> bytes:
    """Return an event as CloudEvents JSON.

    Raises:
        Invalid: the server would refuse it; names the field.
    """
    line: dict[str, object] = {
        "specversion": "1.0",
        "type": _text("type", kind),
        "source": _text("source", source),
        "id": _text("id", id),
    }
    if subject is not None:
        line["subject"] = _text("subject", subject)
    line["time"] = _time(time_of)
    for name, value in (extensions or {}).items():
        line[_extension(name)] = value
    if data is not None:
        line["data"] = _object(data)
    return _encoded(line)


def whole_event(event: Mapping[str, object], id: str, source: str) -> bytes:
    """Return a CloudEvent with what it lacks filled in; raises Invalid."""
    data = event.get("data")
    if not isinstance(event.get("type"), str):
        raise Invalid("an event needs a type", field="type")
    subject, moment = event.get("subject"), event.get("time")
    return event_line(
        str(event["type"]),
        None if subject is None else str(subject),
        data,
        id=str(event.get("id") or id),
        source=str(event.get("source") or source),
        time_of=moment if isinstance(moment, datetime) or moment is None else str(moment),
        extensions={name: value for name, value in event.items() if name not in RESERVED},
    )


def _encoded(line: dict[str, object]) -> bytes:
    encoded = _json(line)
    if len(encoded) > EVENT_BYTES_MAX:
        message = f"the event has {len(encoded)} bytes; the limit is {EVENT_BYTES_MAX}"
        raise Invalid(message, code="too-large", field="data")
    return encoded


def _object(data: object) -> msgspec.Raw:
    encoded = _json(data)
    if encoded[:1] != b"{":
        raise Invalid("data must be a JSON object", code="malformed", field="data")
    return msgspec.Raw(encoded)


def _json(value: object) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise Invalid(f"the event is not JSON: {error}", code="malformed", field="data") from error


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= ATTRIBUTE_CHARS_MAX:
        message = f"{name} must be a text of 1 to {ATTRIBUTE_CHARS_MAX} characters"
        raise Invalid(message, code="attribute-out-of-range", field=name)
    return value


def _extension(name: str) -> str:
    if not (name.isalnum() and name.isascii() and name == name.lower()) or len(name) > 64:
        message = f"the extension '{name}' must be lower-case letters and digits"
        raise Invalid(message, code="attribute-out-of-range", field=name)
    return name


def _time(value: datetime | str | None) -> str:
    """Return an instant in RFC 3339; the present one where none is given."""
    if value is None:
        return format_us(time.time_ns() // 1000)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise Invalid(
                "time needs a zone, such as tzinfo=UTC", code="attribute-out-of-range", field="time"
            )
        return format_us(to_us(value))
    if parse_rfc3339(value) is None:
        message = f"time '{value}' is not RFC 3339, such as 2026-11-01T00:00:00Z"
        raise Invalid(message, code="attribute-out-of-range", field="time")
    return value


def refused(piece: bytes, error: TallybookError) -> RefusedEvent:
    """Return what is told of an event that the server has not taken."""
    return RefusedEvent(event=piece, code=error.code, message=error.message, quarantined=False)
