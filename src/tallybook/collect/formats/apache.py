"""Apache's `LogFormat`, as it stands in the configuration, compiled.

Header and environment values stand in the data under nginx's names: `%{X-Tenant}i` is
`http_x_tenant`, `%{X-Units}o` is `sent_http_x_units`, `%{id}C` is `cookie_id`.

Source: Apache mod_log_config and mod_logio.
"""

import re
from collections.abc import Iterator

from tallybook.collect.formats.declared import FORMAT_CHARS_MAX, Kind, Token, Variable
from tallybook.kernel.errors import Invalid

_STATEMENT = re.compile(r'\s*(?:LogFormat|CustomLog\s+\S+)\s+"((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_PIECE = re.compile(
    r"%(?P<percent>%)|%!?(?:\d{3}(?:,\d{3})*)?[<>]?(?:\{(?P<of>[^}]*)\})?[<>]?(?P<letter>\^?\w)",
    re.ASCII,
)
_FIELDS: dict[str, tuple[str, Kind]] = {
    "h": ("client", "text"),
    "a": ("client", "text"),
    "l": ("ident", "text"),
    "u": ("user", "text"),
    "r": ("request", "request"),
    "m": ("method", "text"),
    "U": ("path", "text"),
    "q": ("query", "text"),
    "H": ("protocol", "text"),
    "s": ("status", "whole"),
    "b": ("bytes", "whole"),
    "B": ("bytes", "whole"),
    "O": ("bytes_sent", "whole"),
    "I": ("request_length", "whole"),
    "S": ("bytes_transferred", "whole"),
    "D": ("duration_us", "whole"),
    "T": ("duration_s", "number"),
    "v": ("server_name", "text"),
    "V": ("server_name", "text"),
    "p": ("server_port", "whole"),
    "P": ("pid", "whole"),
    "X": ("connection_status", "text"),
    "k": ("connection_requests", "whole"),
    "L": ("log_id", "text"),
    "f": ("filename", "text"),
    "A": ("server_addr", "text"),
    "R": ("handler", "text"),
}
_OF = {"i": "http_", "o": "sent_http_", "C": "cookie_", "e": "env_", "n": "note_", "x": "ssl_"}
_NAMES = {"http_referer": "referer", "http_user_agent": "user_agent"}
_DURATIONS = {"us": "duration_us", "ms": "duration_ms", "s": "duration_s"}
_TIMES = frozenset({"sec", "msec"})
_ISO = frozenset({"%Y-%m-%dT%H:%M:%S%z", "%FT%T%z", "%Y-%m-%dT%H:%M:%SZ", "%FT%TZ"})
_CLF_TIME = "%d/%b/%Y:%H:%M:%S %z"
NICKNAMES = {
    "common": '%h %l %u %t "%r" %>s %b',
    "combined": '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"',
    "vhost_combined": '%v:%p %h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i"',
    "combinedio": '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i" %I %O',
}


def tokens(text: str) -> list[Token]:
    """Return the tokens of a `LogFormat` statement, of its string alone, or of a nickname.

    Raises:
        Invalid: it names a directive that no log has, or a time this cannot read.
    """
    if len(text) > FORMAT_CHARS_MAX:
        raise Invalid(f"the format has more than {FORMAT_CHARS_MAX} characters", field="pattern")
    head = _STATEMENT.match(text)
    body = head[1] if head else text.strip("\n")
    body = NICKNAMES.get(body.strip(), body)
    return list(_split(re.sub(r'\\(["\\])', r"\1", body)))


def _split(text: str) -> Iterator[Token]:
    at = 0
    for match in _PIECE.finditer(text):
        literal = text[at : match.start()]
        if "%" in literal:
            raise Invalid(f"'{literal}' is no directive of LogFormat", field="pattern")
        yield literal
        at = match.end()
        yield from ["%"] if match["percent"] else _directive(match["letter"], match["of"])
    if "%" in text[at:]:
        raise Invalid(f"'{text[at:]}' is no directive of LogFormat", field="pattern")
    yield text[at:]


def _directive(letter: str, of: str | None) -> Iterator[Token]:
    if letter == "t":
        yield from _time(of)
    elif letter == "T" and of is not None:
        if of not in _DURATIONS:
            raise Invalid(f"%{{{of}}}T is no duration; us, ms and s are", field="pattern")
        yield Variable(_DURATIONS[of], "number")
    elif of is not None and letter in _OF:
        name = _OF[letter] + re.sub(r"\W", "_", of.lower())
        kind: Kind = "list" if name == "http_x_forwarded_for" else "text"
        yield Variable(_NAMES.get(name, name), kind)
    elif letter in _FIELDS:
        yield Variable(*_FIELDS[letter])
    else:
        raise Invalid(f"%{letter} is no directive of LogFormat", field="pattern")


def _time(of: str | None) -> Iterator[Token]:
    form = (of or "").removeprefix("begin:").removeprefix("end:").strip()
    if not form and of is None:
        yield from ("[", Variable("time", "clf"), "]")
    elif form in _TIMES or form in _ISO:
        yield Variable("time", "moment")
    elif form == _CLF_TIME:
        yield Variable("time", "clf")
    else:
        known = ", ".join(sorted(_TIMES | {_CLF_TIME} | _ISO))
        raise Invalid(f"the time '{form}' cannot be read; use %t or one of {known}",
                      field="pattern")  # fmt: skip
