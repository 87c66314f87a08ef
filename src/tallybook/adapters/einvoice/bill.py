"""An invoice or credit note in the terms of EN 16931, before it is written in a syntax.

Amounts are in the document's currency, net of VAT, with at most two decimals; `BT-…` and `BG-…` are
the terms of the standard.
"""

from datetime import date
from decimal import Decimal
from typing import Literal

import msgspec

Kind = Literal["380", "381"]
"""UNTDID 1001: commercial invoice, credit note (BT-3)."""


class Trader(msgspec.Struct, frozen=True, kw_only=True):
    """Seller (BG-4) or buyer (BG-7).

    Attributes:
        lines: of the postal address, at most three.
        country: ISO 3166-1 alpha-2.
        vat: VAT identifier (BT-31, BT-48); '' for none.
        tax_number: another tax registration (BT-32); '' for none.
        registration: legal registration (BT-30, BT-47); '' for none.
        contact, phone, email: whom to ask (BG-6, BG-9).
        endpoint: scheme and identifier (BT-34, BT-49); None for none.
    """

    name: str
    lines: tuple[str, ...]
    city: str
    postal_code: str
    country: str
    vat: str = ""
    tax_number: str = ""
    registration: str = ""
    contact: str = ""
    phone: str = ""
    email: str = ""
    endpoint: tuple[str, str] | None = None


class Rate(msgspec.Struct, frozen=True, order=True):
    """A VAT category and rate; the rate is None where the category has none."""

    category: str
    percent: Decimal | None


class Deduction(msgspec.Struct, frozen=True, kw_only=True):
    """An allowance (BG-27) of a line, or a charge (BG-28); the amount is never negative."""

    charge: bool
    amount: Decimal
    reason: str


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A line (BG-25).

    Attributes:
        price: of `price_base` units, before the deduction; never negative.
        net: quantity × price ÷ price_base, less the deduction (BT-131).
        first, last: days of the period, both included; None for none.
    """

    id: str
    name: str
    description: str
    seller_item: str
    note: str
    attributes: tuple[tuple[str, str], ...]
    quantity: Decimal
    unit: str
    price: Decimal
    price_base: Decimal
    net: Decimal
    rate: Rate
    deduction: Deduction | None = None
    first: date | None = None
    last: date | None = None


class Breakdown(msgspec.Struct, frozen=True, kw_only=True):
    """The VAT of one category and rate (BG-23).

    Attributes:
        reason: why nothing is charged, text (BT-120); '' where the category has none.
        reason_code: the same as a VATEX code (BT-121); '' for none.
    """

    rate: Rate
    base: Decimal
    tax: Decimal
    reason: str = ""
    reason_code: str = ""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Where to pay (BG-17).

    Attributes:
        means: UNTDID 4461: 58 is a SEPA credit transfer, 30 another one, 97 clearing.
        iban: '' for none.
        reference: for the payment (BT-83).
    """

    means: str
    iban: str
    bic: str
    holder: str
    reference: str


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """The whole document.

    Attributes:
        preceding: number of the document that this one corrects or replaces (BT-25); '' for none.
        paid: what was paid already (BT-113).
    """

    kind: Kind
    number: str
    issued: date
    due: date | None
    currency: str
    buyer_reference: str
    note: str
    seller: Trader
    buyer: Trader
    items: tuple[Item, ...]
    breakdown: tuple[Breakdown, ...]
    first: date | None
    last: date | None
    preceding: str
    account: Account | None
    terms: str
    paid: Decimal

    def lines_total(self) -> Decimal:
        """Return the sum of the lines (BT-106), which is the total without VAT (BT-109)."""
        return sum((item.net for item in self.items), Decimal(0))

    def tax_total(self) -> Decimal:
        """Return the VAT (BT-110)."""
        return sum((part.tax for part in self.breakdown), Decimal(0))

    def total(self) -> Decimal:
        """Return the total with VAT (BT-112)."""
        return self.lines_total() + self.tax_total()

    def payable(self) -> Decimal:
        """Return what is left to pay (BT-115)."""
        return self.total() - self.paid
