"""The formats a line can have, by name, and the wire JSON of the event each line becomes."""

from collections.abc import Callable
from typing import Literal, get_args

from tallybook.collect.fileid import Origin
from tallybook.collect.formats import apache, envoy, nginx, w3c
from tallybook.collect.formats.accesslog import parse_combined, parse_common
from tallybook.collect.formats.declared import Token, compiled
from tallybook.collect.formats.jsonlog import parse_json
from tallybook.collect.formats.tables import parse_event
from tallybook.collect.lines import (
    Envelope,
    Line,
    Parse,
    line_event,
    parsed,
    text_of,
    unparsed_event,
)
from tallybook.collect.spool import encode_event, fits
from tallybook.kernel.errors import Invalid
from tallybook.kernel.limits import EVENT_BYTES_MAX
from tallybook.kernel.problem import Problem

LogName = Literal["combined", "common", "json", "nginx", "apache", "envoy", "w3c"]
FOLLOWED = ("combined", "common", "json", "nginx", "apache", "envoy", "w3c", "cloudevents")
"""What a file that is followed may hold: log lines, or events that are complete already."""
LOG_NAMES: tuple[str, ...] = get_args(LogName)
DECLARED = ("nginx", "apache", "envoy")
"""Formats that the server's own configuration spells."""
_PARSERS: dict[str, Parse] = {
    "combined": parse_combined,
    "common": parse_common,
    "json": parse_json,
    "cloudevents": parse_event,
}


class LogFormat:
    """A named way to read lines.

    Args:
        name: for the quarantine and for people.
        parse: reads one line.
        complete_at_end: whether a last line without a line end can be told from one cut off.
        under: of a format whose files say themselves how to read them: the reader of lines after
            these directives.
    """

    def __init__(
        self,
        name: str,
        parse: Parse,
        *,
        complete_at_end: bool,
        under: Callable[[str], Parse] | None = None,
    ) -> None:
        """Keep the parts."""
        self.name = name
        self.parse = parse
        self.complete_at_end = complete_at_end
        self.under = under


class Reading:
    """The lines of one file, read in their order.

    Args:
        form: of its lines.
        origin: which file.
        heading: what directives before the first of these lines said.

    Attributes:
        heading: what they said up to the last line that was read.
    """

    def __init__(self, form: LogFormat, origin: Origin, heading: str = "") -> None:
        """Read nothing yet."""
        self._form = form
        self._origin = origin
        self._parse = form.parse if form.under is None else form.under(heading)
        self.heading = heading

    def piece(self, line: Line) -> bytes | None:
        """Return the event of a line as wire JSON; None of one that is a directive."""
        form = self._form
        if form.under is not None and w3c.is_directive(text_of(line.content[:1])):
            self.heading = w3c.heading_after(self.heading, text_of(line.content))
            self._parse = form.under(self.heading)
            return None
        return piece_of(line, self._origin, form, self._parse)


def log_format(name: str, pattern: str | None = None, subject: str | None = None) -> LogFormat:
    """Return an access-log format.

    A combined line ends with a quote and a JSON line with a brace, so a cut is noticed; a common
    line ends with digits, of which some may be missing. A declared line shows a cut where its
    format ends with literal text.

    Args:
        name: one of `FOLLOWED`.
        pattern: the server's own format string; nginx and apache need one, envoy has a default.
        subject: of a declared format, the field that names who used it; None is the client.

    Raises:
        Invalid: there is no such format, or its pattern cannot be read.
    """
    if name not in FOLLOWED:
        raise Invalid(f"'{name}' is not one of {', '.join(FOLLOWED)}", field="format")
    if name == "w3c" and pattern is None:
        under = w3c.reader(subject)
        return LogFormat(name, under(""), complete_at_end=False, under=under)
    parse = _PARSERS.get(name)
    if parse is None and name != "w3c":
        tokens = [token for token in _tokens(name, pattern) if token != ""]
        ends = bool(tokens) and isinstance(tokens[-1], str)
        return LogFormat(name, compiled(name, tokens, subject), complete_at_end=ends)
    if parse is None or pattern is not None or subject is not None:
        message = f"a {name} log has a fixed form; pattern and subject go with nginx, apache, envoy"
        raise Invalid(message, field="pattern")
    return LogFormat(name, parse, complete_at_end=name != "common")


def _tokens(name: str, pattern: str | None) -> list[Token]:
    if name == "envoy":
        return envoy.tokens(pattern)
    if pattern is None:
        message = f"format {name} needs `pattern`, the format as it stands in the configuration"
        raise Invalid(message, field="pattern")
    return nginx.tokens(pattern) if name == "nginx" else apache.tokens(pattern)


def ends_whole(line: Line, form: LogFormat) -> bool:
    """Whether a last line without a line end is whole for certain, and not cut off."""
    return form.complete_at_end and not isinstance(parsed(line, form.parse), Problem)


def piece_of(line: Line, origin: Origin, form: LogFormat, parse: Parse | None = None) -> bytes:
    """Return the event of a line as wire JSON; one too large goes to quarantine as such.

    Args:
        line: as it stands in the file. origin: which file. form: of the file.
        parse: reads this line; None reads it as all lines of the format.
    """
    found = parsed(line, parse or form.parse)
    if isinstance(found, Envelope):
        piece = found.content
    else:
        piece = encode_event(line_event(line, origin, form.name, found))
    if fits(piece):
        return piece
    message = f"the event has {len(piece)} bytes; {EVENT_BYTES_MAX} are allowed"
    problem = Problem(code="line-too-long", message=message)
    return encode_event(unparsed_event(line, origin, form.name, problem))
