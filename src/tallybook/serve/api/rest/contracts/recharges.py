"""Recharges that wallets' rules asked for: payments on their way, and how they went."""

import msgspec
from litestar import Controller, get, post

from tallybook.catalog.entitlement import Wallet
from tallybook.catalog.entitlement.topup import check_payment
from tallybook.compose import World
from tallybook.kernel.decimals import plain
from tallybook.kernel.money import money_text
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, keyed_page
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.contracts.lookups import wallet_of
from tallybook.settle.prepaid.recharging import Outcome, failed, paid
from tallybook.settle.request import Request


class RechargeView(msgspec.Struct, frozen=True, kw_only=True):
    """A payment that a wallet's rule asked for; `amount` is in the wallet's unit.

    Attributes:
        cost: to be paid, in `currency`.
        state: requested, paid or failed.
        trusted: it could be drawn from before it was paid.
        settled: when it was paid or failed; null while it is on its way.
        reason: why it failed.
    """

    id: str
    key: str
    amount: str
    cost: str
    currency: str
    state: str
    trusted: bool
    requested: str
    settled: str | None
    method: str
    reference: str
    reason: str


class PaidSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it was paid, such as card, and the reference of the payment."""

    method: str = "card"
    reference: str = ""


class FailedSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why it was not paid."""

    reason: str = ""


def recharge_view(wallet: Wallet, request: Request) -> RechargeView:
    """Return a recharge as the API shows it."""
    return RechargeView(
        id=request.id,
        key=request.key,
        amount=plain(request.amount),
        cost=money_text(request.cost_minor, wallet.currency),
        currency=wallet.currency,
        state=request.state,
        trusted=request.trusted,
        requested=format_us(request.asked_us),
        settled=None if request.settled_us is None else format_us(request.settled_us),
        method=request.method,
        reference=request.reference,
        reason=request.reason,
    )


class Recharges(Controller):
    """Payments that rules of wallets asked for."""

    path = "/wallets/{key:str}/recharges"
    tags = ("wallets",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_recharges(
        self,
        world: World,
        grant: Grant,
        key: str,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Page[RechargeView]:
        """List the payments that a wallet's rule asked for, by key."""
        wallet = wallet_of(world.catalog.load(grant.tenant), key)
        purse = world.wallets.purses(grant.tenant, [wallet])[key]
        views = [recharge_view(wallet, one) for one in purse.requests]
        return keyed_page(views, limit, cursor, lambda view: view.key)

    @post("/{name:str}/paid", opt=BILLING, status_code=200, sync_to_thread=True)
    def recharge_paid(
        self, world: World, grant: Grant, key: str, name: str, data: PaidSpec
    ) -> RechargeView:
        """Say that a recharge was paid: what it asked for is in the wallet."""
        check_payment(data.method, data.reference)
        wallet = wallet_of(world.catalog.load(grant.tenant), key)
        told = Outcome(key=name, method=data.method, reference=data.reference)
        done = paid(world.wallets, grant.tenant, wallet, told, world.clock.now_us())
        return recharge_view(wallet, done)

    @post("/{name:str}/failed", opt=BILLING, status_code=200, sync_to_thread=True)
    def recharge_failed(
        self, world: World, grant: Grant, key: str, name: str, data: FailedSpec
    ) -> RechargeView:
        """Say that a recharge was not paid: its rule rests until somebody tops up, or for a day."""
        check_payment("card", data.reason)
        wallet = wallet_of(world.catalog.load(grant.tenant), key)
        told = Outcome(key=name, reason=data.reason)
        done = failed(world.wallets, grant.tenant, wallet, told, world.clock.now_us())
        return recharge_view(wallet, done)
