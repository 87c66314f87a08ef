"""Wallets: the balance over time, top-ups, the statement, and the form to top up."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.params import Parameter
from litestar.types import ControllerRouterHandler

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.entitlement import (
    TopUpSpec,
    Wallet,
    check_top_up_spec,
    covers_minor,
)
from tallybook.catalog.entitlement.topup import check_payment
from tallybook.compose import World
from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Conflict, Refused
from tallybook.kernel.money import money_text
from tallybook.kernel.timestamps import DAY_US
from tallybook.serve.api.common.paging import keyed_page
from tallybook.serve.api.rest.contracts.lookups import wallet_of
from tallybook.serve.api.rest.contracts.recharges import recharge_view
from tallybook.serve.api.rest.contracts.wallets import balance_view, top_up_view
from tallybook.serve.console.access import BILLING_PAGE, PAGE, sent_by, session_of
from tallybook.serve.console.auth import Form
from tallybook.serve.console.charts import Point, stairs
from tallybook.serve.console.forms import (
    Confirmation,
    ask,
    carried,
    confirmed,
    number_of,
    text_of,
    to,
    values,
)
from tallybook.serve.console.once import once_key
from tallybook.serve.console.render import html, money, number
from tallybook.serve.console.session import Session
from tallybook.settle.prepaid.flow import made, top_up
from tallybook.settle.prepaid.recharging import Outcome, failed, paid
from tallybook.settle.purse import Purse, StoredTopUp
from tallybook.settle.wallet import Movement

PAGE_ROWS = 50
STATEMENT_ROWS = 50
POINTS_MAX = 400

Skip = Annotated[int, Parameter(ge=0, le=1_000_000, required=False)]


class WalletRow(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet in a list: balance in its unit, and what that can pay."""

    wallet: Wallet
    customer: str
    balance: str
    money: str


def wallet_row(catalog: Catalog, purse: Purse, now_us: int) -> WalletRow:
    """Return a wallet as lists show it."""
    wallet, state = purse.wallet, purse.now(now_us)
    return WalletRow(
        wallet=wallet,
        customer=catalog.customer(wallet.customer).name,
        balance=plain(state.balance),
        money=money_text(covers_minor(wallet, state.balance), wallet.currency),
    )


@get("/wallets", opt=PAGE, sync_to_thread=True)
def wallets_page(
    request: "Request[Any, Any, Any]", world: World, cursor: str | None = None
) -> Response[bytes]:
    """List wallets with what is in them."""
    session = session_of(request)
    tenant, now_us = session.grant.tenant, world.clock.now_us()
    catalog = world.catalog.load(tenant)
    live = [one for one in catalog.wallets.values() if catalog.live("wallet", one.key)]
    shown = keyed_page(live, PAGE_ROWS, cursor, lambda wallet: wallet.key)
    purses = world.wallets.purses(tenant, shown.items)
    return html(
        "customers/wallets.html",
        session=session,
        here="wallets",
        rows=[wallet_row(catalog, purses[one.key], now_us) for one in shown.items],
        next_cursor=shown.next_cursor,
    )


@get("/wallets/{key:str}", opt=PAGE, sync_to_thread=True)
def wallet_page(
    request: "Request[Any, Any, Any]", world: World, key: str, skip: Skip = 0
) -> Response[bytes]:
    """Show a wallet: its balance over time, its top-ups, and everything that changed it."""
    return _wallet(session_of(request), world, key, skip, {}, "")


@post("/wallets/{key:str}/top-ups", opt=BILLING_PAGE, sync_to_thread=True)
def add_top_up(
    request: "Request[Any, Any, Any]", world: World, key: str, data: Form
) -> Response[Any]:
    """Ask whether an amount shall be put into a wallet, or put it in."""
    session = sent_by(request, data)
    tenant = session.grant.tenant
    wallet = wallet_of(world.catalog.load(tenant), key)
    try:
        stored = _stored(world, tenant, wallet, data)
        if not confirmed(data):
            return ask(session, "wallets", _confirmation(wallet, stored, data))
        top_up(world.wallets, tenant, wallet, stored)
    except Conflict as error:
        if error.code != "exists":  # sent twice: it is in the wallet once
            return _wallet(session, world, key, 0, data, error.message)
    except Refused as error:
        return _wallet(session, world, key, 0, data, error.message)
    return to(f"/wallets/{key}")


def _stored(world: World, tenant: str, wallet: Wallet, data: Mapping[str, str]) -> StoredTopUp:
    """Return the top-up that a form means; its key comes from the form, so that it is put once."""
    zone = world.catalog.load(tenant).customer(wallet.customer).zone
    once = text_of(data, "once")
    expires = text_of(data, "expires")
    spec = TopUpSpec(
        amount=number_of(data, "amount"),
        key=f"form-{once_key(world, once)}" if once else None,
        expires=expires or None,
        free=data.get("free") == "yes",
        method=text_of(data, "method") or "cash",
        reference=text_of(data, "reference"),
    )
    now_us = world.clock.now_us()
    checked = check_top_up_spec(spec, zone, now_us, world.ids.new("top"))
    return made(wallet, checked, now_us, method=spec.method, reference=spec.reference)


