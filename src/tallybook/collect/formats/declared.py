r"""Formats that a server's own configuration spells, compiled to one expression a line.

A declared format is literal text and variables. A variable becomes a fact of the request under
the names of `accesslog.RequestData`, or stands in the data under a name of its own. A line that
does not match to the last character is a problem, never half an event.

- a variable in quotes may hold escapes; unquoted it ends where the literal after it begins;
- `-` is absent (0 for byte counts); a number that is none is a problem of that line;
- the subject is the client address, or whatever the declaration names; it may be absent.

Cost: about 4 µs a line.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from tallybook.collect.formats.accesslog import REQUEST_TYPE, mismatch, split_request, unescaped
from tallybook.collect.formats.moments import clf_time, moment
from tallybook.collect.lines import Parse, Record
from tallybook.kernel.errors import Invalid
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX
from tallybook.kernel.problem import Problem

Kind = Literal["text", "list", "whole", "number", "clf", "moment", "request"]
"""How a variable's text is read; a list is text that may hold `, ` outside quotes."""

FORMAT_CHARS_MAX = 4096
VARIABLES_MAX = 64

_ESCAPABLE = r"((?:[^{0}\\]++|\\.)*+)"
_SHAPES: dict[str, str] = {
    "whole": r"(\d{1,18}|-)",
    "number": r"(-?\d{1,18}(?:\.\d{1,12})?|-)",
}
_LISTED = r"([^{0},]*+(?:(?:, ?| : )[^{0},]*+)*)"
_OFFSET = re.compile(r"(?<=:\d\d)([+-]\d\d)(\d\d)\Z", re.ASCII)
"""Of a strftime time: RFC 3339 has a colon in it."""
_FACTS = ("method", "path", "status", "bytes", "protocol", "referer", "user_agent")
_ABSENT = frozenset({"", "-"})


class Variable(msgspec.Struct, frozen=True):
    """A place in a line.

    Attributes:
        field: what it becomes: `client`, `time`, `request`, a fact of the request, or a name.
        kind: how its text is read.
    """

    field: str
    kind: Kind = "text"


Token = str | Variable
"""Literal text, or a place."""


def compiled(name: str, tokens: Sequence[Token], subject: str | None = None) -> Parse:
    """Return the reader of lines of a declared format.

    Args:
        name: of the format, for messages.
        tokens: in the order of the line.
        subject: the field whose value is the events' subject; None is `client`.

    Raises:
        Invalid: two variables touch, there is no time, or the subject is no field.
    """
    parts = _merged(tokens)
    variables = [part for part in parts if isinstance(part, Variable)]
    _check(variables, subject)
    line = re.compile(_expression(parts) + r"\Z", re.DOTALL)

    def parse(text: str) -> Record | Problem:
        match = line.match(text)
        if match is None:
            return mismatch(text, name)
        found = _values(variables, match.groups())
        return found if isinstance(found, Problem) else _record(found, subject)

    return parse


def _merged(tokens: Sequence[Token]) -> list[Token]:
    """Join literals that touch, so that what follows a variable is seen whole."""
    parts: list[Token] = []
    for token in tokens:
        if isinstance(token, str) and parts and isinstance(parts[-1], str):
            parts[-1] += token
        elif token != "":
            parts.append(token)
    return parts


def _check(variables: Sequence[Variable], subject: str | None) -> None:
    fields = {variable.field for variable in variables}
    if len(variables) > VARIABLES_MAX:
        raise Invalid(f"the format has more than {VARIABLES_MAX} variables", field="pattern")
    if not fields & {"time", "date"}:
        raise Invalid("the format has no time, and lines without one cannot be billed",
                      field="pattern")  # fmt: skip
    if subject is not None and subject not in fields:
        known = ", ".join(sorted(fields))
        raise Invalid(f"the format has no '{subject}'; it has {known}", field="subject")


