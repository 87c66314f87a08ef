"""All pages behind one guard, with errors shown as pages."""

from litestar.exceptions import HTTPException
from litestar.types import ControllerRouterHandler

from tallybook.kernel.errors import TallybookError
from tallybook.serve.api.common.branch import Branch
from tallybook.serve.console import (
    auth,
    billing,
    books,
    catalog,
    customers,
    fleet,
    gate,
    metering,
    overview,
    post,
    quarantine,
    routing,
)
from tallybook.serve.console.access import (
    NotSignedIn,
    failed,
    no_page,
    page_guard,
    refused,
    to_login,
)


def console_routes() -> list[ControllerRouterHandler]:
    """Return the routes of all pages."""
    pages = (
        overview,
        post,
        metering,
        quarantine,
        routing,
        fleet,
        customers,
        catalog,
        billing,
        books,
        gate,
        auth,
    )
    return [
        Branch(
            "/",
            route_handlers=[route for module in pages for route in module.ROUTES],
            guards=[page_guard],
            opt={"scope": None},
            include_in_schema=False,
            exception_handlers={
                NotSignedIn: to_login,
                TallybookError: refused,
                HTTPException: no_page,
                Exception: failed,
            },
        )
    ]
