"""Who may come in: keys, tenants, and the log of what was changed."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.api.rest.access import keys, tenants

ROUTES: list[ControllerRouterHandler] = [keys.Keys, tenants.Tenants]
