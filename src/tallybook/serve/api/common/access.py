"""Who may call a route: each names its scope; a route that names none needs admin."""

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from tallybook.serve.api.gate import Gate, Grant

OPEN = {"scope": None}
INGEST = {"scope": "ingest"}
READ = {"scope": "read"}
BILLING = {"scope": "billing"}
ADMIN = {"scope": "admin"}


def guard(connection: "ASGIConnection[Any, Any, Any, Any]", handler: BaseRouteHandler) -> None:
    """Check the key of a request before its handler runs; raises Forbidden."""
    scope = handler.opt.get("scope", "admin")
    if scope is None:
        return
    gate: Gate = connection.app.state.gate
    connection.state.grant = gate.check(connection.headers.get("authorization"), scope)


def grant_of(request: "Request[Any, Any, Any]") -> Grant:
    """Return what the request's key grants."""
    grant: Grant = request.state.grant
    return grant
