"""nginx's `log_format`, as it stands in the configuration, compiled.

Source: nginx log module and its variables.
"""

import re
from collections.abc import Iterator

from tallybook.collect.formats.declared import FORMAT_CHARS_MAX, Kind, Token, Variable
from tallybook.kernel.errors import Invalid

_STATEMENT = re.compile(r"\s*log_format\s+\S+(?:\s+escape=\w+)?\s+", re.ASCII)
_STRING = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)
_PIECE = re.compile(r"\$\{(\w+)\}|\$(\w+)", re.ASCII)
_FIELDS: dict[str, tuple[str, Kind]] = {
    "remote_addr": ("client", "text"),
    "realip_remote_addr": ("realip_remote_addr", "text"),
    "remote_user": ("user", "text"),
    "time_local": ("time", "clf"),
    "time_iso8601": ("time", "moment"),
    "msec": ("time", "moment"),
    "request": ("request", "request"),
    "request_method": ("method", "text"),
    "request_uri": ("path", "text"),
    "uri": ("path", "text"),
    "args": ("query", "text"),
    "query_string": ("query", "text"),
    "server_protocol": ("protocol", "text"),
    "status": ("status", "whole"),
    "body_bytes_sent": ("bytes", "whole"),
    "bytes_sent": ("bytes_sent", "whole"),
    "request_length": ("request_length", "whole"),
    "request_time": ("request_time", "number"),
    "connection": ("connection", "whole"),
    "connection_requests": ("connection_requests", "whole"),
    "gzip_ratio": ("gzip_ratio", "number"),
    "http_referer": ("referer", "text"),
    "http_user_agent": ("user_agent", "text"),
}
_LISTS = re.compile(r"upstream_\w+|(?:http|proxy_add)_x_forwarded_for", re.ASCII)


def tokens(text: str) -> list[Token]:
    """Return the tokens of a `log_format` statement, or of its string alone.

    Raises:
        Invalid: it is neither.
    """
    if len(text) > FORMAT_CHARS_MAX:
        raise Invalid(f"the format has more than {FORMAT_CHARS_MAX} characters", field="pattern")
    return list(_split(_string(text)))


def _string(text: str) -> str:
    head = _STATEMENT.match(text)
    if head is None:
        return text.strip("\n")
    rest = text[head.end() :].rstrip().removesuffix(";")
    strings = _STRING.findall(rest)
    if not strings or _STRING.sub("", rest).strip():
        raise Invalid("the log_format statement has no quoted strings", field="pattern")
    return "".join(re.sub(r"\\(.)", r"\1", single or double) for single, double in strings)


def _split(text: str) -> Iterator[Token]:
    at = 0
    has_uri = "request_uri" in text
    for match in _PIECE.finditer(text):
        yield text[at : match.start()]
        yield _variable(match[1] or match[2], has_uri=has_uri)
        at = match.end()
    yield text[at:]


def _variable(name: str, *, has_uri: bool) -> Variable:
    if has_uri and name in {"uri", "args", "query_string"}:
        return Variable(name)
    found = _FIELDS.get(name)
    if found is not None:
        return Variable(*found)
    return Variable(name, "list" if _LISTS.fullmatch(name) else "text")
