"""Requests as an ASGI application gets them from a web server."""

from collections.abc import Mapping
from typing import Any


def http_scope(method: str, target: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the scope of a request.

    Args:
        method: in capitals.
        target: path, and the query after a question mark.
        headers: names in lower case.
    """
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
