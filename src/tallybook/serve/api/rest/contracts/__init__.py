"""What is agreed with customers: taxes, coupons, the seller; each module one resource."""

from litestar import Controller

from tallybook.serve.api.rest.contracts import coupons, seller, taxes

ROUTES: tuple[type[Controller], ...] = (*taxes.ROUTES, *coupons.ROUTES, *seller.ROUTES)
