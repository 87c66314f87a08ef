"""The request line and its name: bounded, and known in every log."""

import itertools
import os
import re
import secrets
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from tallybook.kernel.errors import Invalid

HEADER = b"x-request-id"
PATH_BYTES_MAX = 8_192
QUERY_BYTES_MAX = 16_384
PARAMETERS_MAX = 1_000
_SANE = re.compile(rb"[!-~]{1,128}\Z")


def _fresh_names() -> Iterator[bytes]:
    """Return names that begin with noise and are counted: noise for each one costs 25 µs."""
    return map((b"req_%s%%012x" % secrets.token_hex(6).encode()).__mod__, itertools.count())


class _Names:
    """The names of this process; a fork has its own, for it would count on from the same noise."""

    def __init__(self) -> None:
        self.begin()
        os.register_at_fork(after_in_child=self.begin)

    def begin(self) -> None:
        self.next = _fresh_names().__next__


_NAMES = _Names()

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The name of the request that this code runs for, '' outside of one."""


def request_id(headers: Any) -> bytes:
    """Return the name that the client gave its request, where that is sane; else a fresh one."""
    for name, value in headers:
        if name == HEADER and _SANE.match(value):
            return bytes(value)
    return _NAMES.next()


def named(headers: Any, name: bytes) -> list[tuple[bytes, bytes]]:
    """Return a request's headers with its name as the only one."""
    return [*(pair for pair in headers if pair[0] != HEADER), (HEADER, name)]


def check_line(path: str, query: bytes) -> None:
    """Refuse what no client of ours sends; raises Invalid.

    Args:
        path: decoded.
        query: as sent.
    """
    if len(path) > PATH_BYTES_MAX or len(query) > QUERY_BYTES_MAX:
        message = f"at most {PATH_BYTES_MAX} bytes of path and {QUERY_BYTES_MAX} of query"
        raise Invalid(message, code="uri-too-long")
    if query.count(b"&") >= PARAMETERS_MAX:
        raise Invalid(f"at most {PARAMETERS_MAX} parameters", code="uri-too-long")
    if "\0" in path or b"\0" in query or b"%00" in query:
        raise Invalid("path and query may not contain NUL", field="query")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise Invalid("the path is not UTF-8", field="path") from error
