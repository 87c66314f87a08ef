"""What is agreed with customers: subscriptions, taxes, coupons, the seller, what
customers may use, and what they paid in advance."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.api.rest.contracts import (
    amendments,
    coupons,
    entitlements,
    seller,
    subscriptions,
    taxes,
    wallets,
)

ROUTES: tuple[ControllerRouterHandler, ...] = (
    *subscriptions.ROUTES,
    *amendments.ROUTES,
    *taxes.ROUTES,
    *coupons.ROUTES,
    *seller.ROUTES,
    *entitlements.ROUTES,
    *wallets.ROUTES,
)
