"""Who may call a route: each names its scope; a route that names none needs admin.

A key that is bound to subjects or to a customer is refused by every route but those that say
`bound`: these keep to what the key is for by themselves.
"""

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from tallybook.serve.api.common.audited import INSIDE
from tallybook.serve.api.gate import Gate, Grant

OPEN = {"scope": None}
INGEST = {"scope": "ingest"}
READ = {"scope": "read"}
BILLING = {"scope": "billing"}
ADMIN = {"scope": "admin"}
OPERATOR = {"scope": "operator"}
READ_BOUND = {"scope": "read", "bound": True}
"""Of a route that shows a bound key nothing but what it is for."""


def guard(connection: "ASGIConnection[Any, Any, Any, Any]", handler: BaseRouteHandler) -> None:
    """Check the key of a request before its handler runs; raises Forbidden."""
    scope = handler.opt.get("scope", "admin")
    if scope is None:
        return
    inside: Grant | None = connection.scope.get(INSIDE)  # type: ignore[assignment]
    if inside is not None:
        connection.state.grant = inside
        return
    gate: Gate = connection.app.state.gate
    authorization = connection.headers.get("authorization")
    bound = bool(handler.opt.get("bound", False))
    connection.state.grant = gate.check(authorization, scope, bound=bound)


def grant_of(request: "Request[Any, Any, Any]") -> Grant:
    """Return what the request's key grants."""
    grant: Grant = request.state.grant
    return grant
