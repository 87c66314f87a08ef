"""Pages about who may come in, and who changed what."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.console.gate import changes, keys, limits, people, tenants

ROUTES: list[ControllerRouterHandler] = [
    *keys.ROUTES,
    *people.ROUTES,
    *limits.ROUTES,
    *tenants.ROUTES,
    *changes.ROUTES,
]
