"""The formats a line can have, by name, and the wire JSON of the event each line becomes."""

from typing import Literal, get_args

from tallybook.collect.fileid import Origin
from tallybook.collect.formats import apache, envoy, nginx
from tallybook.collect.formats.accesslog import parse_combined, parse_common
from tallybook.collect.formats.declared import Token, compiled
from tallybook.collect.formats.jsonlog import parse_json
from tallybook.collect.formats.tables import parse_event
from tallybook.collect.lines import Envelope, Line, Parse, line_event, parsed, unparsed_event
from tallybook.collect.spool import encode_event, fits
from tallybook.kernel.errors import Invalid
from tallybook.kernel.limits import EVENT_BYTES_MAX
from tallybook.kernel.problem import Problem

LogName = Literal["combined", "common", "json", "nginx", "apache", "envoy"]
FOLLOWED = ("combined", "common", "json", "nginx", "apache", "envoy", "cloudevents")
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
    """

    def __init__(self, name: str, parse: Parse, *, complete_at_end: bool) -> None:
        """Keep the parts."""
        self.name = name
        self.parse = parse
        self.complete_at_end = complete_at_end


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
    parse = _PARSERS.get(name)
    if parse is None:
        tokens = [token for token in _tokens(name, pattern) if token != ""]
        ends = bool(tokens) and isinstance(tokens[-1], str)
        return LogFormat(name, compiled(name, tokens, subject), complete_at_end=ends)
    if pattern is not None or subject is not None:
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


def piece_of(line: Line, origin: Origin, form: LogFormat) -> bytes:
    """Return the event of a line as wire JSON; one too large goes to quarantine as such."""
    found = parsed(line, form.parse)
    if isinstance(found, Envelope):
        piece = found.content
    else:
        piece = encode_event(line_event(line, origin, form.name, found))
    if fits(piece):
        return piece
    message = f"the event has {len(piece)} bytes; {EVENT_BYTES_MAX} are allowed"
    problem = Problem(code="line-too-long", message=message)
    return encode_event(unparsed_event(line, origin, form.name, problem))
