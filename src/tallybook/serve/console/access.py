"""Who may see a page: the cookie's session, else the way to the login page."""

from collections.abc import Mapping
from typing import Any

import structlog
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.handlers.base import BaseRouteHandler
from litestar.response import Redirect

from tallybook.kernel.errors import Forbidden, TallybookError
from tallybook.serve.api.common.problem import http_problem, problem_of
from tallybook.serve.api.gate import allowed
from tallybook.serve.console.render import html
from tallybook.serve.console.session import COOKIE, Session, check_form, read_cookie

PAGE = {"scope": None, "page": "read"}
BILLING_PAGE = {"scope": None, "page": "billing"}
ADMIN_PAGE = {"scope": None, "page": "admin"}
OPERATOR_PAGE = {"scope": None, "page": "operator"}
OPEN_PAGE = {"scope": None, "page": None}


class NotSignedIn(Exception):
    """The page needs a session; the answer is the login page."""


def page_guard(connection: "ASGIConnection[Any, Any, Any, Any]", handler: BaseRouteHandler) -> None:
    """Find the session of a request; raises NotSignedIn, or Forbidden for too small a key."""
    scope = handler.opt.get("page", "admin")
    if scope is None:
        return
    world, gate = connection.app.state.world, connection.app.state.gate
    cookie = connection.cookies.get(COOKIE)
    session = read_cookie(world.secret, gate, cookie, world.clock.now_us())
    if session is None:
        raise NotSignedIn
    allowed(session.grant, scope)
    connection.state.session = session


def session_of(request: "Request[Any, Any, Any]") -> Session:
    """Return the session that the guard found."""
    session: Session = request.state.session
    return session


def sent_by(request: "Request[Any, Any, Any]", form: Mapping[str, str]) -> Session:
    """Return the session that sent a form; raises Forbidden where no page of it did."""
    session = session_of(request)
    check_form(session, form.get("token", ""))
    return session


def to_login(request: "Request[Any, Any, Any]", _error: NotSignedIn) -> Redirect:
    """Send a browser to the login page, and back afterwards."""
    wanted = request.url.path if request.method == "GET" else "/"
    return Redirect("/login", query_params={"next": wanted}, status_code=303)


def refused(request: "Request[Any, Any, Any]", error: TallybookError) -> Response[bytes]:
    """Show an error as a page."""
    problem = problem_of(error)
    status = 403 if isinstance(error, Forbidden) else problem.status
    return _error(request, status, problem)


def no_page(request: "Request[Any, Any, Any]", error: HTTPException) -> Response[bytes]:
    """Show an error of the web framework as a page: no such address, a malformed form."""
    return _error(request, error.status_code, http_problem(error))


def failed(request: "Request[Any, Any, Any]", error: Exception) -> Response[bytes]:
    """Show that the server failed; the log has the rest."""
    log = structlog.get_logger("console")
    log.error("console.bug", path=request.url.path, exc_info=error)
    problem = {"title": "The server failed", "detail": "Its log says more.", "code": "bug"}
    return _error(request, 500, problem)


def _error(request: "Request[Any, Any, Any]", status: int, problem: object) -> Response[bytes]:
    session = request.state.get("session")
    return html("error.html", status, problem=problem, session=session, here="")
