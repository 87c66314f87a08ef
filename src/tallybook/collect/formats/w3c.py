"""The W3C extended log format: IIS, CDNs; the file itself says what its columns are.

Lines that begin with `#` are directives. `#Fields:` names the columns of the lines after it, until
the next one: a server that is restarted or reconfigured writes a new one into the middle of a file.
Times are UTC. A column `date` has the day; without one the day is that of the `#Date:` before, and
the day after it for a time that is earlier than that directive's.

- columns stand apart by tabs, or by spaces; text in quotes may hold spaces, `""` in it is a quote;
- `-` is absent; a plus sign that IIS writes for a space stays as logged;
- a line before any `#Fields:`, or with another number of columns, is a problem.

Source: W3C working draft WD-logfile-960323; IIS and CloudFront field names.
"""

import re
from collections.abc import Callable
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

import msgspec

from tallybook.collect.formats.accesslog import REQUEST_TYPE
from tallybook.collect.lines import Parse, Record
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX
from tallybook.kernel.problem import Problem
from tallybook.kernel.timestamps import parse_rfc3339

MARK = "#"
HEADING_CHARS_MAX = 4096
COLUMNS_MAX = 128
_CELL = re.compile(r'"(?:[^"]|"")*"|[^ \t]+')
_HEADER = re.compile(r"(cs|sc|c|s|rs|sr)\(([^)]+)\)\Z")
_OTHER = re.compile(r"[^a-z0-9]+")
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d:\d\d))?")
_WHOLE = re.compile(r"\d{1,18}\Z", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})(?:\.\d{1,12})?\Z", re.ASCII)
_NAMES = {
    "c-ip": "client",
    "cs-method": "method",
    "cs-uri": "path",
    "cs-uri-stem": "stem",
    "cs-uri-query": "query",
    "cs-username": "user",
    "cs-version": "protocol",
    "cs-protocol-version": "protocol",
    "cs(referer)": "referer",
    "cs(user-agent)": "user_agent",
    "sc-status": "status",
    "sc-bytes": "bytes",
    "cs-bytes": "request_length",
    "cs-host": "host",
}
_WHOLES = {"status", "bytes", "request_length"}
_NUMBERS = {
    "time_taken",
    "s_port",
    "c_port",
    "sc_substatus",
    "sc_win32_status",
    "time_to_first_byte",
}


class Columns(msgspec.Struct, frozen=True):
    """What directives said so far.

    Attributes:
        fields: names of the columns, in their order; () while none were named.
        day: of the last `#Date:`, '' for none. clock: its time, '' for none.
    """

    fields: tuple[str, ...] = ()
    day: str = ""
    clock: str = ""


def is_directive(text: str) -> bool:
    """Whether a line says how to read others, and is no event."""
    return text.startswith(MARK)


def heading_after(heading: str, text: str) -> str:
    """Return what directives said, as text to be kept, after one more of them."""
    name, _, said = text[1:].partition(":")
    known = _columns(heading)
    match name.strip().lower():
        case "fields":
            found = msgspec.structs.replace(known, fields=tuple(said.split()))
        case "date":
            day = _DATE.search(said)
            if day is None:
                return heading
            found = msgspec.structs.replace(known, day=day[1], clock=day[2] or "")
        case _:
            return heading
    kept = msgspec.json.encode(found).decode()
    return kept if len(kept) <= HEADING_CHARS_MAX else ""


def reader(subject: str | None) -> Callable[[str], Parse]:
    """Return what gives, for what directives said, the reader of lines.

    Args:
        subject: the field that names who used it, such as `http_x_tenant`; None is the client.
    """

    @lru_cache(maxsize=8)
    def under(heading: str) -> Parse:
        columns = _columns(heading)
        names = [_named(field) for field in columns.fields]

        def parse(text: str) -> Record | Problem:
            return _read(text, columns, names, subject)

        return parse

    return under


