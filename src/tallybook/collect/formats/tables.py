"""Exports as events: one JSON object a line, CSV rows, and lines that are CloudEvents already.

Fields are named, or reached by a path (`$.a.b`). Values stay as they are: a CSV cell is text, and
a meter reads numeric text exactly.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator

import msgspec

from tallybook.collect.fileid import line_digest
from tallybook.collect.formats.jsonlog import json_object, printable
from tallybook.collect.formats.moments import moment
from tallybook.collect.lines import LINE_BYTES_MAX, Envelope, Line, Parse, Record
from tallybook.kernel.errors import Invalid
from tallybook.kernel.jsonpath import Step, steps
from tallybook.kernel.problem import Problem


class Fields(msgspec.Struct, frozen=True, kw_only=True):
    """Where an export keeps what an event needs.

    Attributes:
        type: the events' type, or a path starting with `$` to where each line has it.
        subject: field or path; None where nobody is named.
        time: field or path; None takes the receipt time.
        id: field or path; None derives ids from file and position.
    """

    type: str
    subject: str | None = None
    time: str | None = None
    id: str | None = None


def parse_objects(fields: Fields) -> Parse:
    """Return the reader of lines that are JSON objects; the object as it stands is the data."""
    read = _reader(fields)

    def parse(text: str) -> Record | Problem:
        found = json_object(text)
        return found if isinstance(found, Problem) else read(found, text.strip().encode())

    return parse


def parse_rows(fields: Fields, heading: str) -> Parse:
    """Return the reader of CSV rows under a heading.

    Raises:
        Invalid: the heading is empty, names a column twice, or lacks a named field.
    """
    try:
        columns = next(csv.reader([heading.removeprefix("\ufeff")], strict=True), [])
    except csv.Error as error:
        raise Invalid(f"the heading is not CSV: {error}", field="heading") from error
    _check_columns(columns, fields)
    read = _reader(fields)

    def parse(text: str) -> Record | Problem:
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        except csv.Error as error:
            return Problem(code="line-malformed", message=f"the row is not CSV: {error}")
        if len(rows) != 1 or len(rows[0]) != len(columns):
            cells = len(rows[0]) if rows else 0
            message = f"the row has {cells} cells; the heading has {len(columns)}"
            return Problem(code="line-malformed", message=message)
        row: dict[str, object] = {c: v or None for c, v in zip(columns, rows[0], strict=True)}
        return read(row, msgspec.json.encode(row))

    return parse


def parse_event(text: str) -> Envelope | Problem:
    """Return a line that is a CloudEvent as it stands; the server judges its attributes."""
    found = json_object(text)
    return found if isinstance(found, Problem) else Envelope(text.strip().encode())


def logical_rows(lines: Iterable[Line]) -> Iterator[Line]:
    """Join the lines of a CSV row whose quoted cells hold line ends."""
    held: list[Line] = []
    for line in lines:
        held.append(line)
        if sum(part.content.count(b'"') for part in held) % 2 == 0:
            yield _row(held)
            held = []
    if held:
        yield _row(held)


def _row(parts: list[Line]) -> Line:
    if len(parts) == 1:
        return parts[0]
    content = b"\n".join(part.content for part in parts)
    length = sum(part.length + 1 for part in parts) - 1
    digest = line_digest(b"".join(part.digest.encode() for part in parts))
    return Line(parts[0].offset, length, content[:LINE_BYTES_MAX], digest, parts[-1].end)


def _check_columns(columns: list[str], fields: Fields) -> None:
    if not any(columns) or len(set(columns)) != len(columns):
        raise Invalid("the first row must name every column once", field="heading")
    for field in (fields.subject, fields.time, fields.id):
        if field is not None and not field.startswith("$") and field not in columns:
            known = ", ".join(columns)
            raise Invalid(f"there is no column '{field}'; there are {known}", field="heading")


def _reader(fields: Fields) -> Callable[[dict[str, object], bytes], Record | Problem]:
    paths = {
        name: _steps(field)
        for name, field in (("subject", fields.subject), ("time", fields.time), ("id", fields.id))
        if field is not None
    }
    type_path = steps(fields.type) if fields.type.startswith("$") else None

    def read(row: dict[str, object], data: bytes) -> Record | Problem:
        kind = fields.type if type_path is None else printable(_at(row, type_path))
        found = {name: _at(row, path) for name, path in paths.items()}
        if "time" in found:
            found["time"] = moment(found["time"])
        needed = {"type": kind, **{n: v for n, v in found.items() if n in {"time", "id"}}}
        for name, value in needed.items():
            if printable(value) is None:
                message = f"the line has no usable {name}"
                return Problem(code="line-field", subject=name, message=message)
        texts = {name: printable(value) for name, value in found.items()}
        return Record(type=kind or "", data=msgspec.Raw(data), **texts)

    return read


def _steps(field: str) -> tuple[Step, ...]:
    return steps(field) if field.startswith("$") else (field,)


def _at(value: object, path: tuple[Step, ...]) -> object:
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value
