"""Subscriptions: who has which plan, what was decided, the present period and the next invoice."""

from typing import Any, get_args

import msgspec
from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.plan import Charge, commitment, priced
from tallybook.catalog.subscription import State, Subscription, plan_at, state_at
from tallybook.compose import World
from tallybook.invoice.amend import Outlook, outlook
from tallybook.invoice.document import Invoice
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import preview
from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Missing, Refused
from tallybook.serve.api.common.paging import keyed_page
from tallybook.serve.api.rest.contracts.subscriptions import (
    SubscriptionView,
    subscription_detail,
    subscription_view,
)
from tallybook.serve.console.access import PAGE, session_of
from tallybook.serve.console.catalog.words import ChargeWords, charge_words
from tallybook.serve.console.render import html

PAGE_ROWS = 50
AMENDMENTS_SHOWN = 100
STATES = ("all", *get_args(State))


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription in a list, with names."""

    view: SubscriptionView
    customer: str
    plan: str


@get("/subscriptions", opt=PAGE, sync_to_thread=True)
def subscriptions_page(
    request: "Request[Any, Any, Any]",
    world: World,
    cursor: str | None = None,
    customer: str = "",
    plan: str = "",
    show: str = "all",
) -> Response[bytes]:
    """List subscriptions by key; of a customer, on a plan, or in a state."""
    session = session_of(request)
    now_us = world.clock.now_us()
    catalog = world.catalog.load(session.grant.tenant)
    some = [
        one
        for one in catalog.subscriptions.values()
        if catalog.live("subscription", one.key)
        and customer in {"", one.customer}
        and plan in {"", plan_at(one, now_us)[0]}
        and show in {"all", _state(catalog, one, now_us)}
    ]
    shown = keyed_page(some, PAGE_ROWS, cursor, lambda one: one.key)
    return html(
        "customers/subscriptions.html",
        session=session,
        here="subscriptions",
        rows=[subscription_row(catalog, one, now_us) for one in shown.items],
        total=len(some),
        show=show,
        states=STATES,
        customer=customer,
        plan=plan,
        next_cursor=shown.next_cursor,
    )


def _state(catalog: Catalog, one: Subscription, now_us: int) -> State:
    return state_at(one, now_us, catalog.subscriptions.get(one.base))


def subscription_row(catalog: Catalog, one: Subscription, now_us: int) -> Row:
    """Return a subscription as lists show it."""
    plan = catalog.plan(plan_at(one, now_us)[0])
    return Row(
        view=subscription_view(catalog, one, now_us),
        customer=catalog.customer(one.customer).name,
        plan=plan.name,
    )


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for a subscription now.

    Attributes:
        charges: in words, with the units of fixed fees.
        minimum: commitment, in words; '' for none.
        fees: keys and names of charges that have units.
    """

    charges: list[ChargeWords]
    minimum: str
    fees: list[tuple[str, str]]


@get("/subscriptions/{key:str}", opt=PAGE, sync_to_thread=True)
def subscription_page(request: "Request[Any, Any, Any]", world: World, key: str) -> Response[bytes]:
    """Show a subscription: what holds now, what was decided, and the invoice that comes next."""
    session = session_of(request)
    tenant = session.grant.tenant
    catalog = world.catalog.load(tenant)
    if key not in catalog.subscriptions:
        raise Missing(f"there is no subscription '{key}'", field="key")
    subscription = catalog.subscriptions[key]
    stands = outlook(world.billing(tenant), catalog, subscription)
    detail = subscription_detail(world, session.grant, catalog, key)
    invoice, why = upcoming(world, tenant, subscription, stands)
    customer = catalog.customer(subscription.customer)
    return html(
        "customers/subscription.html",
        session=session,
        here="subscriptions",
        subscription=detail,
        amendments=detail.amendments[::-1][:AMENDMENTS_SHOWN],
        customer=customer,
        plan=catalog.plan(stands.plan, stands.plan_version),
        stands=stands,
        terms=terms(catalog, stands, customer.currency, subscription),
        invoice=invoice,
        why=why,
        payer=catalog.payer(customer.key),
        plans=sorted(
            (versions[-1] for name, versions in catalog.plans.items() if _fits(catalog, name)),
            key=lambda plan: plan.name,
        ),
        add_ons=sorted(one.key for one in catalog.subscriptions.values() if one.base == key),
        may_bill=session.grant.allows("billing") and not detail.archived,
    )


def _fits(catalog: Catalog, name: str) -> bool:
    return catalog.live("plan", name)


def terms(catalog: Catalog, stands: Outlook, currency: str, subscription: Subscription) -> Terms:
    """Return what holds now: charges with their prices, units and the commitment."""
    plan = catalog.plan(stands.plan, stands.plan_version)
    charges = [_own(charge, stands) for charge in priced(plan, stands.phase, currency)]
    minimum = commitment(plan, stands.phase, currency)
    amount = subscription.minimum
    if amount is None and minimum is not None:
        amount = minimum.amount
    return Terms(
        charges=[charge_words(catalog, plan, charge, currency) for charge in charges],
        minimum=f"at least {plain(amount)} {currency} a period" if amount else "",
        fees=[(charge.key, charge.name) for charge in charges if charge.meter is None],
    )


def _own(charge: Charge, stands: Outlook) -> Charge:
    """Return a charge with the subscription's own price and units."""
    return msgspec.structs.replace(
        charge,
        price=stands.prices.get(charge.key, charge.price),
        quantity=stands.quantities.get(charge.key, charge.quantity),
    )


def upcoming(
    world: World, tenant: str, subscription: Subscription, stands: Outlook
) -> tuple[Invoice | None, str]:
    """Return the invoice at the end of the present period as of now, or why there is none."""
    if not stands.periods:
        return None, "No period is to come, so nothing more is billed."
    request = BillRequest(until_us=stands.periods[0].end_us)
    try:
        draft = preview(world.billing(tenant), request, subscription.customer)
    except Refused as error:
        return None, f"It cannot be composed: {error.message}"
    if draft is None:
        return None, "Nothing would be due."
    return draft.invoice, ""


ROUTES: list[ControllerRouterHandler] = [subscriptions_page, subscription_page]
