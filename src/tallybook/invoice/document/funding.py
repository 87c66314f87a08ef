"""What credits and wallets pay of a total, and what an invoice used of its customer's account.

Source: docs/algorithms/invoice-totals.md, docs/algorithms/wallets.md
"""

from collections.abc import Collection, Sequence

import msgspec

from tallybook.catalog.entitlement import covers_minor, units_for
from tallybook.invoice.document.spread import Fund, Part, Payable, spread
from tallybook.invoice.funds import CreditInHand, CreditUsed, WalletInHand, WalletUsed
from tallybook.kernel.decimals import plain
from tallybook.kernel.money import allocate, money_text


class Due(msgspec.Struct, frozen=True):
    """A line as wallets see it: its kind, and what it adds to the total, taxes included."""

    kind: str
    gross_minor: int


def credit_order(credit: CreditInHand) -> tuple[int, str]:
    """Return the sort key of use: oldest first."""
    return credit.at_us, credit.source


def wallet_order(hand: WalletInHand) -> tuple[int, int, str]:
    """Return the sort key of paying: priority, then the oldest."""
    return hand.wallet.priority, hand.since_us, hand.wallet.key


def credits_used(
    total_minor: int, credits: Sequence[CreditInHand], currency: str
) -> tuple[CreditUsed, ...]:
    """Return what credits pay of a total, oldest first; nothing of one that is not above zero."""
    used: list[CreditUsed] = []
    for credit in sorted(credits, key=credit_order):
        paid = min(credit.left_minor, total_minor)
        if paid > 0:
            total_minor -= paid
            amount = money_text(paid, currency)
            source, number = credit.source, credit.number
            used.append(CreditUsed(source=source, number=number, amount=amount, amount_minor=paid))
    return tuple(used)


def wallets_used(
    due_minor: int, lines: Sequence[Due], wallets: Sequence[WalletInHand], currency: str
) -> tuple[WalletUsed, ...]:
    """Return what wallets pay of what is due.

    Args:
        due_minor: total less credits.
        lines: whose sum is the total; what is due is split over those above zero.
        wallets: in any order; those of another currency wait.
        currency: of the invoice.

    Guarantees: together at most what is due; each at most what its kinds of lines have due, and
    what it holds, but for a wallet that may run into debt: what no balance pays, the first of these
    pays.
    """
    hands = {hand.wallet.key: hand for hand in wallets if hand.wallet.currency == currency}
    if due_minor <= 0 or not hands:
        return ()
    parts = allocate(due_minor, [max(line.gross_minor, 0) for line in lines])
    payables = [
        Payable(str(at), line.kind, part)
        for at, (line, part) in enumerate(zip(lines, parts, strict=True))
    ]
    paid: dict[str, int] = {}
    for part in _parts(hands.values(), payables):
        paid[part.fund] = paid.get(part.fund, 0) + part.amount_minor
    return tuple(_used(hands[key], minor, currency) for key, minor in paid.items())


def _parts(hands: Collection[WalletInHand], payables: Sequence[Payable]) -> list[Part]:
    """Return what balances pay, then what wallets pay by running into debt."""
    parts = spread([_fund(hand) for hand in hands], payables)
    indebted = [hand for hand in hands if hand.wallet.overdraft == "repay"]
    if not indebted:
        return parts
    left = {one.key: one.due_minor for one in payables}
    for part in parts:
        left[part.line] -= part.amount_minor
    unpaid = [msgspec.structs.replace(one, due_minor=left[one.key]) for one in payables]
    most = sum(left.values())
    debts = [msgspec.structs.replace(_fund(hand), available_minor=most) for hand in indebted]
    return parts + spread(debts, unpaid)


def _fund(hand: WalletInHand) -> Fund:
    wallet = hand.wallet
    return Fund(
        key=wallet.key,
        available_minor=covers_minor(wallet, hand.balance),
        priority=wallet.priority,
        since_us=hand.since_us,
        only=wallet.only,
    )


def _used(hand: WalletInHand, minor: int, currency: str) -> WalletUsed:
    return WalletUsed(
        wallet=hand.wallet.key,
        units=plain(units_for(hand.wallet, hand.balance, minor)),
        unit=hand.wallet.unit,
        amount=money_text(minor, currency),
        amount_minor=minor,
    )
