"""Pages about who may come in, and who changed what."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.console.gate import changes, keys, limits

ROUTES: list[ControllerRouterHandler] = [*keys.ROUTES, *limits.ROUTES, *changes.ROUTES]
