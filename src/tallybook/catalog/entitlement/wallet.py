"""A wallet: credit paid in advance, in money or in units with a rate; and its top-ups.

Source: docs/algorithms/wallets.md
"""

from decimal import ROUND_DOWN, Decimal
from typing import Literal, get_args

import msgspec

from tallybook.catalog.entitlement.grant import check_priority
from tallybook.catalog.meter import name_ok
from tallybook.catalog.price.fields import amount, optional, positive, refused
from tallybook.kernel.decimals import EXACT, SCALE, divide
from tallybook.kernel.money import exponent, from_minor

PaidKind = Literal["usage", "fee", "minimum", "one-off"]
"""Kinds of lines, as an invoice names them."""

Overdraft = Literal["none", "repay"]
"""What a draw cannot take: `none` leaves it on the invoice, `repay` waits for the next top-up."""


class Recharge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When and how far a wallet is topped up by itself.

    Attributes:
        at: when the ongoing balance is this or less.
        add: tops up so much; or else
        to: tops up to this balance, above `at`.
        least: smallest top-up; None for any.
        most: largest top-up; None for any.
        trust: it may be drawn from at once, before it is paid.
    """

    at: Decimal
    add: Decimal | None = None
    to: Decimal | None = None
    least: Decimal | None = None
    most: Decimal | None = None
    trust: bool = False


class Wallet(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's wallet.

    Attributes:
        key: stable name, unique within the tenant.
        currency: ISO 4217, of what it pays.
        unit: name of what it holds; '' for the currency itself.
        rate: what one unit is worth in the currency; 1 for money.
        priority: lower pays first.
        only: kinds of lines that it pays; empty for all.
        overdraft: see `Overdraft`.
        recharge: None for by hand only.
        thresholds: rising; falling to one is worth telling.
    """

    key: str
    customer: str
    currency: str
    unit: str = ""
    rate: Decimal = Decimal(1)
    priority: int = 1
    only: tuple[str, ...] = ()
    overdraft: Overdraft = "none"
    recharge: Recharge | None = None
    thresholds: tuple[Decimal, ...] = ()


class TopUp(msgspec.Struct, frozen=True, kw_only=True):
    """An amount put into a wallet.

    Attributes:
        key: unique within its wallet.
        amount: in the wallet's unit, as it was put in.
        at_us: first instant it may be drawn from, microseconds UTC.
        expires_us: first instant it may not; None for never.
        voided_us: taken back from then on.
        priority: lower is drawn first.
        free: it cost nothing, so it is no prepayment.
    """

    key: str
    amount: Decimal
    at_us: int
    expires_us: int | None = None
    voided_us: int | None = None
    priority: int = 1
    free: bool = False

    @property
    def end_us(self) -> int | None:
        """First instant it may not be drawn from; None for never."""
        ends = [end for end in (self.expires_us, self.voided_us) if end is not None]
        return min(ends, default=None)


class WalletSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A wallet as it is written."""

    key: str
    customer: str
    currency: str
    unit: str = ""
    rate: Decimal = Decimal(1)
    priority: int = 1
    only: list[str] = []
    overdraft: str = "none"
    recharge: Recharge | None = None
    thresholds: list[Decimal] = []


def check_wallet(spec: WalletSpec) -> Wallet:
    """Return the wallet that a specification means.

    Raises:
        Invalid: names the field, and what to write instead.
    """
    name_ok("key", spec.key)
    name_ok("customer", spec.customer)
    exponent(spec.currency)
    check_priority(spec.priority)
    overdraft: Overdraft = "repay" if spec.overdraft == "repay" else "none"
    if spec.overdraft != overdraft:
        raise refused("overdraft", f"must be one of {', '.join(get_args(Overdraft))}")
    return Wallet(
        key=spec.key,
        customer=spec.customer,
        currency=spec.currency,
        unit=spec.unit,
        rate=_rate(spec),
        priority=spec.priority,
        only=_only(spec),
        overdraft=overdraft,
        recharge=None if spec.recharge is None else check_recharge(spec.recharge),
        thresholds=tuple(sorted({amount("thresholds", t, SCALE) for t in spec.thresholds})),
    )


def _only(spec: WalletSpec) -> tuple[str, ...]:
    kinds = get_args(PaidKind)
    for kind in spec.only:
        if kind not in kinds:
            raise refused("only", f"names '{kind}', which is none of {', '.join(kinds)}")
    return tuple(sorted(set(spec.only)))


def _rate(spec: WalletSpec) -> Decimal:
    rate = positive("rate", amount("rate", spec.rate, SCALE))
    if spec.unit:
        name_ok("unit", spec.unit)
    elif rate != 1:
        raise refused("rate", "is 1 for a wallet of money; name a unit")
    return rate


def check_recharge(rule: Recharge) -> Recharge:
    """Return the rule with its numbers checked; raises Invalid naming the field."""
    if (rule.add is None) == (rule.to is None):
        raise refused("recharge", "must say either add or to")
    at = amount("recharge.at", rule.at)
    add = None if rule.add is None else positive("recharge.add", rule.add)
    to = optional("recharge.to", rule.to)
    if to is not None and to <= at:
        raise refused("recharge.to", "must be above recharge.at")
    least, most = optional("recharge.least", rule.least), optional("recharge.most", rule.most)
    if least is not None and most is not None and least > most:
        raise refused("recharge.least", "must not be above recharge.most")
    return Recharge(at=at, add=add, to=to, least=least, most=most, trust=rule.trust)


def covers_minor(wallet: Wallet, balance: Decimal) -> int:
    """Return the whole minor units that a balance can pay."""
    scaled = EXACT.scaleb(EXACT.multiply(balance, wallet.rate), exponent(wallet.currency))
    return int(scaled.quantize(Decimal(1), ROUND_DOWN, EXACT))


def units_for(wallet: Wallet, balance: Decimal, amount_minor: int) -> Decimal:
    """Return what is taken from a wallet to pay minor units, to 12 decimals half-even.

    Args:
        wallet: whose rate counts.
        balance: what it holds.
        amount_minor: 0 or more; more than `covers_minor(wallet, balance)` where it runs into debt.
    """
    units = divide(from_minor(amount_minor, wallet.currency), wallet.rate)
    return units if amount_minor > covers_minor(wallet, balance) else min(balance, units)
