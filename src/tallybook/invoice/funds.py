"""What a customer has that reduces an invoice: coupons, credits, wallets; and what was used of it.

An invoice is composed from funds as they were at one version of the customer's account; the
transaction that stores it refuses another version, so nothing is spent twice.

Source: docs/algorithms/coupons.md, docs/algorithms/credit-notes.md, docs/algorithms/wallets.md
"""

from decimal import Decimal

import msgspec

from tallybook.catalog.coupon import Coupon
from tallybook.catalog.entitlement import Wallet


class CouponInHand(msgspec.Struct, frozen=True, kw_only=True):
    """A redeemed coupon that still counts.

    Attributes:
        redemption: id of the redemption.
        left_minor: what is left of an amount that is used up; None where nothing is used up.
        invoices_left: of a recurring one; None else.
        redeemed_us: when it was redeemed; the oldest counts first.
    """

    redemption: str
    coupon: Coupon
    left_minor: int | None = None
    invoices_left: int | None = None
    redeemed_us: int = 0


class CreditInHand(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a credit, oldest first.

    Attributes:
        source: id of the credit note, or of the invoice whose total was below zero.
        number: of that document.
        at_us: when it was given; the oldest pays first.
    """

    source: str
    number: str
    left_minor: int
    at_us: int = 0


class WalletInHand(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet with a balance, in the order in which they pay.

    Attributes:
        balance: in the wallet's unit.
        since_us: when it was made; of equal priority the oldest pays first.
    """

    wallet: Wallet
    balance: Decimal
    since_us: int = 0


class Funds(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a customer has, in one currency, at one version of its account."""

    version: int = 0
    coupons: tuple[CouponInHand, ...] = ()
    credits: tuple[CreditInHand, ...] = ()
    wallets: tuple[WalletInHand, ...] = ()


class CouponUsed(msgspec.Struct, frozen=True, kw_only=True):
    """What a coupon took off one invoice."""

    redemption: str
    coupon: str
    name: str
    amount: str
    amount_minor: int


class CreditUsed(msgspec.Struct, frozen=True, kw_only=True):
    """What a credit paid of one invoice."""

    source: str
    number: str
    amount: str
    amount_minor: int


class WalletUsed(msgspec.Struct, frozen=True, kw_only=True):
    """What a wallet paid of one invoice.

    Attributes:
        units: taken from the wallet, plain decimal text.
        unit: '' for money.
    """

    wallet: str
    units: str
    unit: str
    amount: str
    amount_minor: int


NOTHING = Funds()