def _columns(heading: str) -> Columns:
    return msgspec.json.decode(heading, type=Columns) if heading else Columns()


def _named(field: str) -> str:
    """Return what a column is called in an event; a header as the other formats call it."""
    lower = field.lower()
    if lower in _NAMES:
        return _NAMES[lower]
    header = _HEADER.match(lower)
    if header is not None:
        plain = _OTHER.sub("_", header[2]).strip("_")
        return f"http_{plain}" if header[1] in {"cs", "c"} else f"sent_http_{plain}"
    return _OTHER.sub("_", lower).strip("_")


def _read(text: str, columns: Columns, names: list[str], subject: str | None) -> Record | Problem:
    if not names or len(names) > COLUMNS_MAX:
        message = "no #Fields: line before it says what the columns are"
        return Problem(code="line-malformed", message=message)
    cells = text.split("\t") if "\t" in text else _CELL.findall(text)
    if len(cells) != len(names):
        message = f"the line has {len(cells)} columns; #Fields: names {len(names)}"
        return Problem(code="line-malformed" if text.strip() else "line-empty", message=message)
    found: dict[str, Any] = {}
    for name, cell in zip(names, cells, strict=True):
        value = _value(name, cell)
        if isinstance(value, Problem):
            return value
        if found.get(name) is None:
            found[name] = value
    time = _time(found, columns)
    if time is None:
        message = "the line has no date and time that exist"
        return Problem(code="line-time", subject="time", message=message)
    return _record(found, time, subject)


def _value(name: str, cell: str) -> Any:
    text = cell[1:-1].replace('""', '"') if cell[:1] == cell[-1:] == '"' and len(cell) > 1 else cell
    if text in {"-", ""}:
        return None
    if name in _WHOLES:
        if _WHOLE.match(text):
            return int(text)
        message = f"'{text[:40]}' is not a whole number"
        return Problem(code="line-field", subject=name, message=message)
    if name in _NUMBERS and _NUMBER.match(text):
        return msgspec.Raw(text.encode())
    return text


def _time(found: dict[str, Any], columns: Columns) -> str | None:
    day, clock = found.pop("date", None), found.pop("time", None)
    if clock is None:
        return None
    if day is None and columns.day:
        day = columns.day
        if columns.clock and clock < columns.clock:
            day = _next(day)
    spelled = f"{day}T{clock}Z"
    return spelled if parse_rfc3339(spelled) is not None else None


def _next(day: str) -> str:
    try:
        return (date.fromisoformat(day) + timedelta(days=1)).isoformat()
    except (ValueError, OverflowError):
        return ""


def _record(found: dict[str, Any], time: str, subject: str | None) -> Record | Problem:
    used_by = found.get(subject or "client")
    used_by = bytes(used_by).decode() if isinstance(used_by, msgspec.Raw) else used_by
    used_by = None if used_by is None else str(used_by)
    if used_by is not None and (len(used_by) > ATTRIBUTE_CHARS_MAX or not used_by.isprintable()):
        message = "the subject is too long or not printable"
        return Problem(code="line-field", subject="subject", message=message)
    if subject is None:
        found.pop("client", None)
    data = _facts(found) | {name: value for name, value in found.items() if value is not None}
    encoded = msgspec.Raw(msgspec.json.encode(data))
    return Record(type=REQUEST_TYPE, subject=used_by, time=time, data=encoded)


def _facts(found: dict[str, Any]) -> dict[str, Any]:
    """Take the facts of a request out of what a line says."""
    stem, query = found.pop("stem", None), found.pop("query", None)
    path = found.pop("path", None) or stem
    if path is not None and query is not None and "?" not in path:
        path = f"{path}?{query.removeprefix('?')}"
    facts = {"method": found.pop("method", None), "path": path}
    rest = ("status", "bytes", "protocol", "referer", "user_agent")
    return facts | {name: found.pop(name, None) for name in rest}
