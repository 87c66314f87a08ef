"""Coupons put to a customer's use, and taken away again."""

from typing import Any

from litestar import Request, Response, post
from litestar.types import ControllerRouterHandler

from tallybook.compose import World
from tallybook.kernel.errors import Missing
from tallybook.serve.console.access import BILLING_PAGE, sent_by
from tallybook.serve.console.auth import Form
from tallybook.serve.console.catalog.words import coupon_words
from tallybook.serve.console.forms import Confirmation, ask, carried, confirmed, needed, to
from tallybook.settle.receivable.flow import redeem, withdraw_coupon


@post("/customers/{key:str}/redeem", opt=BILLING_PAGE, sync_to_thread=True)
def redeem_coupon(
    request: "Request[Any, Any, Any]", world: World, key: str, data: Form
) -> Response[Any]:
    """Ask whether a customer shall redeem a coupon, or redeem it."""
    session = sent_by(request, data)
    tenant, code = session.grant.tenant, needed(data, "coupon")
    catalog = world.catalog.load(tenant)
    name, coupon = catalog.customer(key).name, catalog.coupons.get(code)
    if coupon is None:
        raise Missing(f"there is no coupon '{code}'", field="coupon")
    if confirmed(data):
        redeem(world.settling(tenant), code, key)
        return to(f"/customers/{key}#coupons")
    payer = catalog.payer(key)
    whose = "its" if payer.key == key else f"{payer.name}'s, which pays for it:"
    return ask(
        session,
        "customers",
        Confirmation(
            title=f"Redeem {coupon.name} for {name}?",
            text=f"It counts on {whose} invoices from now on: {coupon_words(coupon)}.",
            action=f"/customers/{key}/redeem",
            button="Redeem",
            back=f"/customers/{key}",
            fields=carried(data),
        ),
    )


@post("/customers/{key:str}/withdraw", opt=BILLING_PAGE, sync_to_thread=True)
def withdraw(
    request: "Request[Any, Any, Any]", world: World, key: str, data: Form
) -> Response[Any]:
    """Ask whether a redeemed coupon shall be taken away, or take it away."""
    session = sent_by(request, data)
    tenant, name = session.grant.tenant, needed(data, "redemption")
    if confirmed(data):
        withdraw_coupon(world.settling(tenant), key, name)
        return to(f"/customers/{key}#coupons")
    world.catalog.load(tenant).customer(key)
    return ask(
        session,
        "customers",
        Confirmation(
            title="Take the coupon away?",
            text="It takes nothing off invoices to come; those that used it stay as they are.",
            action=f"/customers/{key}/withdraw",
            button="Take it away",
            back=f"/customers/{key}",
            fields=carried(data),
            danger=True,
        ),
    )


ROUTES: list[ControllerRouterHandler] = [redeem_coupon, withdraw]
