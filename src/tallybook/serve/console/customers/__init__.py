"""Pages of customers: where each stands, its subscriptions with their commands, its wallets."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.console.customers import (
    commands,
    coupons,
    customer,
    holding,
    listing,
    subscriptions,
    wallets,
)

ROUTES: list[ControllerRouterHandler] = [
    *listing.ROUTES,
    *customer.ROUTES,
    *coupons.ROUTES,
    *holding.ROUTES,
    *subscriptions.ROUTES,
    *commands.ROUTES,
    *wallets.ROUTES,
]
