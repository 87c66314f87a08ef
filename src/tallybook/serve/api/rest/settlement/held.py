"""What customers hold: redeemed coupons, credit, one-off charges that wait."""

import msgspec
from litestar import Controller, delete, get, post

from tallybook.compose import World
from tallybook.invoice.ledger.holdings import Redemption
from tallybook.kernel.decimals import plain
from tallybook.kernel.money import money_text
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.gate import Grant
from tallybook.settle.receivable.flow import redeem, withdraw_coupon, withdraw_extra
from tallybook.settle.receivable.owing import owed


class RedeemSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who redeems a coupon."""

    customer: str


class RedemptionView(msgspec.Struct, frozen=True, kw_only=True):
    """A redeemed coupon; invoices: how many it took something off so far."""

    id: str
    coupon: str
    customer: str
    redeemed: str
    invoices: int
    ended: str | None


class CreditView(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a credit; purpose: credit, or refund where it waits to be paid out."""

    source: str
    number: str
    purpose: str
    currency: str
    amount: str
    left: str
    issued: str


class WaitingView(msgspec.Struct, frozen=True, kw_only=True):
    """A one-off charge that waits for the customer's next invoice."""

    id: str
    name: str
    amount: str
    currency: str


class OwedView(msgspec.Struct, frozen=True, kw_only=True):
    """What is open, in one currency, and what of it is past its due date."""

    currency: str
    open: str
    overdue: str


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """Where a customer stands."""

    customer: str
    owed: list[OwedView]
    credits: list[CreditView]
    redemptions: list[RedemptionView]
    waiting: list[WaitingView]


def redemption_view(one: Redemption) -> RedemptionView:
    """Return a redemption as the API shows it."""
    return RedemptionView(
        id=one.id,
        coupon=one.coupon.key,
        customer=one.customer,
        redeemed=format_us(one.at_us),
        invoices=one.invoices,
        ended=None if one.ended_us is None else format_us(one.ended_us),
    )


class Redemptions(Controller):
    """Coupons put to use."""

    path = "/coupons"
    tags = ("coupons",)

    @post("/{key:str}/redeem", opt=BILLING, sync_to_thread=True)
    def redeem_coupon(
        self, world: World, grant: Grant, key: str, data: RedeemSpec
    ) -> RedemptionView:
        """Put a coupon to a customer's use: it counts on invoices from now on."""
        return redemption_view(redeem(world.settling(grant.tenant), key, data.customer))


class CustomerAccounts(Controller):
    """Where customers stand."""

    path = "/customers"
    tags = ("customers",)

    @get("/{key:str}/account", opt=READ, sync_to_thread=True)
    def show_account(self, world: World, grant: Grant, key: str) -> AccountView:
        """Show what a customer owes and holds: open invoices, credit, coupons, waiting charges."""
        customer = world.catalog.load(grant.tenant).customer(key).key
        standing = world.settlements.standing(grant.tenant, customer)
        now_us = world.clock.now_us()
        found = owed(standing, now_us)
        return AccountView(
            customer=customer,
            owed=[
                OwedView(
                    currency=currency,
                    open=money_text(one.open_minor, currency),
                    overdue=money_text(one.overdue_minor, currency),
                )
                for currency, one in sorted(found.items())
            ],
            credits=[
                CreditView(
                    source=one.source,
                    number=one.number,
                    purpose=one.purpose,
                    currency=one.currency,
                    amount=money_text(one.amount_minor, one.currency),
                    left=money_text(one.left_minor, one.currency),
                    issued=format_us(one.at_us),
                )
                for one in standing.held.credits
                if one.left_minor
            ],
            redemptions=[redemption_view(one) for one in standing.held.redemptions],
            waiting=[
                WaitingView(
                    id=one.extra.id,
                    name=one.extra.name,
                    amount=plain(one.extra.amount),
                    currency=one.currency,
                )
                for one in standing.held.extras
            ],
        )

    @delete("/{key:str}/redemptions/{name:str}", opt=BILLING, sync_to_thread=True)
    def end_redemption(self, world: World, grant: Grant, key: str, name: str) -> None:
        """Take a redeemed coupon away; invoices that used it stay as they are."""
        withdraw_coupon(world.settling(grant.tenant), key, name)

    @delete("/{key:str}/charges/{name:str}", opt=BILLING, sync_to_thread=True)
    def withdraw_charge(self, world: World, grant: Grant, key: str, name: str) -> None:
        """Take back a one-off charge that waits; one that is billed is credited or voided."""
        withdraw_extra(world.settling(grant.tenant), key, name)
