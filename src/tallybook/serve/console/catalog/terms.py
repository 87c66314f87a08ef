"""Taxes and coupons."""

from typing import Any

from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler

from tallybook.compose import World
from tallybook.serve.api.common.paging import keyed_page
from tallybook.serve.console.access import PAGE, session_of
from tallybook.serve.console.catalog.words import coupon_words
from tallybook.serve.console.render import html

PAGE_ROWS = 50


@get("/taxes", opt=PAGE, sync_to_thread=True)
def taxes_page(
    request: "Request[Any, Any, Any]", world: World, cursor: str | None = None
) -> Response[bytes]:
    """List taxes."""
    session = session_of(request)
    catalog = world.catalog.load(session.grant.tenant)
    live = [one for one in catalog.taxes.values() if catalog.live("tax", one.key)]
    shown = keyed_page(live, PAGE_ROWS, cursor, lambda tax: tax.key)
    return html(
        "catalog/taxes.html",
        session=session,
        here="taxes",
        taxes=shown.items,
        default=catalog.seller.taxes,
        next_cursor=shown.next_cursor,
    )


@get("/coupons", opt=PAGE, sync_to_thread=True)
def coupons_page(
    request: "Request[Any, Any, Any]", world: World, cursor: str | None = None
) -> Response[bytes]:
    """List coupons with what they take off."""
    session = session_of(request)
    catalog = world.catalog.load(session.grant.tenant)
    live = [one for one in catalog.coupons.values() if catalog.live("coupon", one.key)]
    shown = keyed_page(live, PAGE_ROWS, cursor, lambda coupon: coupon.key)
    return html(
        "catalog/coupons.html",
        session=session,
        here="coupons",
        coupons=[(coupon, coupon_words(coupon)) for coupon in shown.items],
        now_us=world.clock.now_us(),
        next_cursor=shown.next_cursor,
    )


ROUTES: list[ControllerRouterHandler] = [taxes_page, coupons_page]
