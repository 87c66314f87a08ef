"""One event, looked at from every side: the careful road of `transport.accept`.

Refusals come in the order of CONTRACTS §2: too large, malformed, wrong version, missing
attribute, attribute out of range, time beyond the allowed future.
"""

import base64
import binascii
import hashlib
import json
import re
from typing import Any

import msgspec

from tallybook.kernel.event import UNPARSED_TYPE
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX
from tallybook.kernel.problem import Problem
from tallybook.kernel.timestamps import format_us, parse_rfc3339

_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_CORE = {"id", "source", "type", "specversion", "subject", "time", "data", "data_base64"}
_EXTENSION = re.compile(r"[a-z0-9]{1,64}\Z")


class Careful(msgspec.Struct, kw_only=True):
    """What became of one piece of a request; attributes as in `transport.rows`.

    Attributes:
        named: whether `id` is the sender's (else it is derived from the bytes).
        filed: a well-formed report of an unparsed line: quarantined, but not refused.
    """

    id: str
    source: str = ""
    type: str = ""
    subject: str | None = None
    time_us: int
    stamped: bool = True
    ext: str | None = None
    data: bytes
    problem: Problem | None = None
    named: bool = False
    filed: bool = False


class _Bad(Exception):
    def __init__(self, code: str, message: str, subject: str = "") -> None:
        super().__init__(message)
        self.problem = Problem(code=code, message=message, subject=subject)


def careful_event(raw: bytes, now_us: int, latest_us: int, bytes_max: int) -> Careful:
    """Return one event, or the same piece with its problem; never raises.

    Args:
        raw: one JSON value.
        now_us: receipt time, microseconds UTC.
        latest_us: times after it are beyond the allowed future.
        bytes_max: most bytes an event may have.
    """
    found = Careful(id=hashlib.sha256(raw).hexdigest(), time_us=now_us, data=raw)
    try:
        if len(raw) > bytes_max:
            raise _Bad("too-large", f"the event has {len(raw)} bytes; the limit is {bytes_max}")
        members = _members(raw)
        _fill(found, members, latest_us)
    except _Bad as bad:
        found.problem = bad.problem
        found.data = raw.decode(errors="replace").encode()
        found.ext = None
    return found


def _members(raw: bytes) -> dict[str, msgspec.Raw]:
    try:
        members = _OBJECT.decode(raw)
        _LOOK_INSIDE(raw.decode())
    except (ValueError, RecursionError) as error:
        raise _Bad("malformed", f"the event is not a JSON object: {error}") from error
    return members


def _no_number(_: str) -> None:
    """Leave a number unread: its size is no reason to refuse an event."""


def _no_repeats(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        message = f"the key '{twice[:80]}' occurs twice in one object; send it once"
        raise _Bad("malformed", message, twice[:80])


_LOOK_INSIDE = json.JSONDecoder(
    object_pairs_hook=_no_repeats, parse_int=_no_number, parse_float=_no_number
).decode
"""Raises where an object at any depth has a key twice; numbers of any length are left alone."""


def _fill(found: Careful, members: dict[str, msgspec.Raw], latest_us: int) -> None:
    values = {n: _attribute(n, r) for n, r in members.items() if n not in {"data", "data_base64"}}
    values = {name: value for name, value in values.items() if value is not None}
    _name(found, values)
    data = _data(members)
    report = _report(data) if values.get("type") == UNPARSED_TYPE else None
    if (version := values.get("specversion")) is not None and version != "1.0":
        raise _Bad(
            "wrong-version", f"specversion '{version}' is unknown; send '1.0'", "specversion"
        )
    for name in ("specversion", "id", "source", "type"):
        if name not in values:
            raise _Bad("missing-attribute", f"the event has no {name}; every event needs one", name)
    for name, value in values.items():
        _in_range(name, value)
    found.type = str(values["type"])
    found.subject = None if values.get("subject") is None else str(values["subject"])
    found.data = data
    _time(found, values, latest_us)
    ext = {name: value for name, value in values.items() if name not in _CORE}
    found.ext = json.dumps(ext, ensure_ascii=False, separators=(",", ":")) if ext else None
    found.problem, found.filed = report, report is not None


def _name(found: Careful, values: dict[str, Any]) -> None:
    """Keep the sender's own identity also for a piece that is refused later."""
    event_id, source = str(values.get("id", "")), str(values.get("source", ""))
    if all(0 < len(text) <= ATTRIBUTE_CHARS_MAX for text in (event_id, source)):
        found.id, found.source, found.named = event_id, source, True


def _attribute(name: str, raw: msgspec.Raw) -> Any:
    try:
        value = msgspec.json.decode(raw) if bytes(raw)[:1] not in {b"{", b"["} else dict
    except msgspec.DecodeError:  # a number that fits nothing
        value = dict
    text_only = name in _CORE or name in {"datacontenttype", "dataschema"}
    allowed: tuple[type, ...] = (str, type(None)) if text_only else (str, int, bool, type(None))
    if isinstance(value, allowed):
        return value
    kinds = "a text" if text_only else "a text, a whole number or true/false"
    raise _Bad("malformed", f"attribute {name} must be {kinds}", name)


def _in_range(name: str, value: Any) -> None:
    if name not in _CORE and not _EXTENSION.match(name):
        message = f"attribute name '{name[:80]}' may have only a-z and 0-9, at most 64"
        raise _Bad("attribute-out-of-range", message, name[:80])
    if (
        isinstance(value, str)
        and name != "dataschema"
        and not 0 < len(value) <= ATTRIBUTE_CHARS_MAX
    ):
        message = f"attribute {name} must have 1 to {ATTRIBUTE_CHARS_MAX} characters"
        raise _Bad("attribute-out-of-range", message, name)


def _data(members: dict[str, msgspec.Raw]) -> bytes:
    if "data_base64" in members:
        if "data" in members:
            raise _Bad("malformed", "send data or data_base64, not both", "data")
        return _json_object(_unbase64(members["data_base64"]))
    return _json_object(bytes(members["data"])) if "data" in members else b"null"


def _unbase64(raw: msgspec.Raw) -> bytes:
    try:
        return base64.b64decode(msgspec.json.decode(raw, type=str), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _Bad("malformed", "data_base64 is not base64", "data_base64") from error


def _json_object(data: bytes) -> bytes:
    data = data.strip()
    if data == b"null":
        return data
    try:
        _OBJECT.decode(data)
        _LOOK_INSIDE(data.decode())
    except (ValueError, RecursionError) as error:
        raise _Bad("malformed", "data must be a JSON object", "data") from error
    return data


def _time(found: Careful, values: dict[str, Any], latest_us: int) -> None:
    text = values.get("time")
    if text is None:
        return
    us = parse_rfc3339(text)
    if us is None:
        message = f"time '{text[:80]}' is not RFC 3339, such as 2026-11-21T08:00:00Z"
        raise _Bad("attribute-out-of-range", message, "time")
    found.time_us, found.stamped = us, False
    if us > latest_us:
        message = f"time {text} lies beyond {format_us(latest_us)}; check the sender's clock"
        raise _Bad("time-in-future", message, "time")


class _Unparsed(msgspec.Struct):
    code: str
    message: str


def _report(data: bytes) -> Problem:
    try:
        report = msgspec.json.decode(data, type=_Unparsed)
    except msgspec.DecodeError as error:
        message = f"an event of type {UNPARSED_TYPE} needs data with code and message"
        raise _Bad("malformed", message, "data") from error
    return Problem(code=report.code[:64], message=report.message[:1000])
