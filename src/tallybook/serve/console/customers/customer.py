"""One customer: everything that is agreed, owed and held, on one page."""

from decimal import Decimal
from typing import Any
from urllib.parse import quote

import msgspec
from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.customer import Customer
from tallybook.catalog.entitlement import Entitlement, Metered, Static
from tallybook.compose import World
from tallybook.invoice.ledger.holdings import Credit
from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Unavailable
from tallybook.kernel.money import money_text
from tallybook.serve.api.checks import Checks
from tallybook.serve.api.checks.shown import ValueView, value_view
from tallybook.serve.api.rest.catalog import customer_view
from tallybook.serve.api.rest.invoices import InvoiceView, invoice_view
from tallybook.serve.console.access import PAGE, session_of
from tallybook.serve.console.charts import share
from tallybook.serve.console.customers.subscriptions import subscription_row
from tallybook.serve.console.customers.wallets import WalletRow, wallet_row
from tallybook.serve.console.render import html
from tallybook.settle.receivable.owing import owed
from tallybook.settle.receivable.standing import Standing

ROWS = 20
"""Rows of each part; the part's own list has all."""
INVOICES_SHOWN = 10


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """An entitlement with what is left of it.

    Attributes:
        kind: metered, boolean or static.
        says: settings of a static one, or the meter.
        value: None where it cannot be worked out at the moment.
        bar: how much of what was granted is used.
    """

    key: str
    feature: str
    kind: str
    says: str
    value: ValueView | None
    bar: Any


class CreditRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a credit, as texts.

    Attributes:
        number: by which it can be named; '' where it cannot.
        name: what it is from; place: the page that shows that, '' for none.
        left: of `of`.
        at: when it was given.
    """

    number: str
    name: str
    place: str
    purpose: str
    currency: str
    left: str
    of: str
    at: int


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What a customer holds and owes, as texts.

    Attributes:
        owed: (currency, open, overdue or '').
        coupons: redemptions with what is said about each.
        waiting: (name, currency, amount, id).
    """

    owed: list[tuple[str, str, str]]
    credits: list[CreditRow]
    coupons: list[tuple[Any, str]]
    waiting: list[tuple[str, str, str, str]]


@get("/customers/{key:str}", opt=PAGE, sync_to_thread=True)
def customer_page(
    request: "Request[Any, Any, Any]", world: World, checks: Checks, key: str
) -> Response[bytes]:
    """Show where a customer stands."""
    session = session_of(request)
    tenant, now_us = session.grant.tenant, world.clock.now_us()
    catalog = world.catalog.load(tenant)
    customer = catalog.customer(key)
    mine = [
        one
        for one in catalog.subscriptions.values()
        if one.customer == key and catalog.live("subscription", one.key)
    ]
    mine.sort(key=lambda one: (one.base or one.key, one.base != "", one.key))
    children = sorted(one.key for one in catalog.customers.values() if one.parent == key)
    standing = world.settlements.standing(tenant, key)
    return html(
        "customers/customer.html",
        session=session,
        here="customers",
        customer=customer_view(catalog, customer),
        payer=catalog.payer(key),
        children=[catalog.customer(child) for child in children[:ROWS]],
        children_count=len(children),
        subscriptions=[subscription_row(catalog, one, now_us) for one in mine[:ROWS]],
        subscriptions_count=len(mine),
        features=features(checks, tenant, catalog, key),
        wallets=_wallets(world, tenant, catalog, key),
        held=held(standing, now_us),
        invoices=_invoices(world, tenant, key, now_us),
        drafts=[
            invoice_view(draft.head, now_us)
            for draft in world.invoices.drafts.drafts(tenant, limit=ROWS, customer=key)
        ],
        coupons=_redeemable(catalog, customer, standing, now_us),
        may_bill=session.grant.allows("billing"),
        once=(world.ids.new("form"), world.ids.new("form")),
    )


def _credit(credit: Credit) -> CreditRow:
    name, place = _origin(credit)
    return CreditRow(
        number=credit.number,
        name=name,
        place=place,
        purpose=credit.purpose,
        currency=credit.currency,
        left=money_text(credit.left_minor, credit.currency),
        of=money_text(credit.amount_minor, credit.currency),
        at=credit.at_us,
    )


