"""Which requests are meant for OpenMeter's shapes: those of its clients, and those below a prefix.

The Python client says `python-openmeter/…` as its user agent and is recognised at the server's own
address. Any other client takes `<server>/openmeter` as its address. What is the same on both sides
goes to the one route there is.
"""

import re
from collections.abc import Iterable

from tallybook.serve.api.compat.wire import App, Receive, Scope, Send

PREFIX = "/openmeter"
EVENTS_PATH = "/api/v1/events"

_AGENT = re.compile(rb"(?:^|[\s-])openmeter/")
_NAME = "[^/]+"
_SPOKEN: tuple[tuple[str, str], ...] = (
    ("GET POST", "/api/v1/meters"),
    ("GET PUT DELETE", f"/api/v1/meters/{_NAME}"),
    ("GET", f"/api/v1/meters/{_NAME}/subjects"),
    ("GET", f"/api/v1/meters/{_NAME}/group-by/{_NAME}/values"),
    ("GET POST", "/api/v1/subjects"),
    ("GET DELETE", f"/api/v1/subjects/{_NAME}"),
    ("GET", f"/api/v1/subjects/{_NAME}/entitlements/{_NAME}/value"),
    ("GET POST", "/api/v1/customers"),
    ("GET PUT DELETE", f"/api/v1/customers/{_NAME}"),
    ("GET", f"/api/v1/customers/{_NAME}/access"),
    ("GET", f"/api/v[12]/customers/{_NAME}/entitlements/{_NAME}/value"),
    ("GET", "/api/v[12]/events"),
)
_PATTERNS = tuple((set(m.split()), re.compile(f"{path}/?\\Z")) for m, path in _SPOKEN)


class Dialect:
    """An ASGI application before the routes that sends requests to the shapes they mean.

    Args:
        rest: all routes, those in OpenMeter's shapes below `PREFIX`.
        ingest: answers POST /api/v1/events.
    """

    def __init__(self, rest: App, ingest: App) -> None:
        """Keep the parts."""
        self._rest = rest
        self._ingest = ingest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        path = meant(scope["method"], scope["path"], scope["headers"])
        hot = scope["method"] == "POST" and path == EVENTS_PATH
        await (self._ingest if hot else self._rest)(_at(scope, path), receive, send)


def meant(method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the path of the route that a request means."""
    if path.startswith(f"{PREFIX}/api/"):
        bare = path.removeprefix(PREFIX)
        return path if _spoken(method, bare) else bare
    if path.startswith("/api/") and _is_openmeter(headers) and _spoken(method, path):
        return PREFIX + path
    return path


def _spoken(method: str, path: str) -> bool:
    return any(method in methods and pattern.match(path) for methods, pattern in _PATTERNS)


def _is_openmeter(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    agent = next((value for name, value in headers if name.lower() == b"user-agent"), b"")
    return _AGENT.search(agent) is not None


def _at(scope: Scope, path: str) -> Scope:
    if path == scope["path"]:
        return scope
    return {**scope, "path": path, "raw_path": path.encode()}
