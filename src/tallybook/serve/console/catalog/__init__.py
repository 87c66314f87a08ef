"""Pages of the catalog: plans with their prices in words, taxes, coupons."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.console.catalog import moving, plans, terms

ROUTES: list[ControllerRouterHandler] = [*plans.ROUTES, *moving.ROUTES, *terms.ROUTES]
