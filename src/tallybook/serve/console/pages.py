"""All pages behind one guard, with errors shown as pages."""

from litestar import Router
from litestar.exceptions import HTTPException
from litestar.types import ControllerRouterHandler

from tallybook.kernel.errors import TallybookError
from tallybook.serve.api.common.problem import answer_http
from tallybook.serve.console import auth, billing, metering, overview, quarantine
from tallybook.serve.console.access import NotSignedIn, failed, page_guard, refused, to_login


def console_routes() -> list[ControllerRouterHandler]:
    """Return the routes of all pages."""
    pages = (overview, metering, billing, quarantine, auth)
    return [
        Router(
            "/",
            route_handlers=[route for module in pages for route in module.ROUTES],
            guards=[page_guard],
            opt={"scope": None},
            include_in_schema=False,
            exception_handlers={
                NotSignedIn: to_login,
                TallybookError: refused,
                HTTPException: answer_http,
                Exception: failed,
            },
        )
    ]
