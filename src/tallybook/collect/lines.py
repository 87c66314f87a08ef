"""A line of a file, and the event it becomes: either what it says, or why it cannot be read.

Guarantee: one line is one event with one identity, whether or not it could be read, so lines =
counted + quarantined, and reading twice changes nothing (DECISIONS 23).
"""

import re
from collections.abc import Callable

import msgspec

from tallybook.collect.fileid import Origin, line_id
from tallybook.collect.formats.moments import clf_time
from tallybook.kernel.event import UNPARSED_TYPE, UsageEvent
from tallybook.kernel.limits import EVENT_BYTES_MAX
from tallybook.kernel.problem import Problem

LINE_BYTES_MAX = EVENT_BYTES_MAX
"""Longer lines are kept only up to here; their digest covers all of them."""

EXCERPT_CHARS = 8192
"""How much of a line goes to quarantine when it is too large to go there whole."""

_DATA_BYTES_MAX = EVENT_BYTES_MAX - 8192
"""Leaves room for the longest envelope of an unparsed line."""

_CLF_ANYWHERE = re.compile(r"\[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\]")


class Line(msgspec.Struct, frozen=True):
    """A line as it stands in its file.

    Attributes:
        offset: byte position of its first byte.
        length: bytes without the line end.
        content: the bytes, cut at `LINE_BYTES_MAX`.
        digest: 16 hexadecimal digits over all bytes.
        end: byte position after its line end.
    """

    offset: int
    length: int
    content: bytes
    digest: str
    end: int


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What a line says, once read.

    Attributes:
        type: the event's type.
        data: its JSON object.
        subject: who used it, or None.
        time: RFC 3339, or None where the line has none.
        id: the line's own id; None derives one from the file and the position.
    """

    type: str
    data: msgspec.Raw
    subject: str | None = None
    time: str | None = None
    id: str | None = None


class Envelope(msgspec.Struct, frozen=True):
    """A line that is a CloudEvent already, as it stands."""

    content: bytes


Parse = Callable[[str], Record | Envelope | Problem]
"""Reads one line of one format."""


class Unparsed(msgspec.Struct, frozen=True, kw_only=True):
    """The data of an event of `UNPARSED_TYPE`."""

    line: str
    format: str
    code: str
    message: str
    origin: str


def text_of(content: bytes) -> str:
    r"""Return a line as text; a byte that is not UTF-8 becomes `\xhh`, as Apache writes it."""
    return content.decode("utf-8", "backslashreplace")


def line_event(line: Line, origin: Origin, form: str, found: Record | Problem) -> UsageEvent:
    """Return the event of one line.

    Args:
        line: as it stands in the file.
        origin: which file.
        form: the format's name, for the quarantine.
        found: what the line says, or why it cannot be read.
    """
    if isinstance(found, Problem):
        return unparsed_event(line, origin, form, found)
    return UsageEvent(
        id=found.id or line_id(origin, line.offset, line.digest),
        source=origin.source,
        type=found.type,
        subject=found.subject,
        time=found.time,
        data=found.data,
    )


def unparsed_event(line: Line, origin: Origin, form: str, problem: Problem) -> UsageEvent:
    """Return the event that carries a line to quarantine, with the identity it would have had.

    Its time is the line's own where one can be recognised, so that reading again is the same.
    """
    text = text_of(line.content)
    clock = _CLF_ANYWHERE.search(text)
    data = Unparsed(
        line=text,
        format=form,
        code=problem.code,
        message=problem.message,
        origin=f"{origin.source}#byte={line.offset}",
    )
    encoded = msgspec.json.encode(data)
    if len(encoded) > _DATA_BYTES_MAX:
        encoded = msgspec.json.encode(msgspec.structs.replace(data, line=text[:EXCERPT_CHARS]))
    return UsageEvent(
        id=line_id(origin, line.offset, line.digest),
        source=origin.source,
        type=UNPARSED_TYPE,
        time=clf_time(clock[1]) if clock else None,
        data=msgspec.Raw(encoded),
    )


def parsed(line: Line, parse: Parse) -> Record | Envelope | Problem:
    """Return what a line says; one that was cut because of its length is a problem."""
    if line.length > len(line.content):
        message = f"the line has {line.length} bytes; an event may have {EVENT_BYTES_MAX}"
        return Problem(code="line-too-long", message=message)
    return parse(text_of(line.content))