def _origin(credit: Credit) -> tuple[str, str]:
    """Return what a credit is from, and the page that shows it, '' for none."""
    if credit.source.startswith("cn_"):
        return credit.number, f"/credit-notes/{quote(credit.number)}"
    if credit.source.startswith("inv_"):
        return credit.number, f"/invoices/{quote(credit.number)}"
    if credit.source.startswith("pay_"):
        return "Payment", f"/payments/{quote(credit.source)}"
    return credit.number or "credit", ""


def features(checks: Checks, tenant: str, catalog: Catalog, key: str) -> list[Feature]:
    """Return what a customer may use now."""
    mine = [
        one
        for one in sorted(catalog.entitlements.values(), key=lambda one: one.feature)
        if one.customer == key and catalog.live("entitlement", one.key)
    ]
    return [_feature(checks, tenant, catalog, one) for one in mine[:ROWS]]


def _feature(checks: Checks, tenant: str, catalog: Catalog, one: Entitlement) -> Feature:
    try:
        value: ValueView | None = value_view(checks.of(tenant, catalog, one))
    except Unavailable:
        value = None  # the page says so; everything else of the customer is still shown
    access, kind, says = one.access, "boolean", ""
    if isinstance(access, Metered):
        kind, says = "metered", catalog.meter(access.meter).name or access.meter
    elif isinstance(access, Static):
        kind, says = "static", access.config
    used = Decimal(0) if value is None else value.usage
    whole = Decimal(0) if value is None else value.totalAvailableGrantAmount
    bar = share(used, whole) if kind == "metered" else ""
    return Feature(key=one.key, feature=one.feature, kind=kind, says=says, value=value, bar=bar)


def _wallets(world: World, tenant: str, catalog: Catalog, key: str) -> list[WalletRow]:
    mine = [
        one
        for one in catalog.wallets.values()
        if one.customer == key and catalog.live("wallet", one.key)
    ][:ROWS]
    purses = world.wallets.purses(tenant, mine)
    return [wallet_row(catalog, purses[one.key], world.clock.now_us()) for one in mine]


def held(standing: Standing, now_us: int) -> Held:
    """Return what a customer holds and owes, for the page."""
    return Held(
        owed=[
            (
                currency,
                money_text(one.open_minor, currency),
                money_text(one.overdue_minor, currency) if one.overdue_minor else "",
            )
            for currency, one in sorted(owed(standing, now_us).items())
        ],
        credits=[_credit(one) for one in standing.held.credits if one.left_minor][:ROWS],
        coupons=[(one, used_text(one)) for one in standing.held.redemptions][:ROWS],
        waiting=[
            (one.extra.name, one.currency, plain(one.extra.amount), one.extra.id)
            for one in standing.held.extras
        ][:ROWS],
    )


def used_text(redemption: Any) -> str:
    """Return how far a redeemed coupon is used up, in words."""
    coupon = redemption.coupon
    if redemption.ended_us is not None:
        return "taken away"
    if coupon.invoices is not None:
        return f"on {redemption.invoices} of {coupon.invoices} invoices"
    if coupon.duration == "forever":
        return f"on {redemption.invoices} invoices so far, for good"
    if coupon.amount is None:
        return "used" if redemption.invoices else "for the next invoice"
    taken = money_text(redemption.used_minor, coupon.currency)
    return f"{taken} of {plain(coupon.amount)} {coupon.currency} used"


def _invoices(world: World, tenant: str, key: str, now_us: int) -> list[InvoiceView]:
    heads = world.invoices.invoices(tenant, limit=INVOICES_SHOWN, customer=key, newest=True)
    return [invoice_view(head, now_us) for head in heads]


def _redeemable(catalog: Catalog, customer: Customer, standing: Standing, now_us: int) -> list[Any]:
    """Return coupons that the customer could redeem and has not."""
    taken = {one.coupon.key for one in standing.held.redemptions if one.ended_us is None}
    return [
        one
        for one in sorted(catalog.coupons.values(), key=lambda one: one.key)
        if catalog.live("coupon", one.key)
        and one.key not in taken
        and one.currency in {"", customer.currency}
        and (one.redeem_until_us is None or now_us < one.redeem_until_us)
    ][:200]


ROUTES: list[ControllerRouterHandler] = [customer_page]
