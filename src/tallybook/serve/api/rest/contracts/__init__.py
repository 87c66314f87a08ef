"""What is agreed with customers: terms, taxes, coupons, what they may use and paid before."""

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
