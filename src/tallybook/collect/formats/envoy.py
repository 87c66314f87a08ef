"""Envoy's access-log format strings, compiled; without one, its default.

The default names no client: the subject is the address that Envoy itself put at the end of
`X-Forwarded-For`. A response code 0 means that the client left before there was a response.

Source: Envoy 1.37, access log format and default format string.
"""

import re
from collections.abc import Iterator

from tallybook.collect.formats.declared import FORMAT_CHARS_MAX, Kind, Token, Variable
from tallybook.kernel.errors import Invalid

DEFAULT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%"'
    " %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION%"
    ' %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%"'
    ' "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"'
)
_PIECE = re.compile(r"%([A-Z][A-Z0-9_]*)(?:\(([^()]*)\))?(?::\d+)?%")
_FIELDS: dict[str, tuple[str, Kind]] = {
    "PROTOCOL": ("protocol", "text"),
    "RESPONSE_CODE": ("status", "whole"),
    "BYTES_SENT": ("bytes", "whole"),
    "BYTES_RECEIVED": ("bytes_received", "whole"),
    "DURATION": ("duration_ms", "whole"),
    "RESPONSE_DURATION": ("response_duration_ms", "whole"),
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": ("client", "text"),
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": ("direct_client", "text"),
}
_REQ = {
    ":METHOD": "method",
    ":PATH": "path",
    ":AUTHORITY": "host",
    "X-ENVOY-ORIGINAL-PATH": "path",
    "USER-AGENT": "user_agent",
    "REFERER": "referer",
    "X-FORWARDED-FOR": "forwarded_for",
    "X-REQUEST-ID": "request_id",
}


def tokens(text: str | None) -> list[Token]:
    """Return the tokens of a format string, of the default for None.

    Raises:
        Invalid: it is longer than a format is.
    """
    if text is None:
        text = DEFAULT
    if len(text) > FORMAT_CHARS_MAX:
        raise Invalid(f"the format has more than {FORMAT_CHARS_MAX} characters", field="pattern")
    return list(_split(text.strip("\n").removesuffix("\\n")))


def _split(text: str) -> Iterator[Token]:
    at = 0
    for match in _PIECE.finditer(text):
        yield text[at : match.start()].replace("%%", "%")
        yield _operator(match[1], match[2])
        at = match.end()
    yield text[at:].replace("%%", "%")


def _operator(name: str, argument: str | None) -> Variable:
    if name == "START_TIME":
        return Variable("time", "moment")
    if name in {"REQ", "RESP", "TRAILER"} and argument:
        return Variable(*_header(name, argument.upper()))
    found = _FIELDS.get(name)
    return Variable(*found) if found else Variable(_word(name, argument))


def _header(where: str, argument: str) -> tuple[str, Kind]:
    names = argument.split("?")
    if where == "REQ":
        known = next((_REQ[name] for name in names if name in _REQ), None)
        if known is not None:
            return known, "list" if known == "forwarded_for" else "text"
    prefix = {"REQ": "http_", "RESP": "sent_http_", "TRAILER": "trailer_"}[where]
    return prefix + re.sub(r"\W", "_", names[0].lower()), "text"


def _word(name: str, argument: str | None) -> str:
    said = f"{name}_{argument}" if argument else name
    return re.sub(r"\W+", "_", said.lower()).strip("_")
