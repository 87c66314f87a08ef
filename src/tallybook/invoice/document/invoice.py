"""The invoice as a value: what the customer reads, what is kept, and what adds up.

Guarantees: subtotal less discounts plus what is taken back plus the taxes that prices do not
contain is the total; total less credits and prepaid is payable, or is carried where below zero.
"""

from collections.abc import Mapping

import msgspec

from tallybook.catalog.customer import Bank, Place
from tallybook.invoice.funds import CouponUsed, CreditUsed, WalletUsed
from tallybook.invoice.line import Drafted, Line
from tallybook.invoice.manifest import Group, Manifest, Position
from tallybook.invoice.rating import Fact

Facts = Mapping[Position, Mapping[Group, Fact]]
"""Cumulated usage of each item, by dimension value."""


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """Seller or customer as the document shows them."""

    name: str
    address: tuple[str, ...]
    email: str
    tax_id: str
    place: Place = Place()


class TaxTotal(msgspec.Struct, frozen=True, kw_only=True):
    """One tax of an invoice: computed on the sum of its bases and rounded once.

    Attributes:
        rate: percent, plain decimal text.
        inclusive: prices contain it, so that it is part of the net of the lines.
        category: UNTDID 5305.
        reason: why nothing is charged, where the category needs one.
        base: net of the tax: what it is computed on, or what remains where prices contain it.
        amount: the sum of its parts on the lines.
    """

    tax: str
    name: str
    rate: str
    inclusive: bool
    category: str
    reason: str
    base: str
    base_minor: int
    amount: str
    amount_minor: int


class ShareTotal(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to one party: the sum of its parts of the lines."""

    party: str
    amount: str
    amount_minor: int


class MemberTotal(msgspec.Struct, frozen=True, kw_only=True):
    """One customer's part of an invoice that another customer pays.

    Attributes:
        customer: key; '' for the payer's own lines.
        name: as the document shows it.
        lines: how many; they stand together.
        subtotal: sum of its lines, before coupons.
        discount: what coupons take off them, less what they take back.
        net: subtotal less discount.
        tax: taxes added to its lines.
    """

    customer: str
    name: str
    lines: int
    subtotal: str
    subtotal_minor: int
    discount: str
    discount_minor: int
    net: str
    net_minor: int
    tax: str
    tax_minor: int


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice; every number is a plain decimal text, every time RFC 3339.

    Attributes:
        id: derived from the manifest.
        number: gapless in its series, assigned at finalization.
        locale: how a renderer writes numbers and dates.
        zone: whose dates a renderer writes.
        period_start: the earliest start of the lines' periods, adjustments aside.
        period_end: the latest end of usage billed.
        lines: those of one customer stand together, the payer's own first, one-offs after what
            was used.
        subtotal: sum of the lines, before coupons.
        discounts: what each coupon took off, in the order of their application.
        discount_minor: sum of the discounts, 0 or more.
        taken_back: discounts of earlier invoices that lines below zero do not give back; 0 or more.
        taxes: by key of the tax, those of rate 0 too.
        tax_minor: sum of the taxes that prices do not contain.
        total: subtotal less discounts plus what is taken back plus the taxes that prices do not
            contain.
        credits: what credits paid of it, oldest first.
        prepaid: what wallets paid of it, in the order of paying.
        carried: a total below zero, which becomes the customer's credit; 0 or more.
        payable: what is left to pay: total less credits and prepaid, never below zero.
        reference: to be named in the payment.
        replaces: number of the voided invoice that it is issued in place of; '' for none.
        members: by customer, where this one pays for others; () else.
        shares: by party, what belongs to others of the lines' bases.
    """

    id: str
    number: str
    series: str
    issued: str
    due: str
    seller: Party
    customer_key: str
    customer: Party
    locale: str
    zone: str
    currency: str
    period_start: str
    period_end: str
    lines: tuple[Line, ...]
    total: str
    total_minor: int
    notes: tuple[str, ...]
    manifest: Manifest
    subtotal: str = "0"
    subtotal_minor: int = 0
    discounts: tuple[CouponUsed, ...] = ()
    discount_minor: int = 0
    taken_back: str = "0"
    taken_back_minor: int = 0
    taxes: tuple[TaxTotal, ...] = ()
    tax_minor: int = 0
    credits: tuple[CreditUsed, ...] = ()
    prepaid: tuple[WalletUsed, ...] = ()
    carried: str = "0"
    carried_minor: int = 0
    payable: str = "0"
    payable_minor: int = 0
    reference: str = ""
    replaces: str = ""
    bank: Bank = Bank()
    terms: str = ""
    members: tuple[MemberTotal, ...] = ()
    shares: tuple[ShareTotal, ...] = ()


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice without a number, and the state it leaves behind.

    Attributes:
        lines: as on the invoice, each with its item and what is billed with it.
    """

    invoice: Invoice
    lines: tuple[Drafted, ...]