def _confirmation(wallet: Wallet, stored: StoredTopUp, data: Mapping[str, str]) -> Confirmation:
    unit = wallet.unit or wallet.currency
    cost = money(money_text(stored.cost_minor, wallet.currency))
    free = stored.top_up.free
    return Confirmation(
        title=f"Top up {wallet.key}?",
        text="It is posted to the ledger: "
        + ("as a promotion that the company pays." if free else "as cash that was received."),
        action=f"/wallets/{wallet.key}/top-ups",
        button="Top up",
        back=f"/wallets/{wallet.key}",
        fields=carried(data),
        details=(
            ("Amount", f"{number(stored.top_up.amount)} {unit}"),
            ("Worth" if free else "Paid", f"{wallet.currency} {cost}"),
            ("Method", "free of charge" if free else stored.method),
            ("Reference", stored.reference or "–"),
            ("Expires", text_of(data, "expires") or "never"),
        ),
    )


def _wallet(
    session: Session, world: World, key: str, skip: int, data: Mapping[str, str], wrong: str
) -> Response[bytes]:
    tenant, now_us = session.grant.tenant, world.clock.now_us()
    catalog = world.catalog.load(tenant)
    wallet = wallet_of(catalog, key)
    purse = world.wallets.purses(tenant, [wallet])[key]
    state, lines = purse.now(now_us), purse.statement(purse.not_before(now_us))
    newest = lines[::-1]
    start = {"amount": "", "method": "bank-transfer", "reference": "", "expires": "", "free": ""}
    return html(
        "customers/wallet.html",
        400 if wrong else 200,
        session=session,
        here="wallets",
        wallet=wallet,
        unit=wallet.unit or wallet.currency,
        customer=catalog.customer(wallet.customer),
        view=balance_view(catalog, purse, state, None),
        top_ups=[top_up_view(wallet, one, state) for one in purse.top_ups[::-1][:PAGE_ROWS]],
        top_ups_count=len(purse.top_ups),
        recharges=[recharge_view(wallet, one) for one in purse.requests[::-1][:PAGE_ROWS]],
        lines=newest[skip : skip + STATEMENT_ROWS],
        documents=_documents(world, tenant, newest[skip : skip + STATEMENT_ROWS]),
        skip=skip,
        following=skip + STATEMENT_ROWS if skip + STATEMENT_ROWS < len(lines) else None,
        chart=stairs(points(lines, now_us), f"Balance of {key} over time"),
        form=values(data, **start) | {"once": data.get("once") or world.ids.new("form")},
        wrong=wrong,
        may_bill=session.grant.allows("billing"),
    )


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """How a recharge went, as a form says it."""

    paid: bool
    outcome: Outcome


def _told(name: str, data: Mapping[str, str]) -> _Told:
    """Return what a form says of a recharge; raises Invalid."""
    gone = data.get("outcome") == "paid"
    method, reference = text_of(data, "method") or "card", text_of(data, "reference")
    check_payment(method, reference)
    if gone:
        return _Told(paid=True, outcome=Outcome(key=name, method=method, reference=reference))
    return _Told(paid=False, outcome=Outcome(key=name, reason=reference))


@post("/wallets/{key:str}/recharges/{name:str}", opt=BILLING_PAGE, sync_to_thread=True)
def settle_recharge(
    request: "Request[Any, Any, Any]", world: World, key: str, name: str, data: Form
) -> Response[Any]:
    """Ask whether a recharge was paid, or failed, or write down that it did."""
    session = sent_by(request, data)
    tenant, now_us = session.grant.tenant, world.clock.now_us()
    wallet = wallet_of(world.catalog.load(tenant), key)
    try:
        told = _told(name, data)
        if not confirmed(data):
            return ask(session, "wallets", _settling(wallet, told, data))
        settle = paid if told.paid else failed
        settle(world.wallets, tenant, wallet, told.outcome, now_us)
    except Refused as error:
        return _wallet(session, world, key, 0, {}, error.message)
    return to(f"/wallets/{key}")


def _settling(wallet: Wallet, told: _Told, data: Mapping[str, str]) -> Confirmation:
    name, one = told.outcome.key, told.outcome
    return Confirmation(
        title=f"{name} was paid?" if told.paid else f"{name} has failed?",
        text="What it asked for is in the wallet, and posted as cash that was received."
        if told.paid
        else "The rule rests for a day, or until the wallet is topped up. What a trusted recharge"
        " put into the wallet is taken back.",
        action=f"/wallets/{wallet.key}/recharges/{name}",
        button="It was paid" if told.paid else "It has failed",
        back=f"/wallets/{wallet.key}",
        fields=carried(data),
        details=(("Method", one.method), ("Reference", one.reference or "–"))
        if told.paid
        else (("Reason", one.reason or "–"),),
    )


def points(lines: list[Movement], now_us: int) -> list[Point]:
    """Return the balance at its changes, up to now; at most `POINTS_MAX`, the newest."""
    found = [Point(line.at_us, line.balance) for line in lines[-POINTS_MAX:]]
    if not found:
        return []
    return [*found, Point(max(now_us, found[-1].at_us + DAY_US // 24), found[-1].value)]


def _documents(world: World, tenant: str, lines: list[Movement]) -> dict[str, str]:
    """Return the numbers of the invoices that draws are for, by id."""
    found = {}
    for line in lines:
        if line.change in {"draw", "return"} and line.key not in found:
            found[line.key] = world.invoices.invoice(tenant, line.key).head.number
    return found


ROUTES: list[ControllerRouterHandler] = [
    wallets_page,
    wallet_page,
    add_top_up,
    settle_recharge,
]
