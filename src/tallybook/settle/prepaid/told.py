"""The facts of wallets that are told outside, each in the transaction that made it so.

Source: docs/algorithms/wallets.md
"""

from decimal import Decimal

import msgspec

from tallybook.catalog.entitlement import Wallet
from tallybook.kernel.book.fact import Fact, fact
from tallybook.kernel.decimals import plain
from tallybook.kernel.money import money_text
from tallybook.settle.purse import StoredTopUp
from tallybook.settle.request import Request, RequestState


class ToppedUp(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `wallet.topped_up`; amounts are in the wallet's unit, `cost` in its currency."""

    wallet: str
    customer: str
    top_up: str
    amount: str
    unit: str
    cost: str
    currency: str
    free: bool
    reason: str
    method: str
    reference: str


class Low(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `wallet.low`: the ongoing balance fell to a threshold, or below."""

    wallet: str
    customer: str
    threshold: str
    ongoing_balance: str
    unit: str
    currency: str


class Recharge(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `wallet.recharge_requested`, `wallet.recharge_paid` and `wallet.recharge_failed`.

    Whoever charges the customer's card takes `cost` in `currency`, once for each `id`.
    """

    id: str
    wallet: str
    customer: str
    recharge: str
    amount: str
    unit: str
    cost: str
    currency: str
    trusted: bool
    method: str
    reference: str
    reason: str


_REQUESTS: dict[RequestState, str] = {
    "requested": "wallet.recharge_requested",
    "paid": "wallet.recharge_paid",
    "failed": "wallet.recharge_failed",
}


def request_fact(wallet: Wallet, request: Request, at_us: int) -> Fact:
    """Return the fact that a recharge was asked for, was paid, or failed."""
    body = Recharge(
        id=request.id,
        wallet=wallet.key,
        customer=wallet.customer,
        recharge=request.key,
        amount=plain(request.amount),
        unit=wallet.unit or wallet.currency,
        cost=money_text(request.cost_minor, wallet.currency),
        currency=wallet.currency,
        trusted=request.trusted,
        method=request.method,
        reference=request.reference,
        reason=request.reason,
    )
    kind = _REQUESTS[request.state]
    return fact(kind, request.id, wallet.customer, at_us, body, request.key)


def topped_up_fact(wallet: Wallet, stored: StoredTopUp) -> Fact:
    """Return the fact that a wallet was topped up."""
    body = ToppedUp(
        wallet=wallet.key,
        customer=wallet.customer,
        top_up=stored.top_up.key,
        amount=plain(stored.top_up.amount),
        unit=wallet.unit or wallet.currency,
        cost=money_text(stored.cost_minor, wallet.currency),
        currency=wallet.currency,
        free=stored.top_up.free,
        reason=stored.reason,
        method=stored.method,
        reference=stored.reference,
    )
    return fact(
        "wallet.topped_up", stored.id, wallet.customer, stored.recorded_us, body, stored.top_up.key
    )


def low_fact(wallet: Wallet, threshold: Decimal, ongoing: Decimal, at_us: int, number: int) -> Fact:
    """Return the fact that a threshold was crossed; `number` counts the crossings."""
    body = Low(
        wallet=wallet.key,
        customer=wallet.customer,
        threshold=plain(threshold),
        ongoing_balance=plain(ongoing),
        unit=wallet.unit or wallet.currency,
        currency=wallet.currency,
    )
    return fact("wallet.low", wallet.key, wallet.customer, at_us, body, str(number))
