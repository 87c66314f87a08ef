"""How a wallet stands while usage goes on: its ongoing balance, thresholds, automatic recharge.

Source: docs/algorithms/wallets.md, Automatic recharge
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from tallybook.catalog.entitlement import RECHARGE, Wallet
from tallybook.invoice.document import Invoice
from tallybook.invoice.funds import WalletUsed
from tallybook.kernel.decimals import EXACT, divide
from tallybook.kernel.money import from_minor
from tallybook.settle.balance import NOTHING
from tallybook.settle.purse import Purse, Watch
from tallybook.settle.request import Request, may_ask, on_its_way
from tallybook.settle.threshold import crossed, recharge_due
from tallybook.settle.wallet import put_in


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What looking at a wallet came to.

    Attributes:
        watch: how it stands, a trusted recharge included.
        ongoing: before a recharge.
        low: thresholds that were crossed, rising.
        recharge: the payment that its rule asks for; None for none.
    """

    watch: Watch
    ongoing: Decimal
    low: tuple[Decimal, ...] = ()
    recharge: Request | None = None


def watched(wallet: Wallet) -> bool:
    """Whether a wallet has anything to be looked at for."""
    return wallet.recharge is not None or bool(wallet.thresholds)


def paying_order(purses: Iterable[Purse]) -> list[Purse]:
    """Return wallets in the order in which they pay."""
    return sorted(
        purses, key=lambda purse: (purse.wallet.priority, purse.since_us, purse.wallet.key)
    )


def unbilled(purses: Iterable[Purse], invoice: Invoice | None) -> dict[str, Decimal]:
    """Return what an invoice of now would take from each wallet of its currency, in its unit.

    What they cannot pay weighs on the last that pays every kind of line, on the very last where
    none does: its ongoing balance falls below zero.

    Args:
        purses: of one customer.
        invoice: the preview; None where nothing is to be billed.
    """
    if invoice is None:
        return {}
    ordered = [p for p in paying_order(purses) if p.wallet.currency == invoice.currency]
    if not ordered:
        return {}
    used: Mapping[str, WalletUsed] = {one.wallet: one for one in invoice.prepaid}
    found = {
        key: Decimal(used[key].units) if key in used else NOTHING
        for key in (purse.wallet.key for purse in ordered)
    }
    last = _last(ordered)
    rest = divide(from_minor(max(invoice.payable_minor, 0), invoice.currency), last.rate)
    found[last.key] = EXACT.add(found[last.key], rest)
    return found


def _last(ordered: Sequence[Purse]) -> Wallet:
    for purse in reversed(ordered):
        if not purse.wallet.only:
            return purse.wallet
    return ordered[-1].wallet


def look(purse: Purse, unbilled_units: Decimal, cut: int, now_us: int) -> Look:
    """Return how a wallet stands, what is to be told, and what its rule asks for.

    Args:
        purse: the wallet.
        unbilled_units: see `unbilled`.
        cut: snapshot of the usage that was valued.
        now_us: now.
    """
    wallet, before = purse.wallet, purse.watch
    state = purse.now(now_us)
    standing = EXACT.subtract(state.balance, purse.debt(state))
    ongoing = EXACT.subtract(standing, unbilled_units)
    known = state.balance if before is None else before.ongoing
    low = tuple(crossed("down", wallet.thresholds, known, ongoing))
    recharge = _recharge(purse, standing, unbilled_units, now_us)
    trusted = recharge is not None and recharge.trusted
    stands = EXACT.add(ongoing, recharge.amount) if recharge and trusted else ongoing
    watch = Watch(
        wallet=wallet.key,
        customer=wallet.customer,
        at_us=now_us,
        ongoing=stands,
        cut=cut,
        version=purse.version + trusted,
        low=(0 if before is None else before.low) + len(low),
        recharges=_recharges(purse) + (recharge is not None),
    )
    return Look(watch=watch, ongoing=ongoing, low=low, recharge=recharge)


def _recharges(purse: Purse) -> int:
    return 0 if purse.watch is None else purse.watch.recharges


def _recharge(
    purse: Purse, balance: Decimal, unbilled_units: Decimal, now_us: int
) -> Request | None:
    """Return the payment that the rule asks for; its key follows from how many there were."""
    rule, requests = purse.wallet.recharge, purse.requests
    topped_up_us = max((one.recorded_us for one in purse.top_ups), default=0)
    if rule is None or not may_ask(requests, topped_up_us, now_us):
        return None
    wanted = recharge_due(rule, balance, unbilled_units, on_its_way(requests))
    if not wanted:
        return None
    amount, cost_minor = put_in(purse.wallet, wanted)
    return Request(
        wallet=purse.wallet.key,
        customer=purse.wallet.customer,
        key=f"{RECHARGE}{_recharges(purse) + 1}",
        amount=amount,
        cost_minor=cost_minor,
        asked_us=now_us,
        trusted=rule.trust,
    )
