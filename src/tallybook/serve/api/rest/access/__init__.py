"""Who may come in: keys, tenants, and the log of what was changed."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.api.rest.access import audit, keys, tenants, usage_plans, users

ROUTES: list[ControllerRouterHandler] = [
    keys.Keys,
    tenants.Tenants,
    users.Users,
    audit.Audit,
    usage_plans.UsagePlans,
    usage_plans.KeysLimits,
]
