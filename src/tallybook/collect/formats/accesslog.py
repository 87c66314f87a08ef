r"""Access-log lines, common and combined, as `http.server.request` records.

Every line that does not match its format to the last character is a problem, never half an
event. Decided where the formats leave it open:

- a request that is not `METHOD target PROTOCOL` (`-`, a TLS hello on a plain port) was still
  answered, so it counts: method `_OTHER`, path the request as logged, protocol null;
- `\"` and `\\` inside quotes are read as `"` and `\`; other escapes stay as logged;
- `-` is 0 for bytes and null for referer and user agent;
- a byte that is not UTF-8 becomes `\xhh` (`lines.text_of`).

Source: CONTRACTS §2; Apache mod_log_config, nginx log module; OpenTelemetry's `_OTHER`.
"""

import re

import msgspec

from tallybook.collect.formats.moments import clf_time
from tallybook.collect.lines import Record
from tallybook.kernel.problem import Problem

REQUEST_TYPE = "http.server.request"
OTHER_METHOD = "_OTHER"

_QUOTED = r'"((?:[^"\\]++|\\.)*+)"'
_COMMON = (
    r"([!-~]{1,1024}) ([!-~]+) ([!-~]+) \[([^\]]{1,64})\] " + _QUOTED + r" (\d{3}) (\d{1,18}|-)"
)
_COMMON_LINE = re.compile(_COMMON + r"\Z", re.ASCII)
_COMBINED_LINE = re.compile(_COMMON + " " + _QUOTED + " " + _QUOTED + r"\Z", re.ASCII)
_REQUEST = re.compile(r"([!-~]{1,64}) (\S(?:.*\S)?) (HTTP/\d(?:\.\d)?)\Z", re.ASCII)
_ESCAPED = re.compile(r'\\(["\\])')
_STRAY = re.compile(r'\\.|[^"]')


class RequestData(msgspec.Struct, frozen=True, kw_only=True):
    """The data of an `http.server.request` event.

    Attributes:
        method: as sent, or `_OTHER`.
        path: the request target with its query.
        status: the answer's status.
        bytes: of the answer's body, as the log counts them; None where the log has none.
        protocol: such as 'HTTP/1.1'.
        referer: None where the client sent none; so is user_agent.
        user: the authenticated user, left out where there is none.
    """

    method: str
    path: str
    status: int
    bytes: int | None
    protocol: str | None = None
    referer: str | None = None
    user_agent: str | None = None
    user: str | msgspec.UnsetType = msgspec.UNSET


def parse_combined(text: str) -> Record | Problem:
    """Return what a line in Apache's and nginx's combined format says."""
    match = _COMBINED_LINE.match(text)
    if match is None:
        return mismatch(text, "combined")
    return _record(match, _optional(match[8]), _optional(match[9]))


def parse_common(text: str) -> Record | Problem:
    """Return what a line in the common log format says; it has no referer and no user agent."""
    match = _COMMON_LINE.match(text)
    if match is None:
        return mismatch(text, "common")
    return _record(match, None, None)


def request_record(data: RequestData, client: str, time: str) -> Record:
    """Return the record of one request."""
    encoded = msgspec.Raw(msgspec.json.encode(data))
    return Record(type=REQUEST_TYPE, subject=client, time=time, data=encoded)


def split_request(request: str) -> tuple[str, str, str | None]:
    """Return method, target and protocol of a request field."""
    match = _REQUEST.match(request)
    if match is None:
        return OTHER_METHOD, request, None
    return match[1], match[2], match[3]


def _record(match: "re.Match[str]", referer: str | None, agent: str | None) -> Record | Problem:
    time = clf_time(match[4])
    if time is None:
        message = f"'{match[4]}' is not a time such as 17/May/2015:10:05:03 +0000"
        return Problem(code="line-time", subject="time", message=message)
    method, path, protocol = split_request(unescaped(match[5]))
    data = RequestData(
        method=method,
        path=path,
        status=int(match[6]),
        bytes=0 if match[7] == "-" else int(match[7]),
        protocol=protocol,
        referer=referer,
        user_agent=agent,
        user=msgspec.UNSET if match[3] == "-" else match[3],
    )
    return request_record(data, match[1], time)


def _optional(quoted: str) -> str | None:
    return None if quoted == "-" else unescaped(quoted)


def unescaped(quoted: str) -> str:
    r"""Return a field with `\"` and `\\` read; other escapes stay as logged."""
    return _ESCAPED.sub(r"\1", quoted) if "\\" in quoted else quoted


def mismatch(text: str, form: str) -> Problem:
    """Return why a line that does not match its format cannot be read."""
    if not text.strip():
        return Problem(code="line-empty", message="the line is empty")
    if len(_STRAY.sub("", text)) % 2:
        message = "the line ends inside a quoted field; it was cut off"
        return Problem(code="line-unfinished", message=message)
    return Problem(code="line-malformed", message=f"the line is not in the {form} log format")