def _expression(parts: Sequence[Token]) -> str:
    found = []
    for number, part in enumerate(parts):
        if isinstance(part, str):
            found.append(re.escape(part))
            continue
        before = parts[number - 1] if number else ""
        after = parts[number + 1] if number + 1 < len(parts) else ""
        if (part.field, getattr(after, "field", "")) == ("path", "query"):
            found.append(r"([^ ?\"]*+)")  # the query brings its question mark
            continue
        if isinstance(after, Variable):
            message = f"'{part.field}' and '{after.field}' touch; put something between them"
            raise Invalid(message, field="pattern")
        found.append(_shape(part, before[-1:] if isinstance(before, str) else "", after[:1]))
    return "".join(found)


def _shape(variable: Variable, before: str, after: str) -> str:
    if variable.kind in _SHAPES:
        return _SHAPES[variable.kind]
    if not after:
        return "(.*)"
    if before == after == '"':
        return _ESCAPABLE.format('"')
    stop = re.escape("]" if variable.kind == "clf" and before == "[" else after)
    return (_LISTED if variable.kind == "list" else "([^{0}]*)").format(stop)


def _values(variables: Sequence[Variable], texts: Sequence[str | None]) -> dict[str, Any] | Problem:
    """Return field -> value; the first that is there wins where two say the same."""
    found: dict[str, Any] = {}
    for variable, text in zip(variables, texts, strict=True):
        value = _value(variable, text or "")
        if isinstance(value, Problem):
            return value
        if found.get(variable.field) is None:
            found[variable.field] = value
    return found


def _value(variable: Variable, text: str) -> Any:
    match variable.kind:
        case "whole":
            return int(text) if text != "-" else None
        case "number":
            return msgspec.Raw(_digits(text)) if text != "-" else None
        case "clf" | "moment":
            spelled = _OFFSET.sub(r"\1:\2", text)
            time = clf_time(text) if variable.kind == "clf" else moment(spelled)
            if time is None:
                message = f"'{text[:80]}' is not a time"
                return Problem(code="line-time", subject="time", message=message)
            return time
        case "request":
            return unescaped(text)
        case _:
            return None if text in _ABSENT else unescaped(text)


def _digits(text: str) -> bytes:
    """Return a number as JSON spells it: `007.5` is 7.5, every other digit stays."""
    sign, plain = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, dot, fraction = plain.partition(".")
    return f"{sign}{whole.lstrip('0') or '0'}{dot}{fraction}".encode()


def _record(found: dict[str, Any], subject: str | None) -> Record | Problem:
    used_by = _subject(found, subject)
    if used_by is not None and (len(used_by) > ATTRIBUTE_CHARS_MAX or not used_by.isprintable()):
        message = "the subject is too long or not printable"
        return Problem(code="line-field", subject="subject", message=message)
    time = found.pop("time")
    _spread(found)
    data = {name: found.pop(name, None) for name in _FACTS}
    if data["bytes"] is None:
        data["bytes"] = _bytes(found)
    if subject is None:
        found.pop("client", None)
    data |= {name: value for name, value in found.items() if value is not None}
    encoded = msgspec.Raw(msgspec.json.encode(data))
    return Record(type=REQUEST_TYPE, subject=used_by, time=time, data=encoded)


def _spread(found: dict[str, Any]) -> None:
    """Put the parts of a request line, and a query, where they belong."""
    request = found.pop("request", None)
    if request is not None:
        said = dict(zip(("method", "path", "protocol"), split_request(request), strict=True))
        found |= {k: v for k, v in said.items() if found.get(k) is None}
    query = found.pop("query", None)
    if query and found.get("path"):
        found["path"] += query if query.startswith("?") else f"?{query}"


def _bytes(found: Mapping[str, Any]) -> int | None:
    """Return the byte count of a format without a body count: headers are in it then."""
    return found.get("bytes_sent")


def _subject(found: Mapping[str, Any], subject: str | None) -> str | None:
    """Return who used it; of a chain of addresses the last, which the server itself saw."""
    value = found.get(subject or "client")
    if value is None and subject is None:
        chain = found.get("forwarded_for")
        return chain.rpartition(",")[2].strip() if chain else None
    if isinstance(value, msgspec.Raw):
        return bytes(value).decode()
    return None if value is None else str(value)
