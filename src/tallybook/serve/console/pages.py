"""Pages of the console."""

from litestar.types import ControllerRouterHandler


def console_routes() -> list[ControllerRouterHandler]:
    """Return the routes of all pages."""
    return []
