"""Payments, refunds, and credit put on open invoices: who paid what of which invoice.

Source: docs/algorithms/payments.md
"""

from typing import Literal

import msgspec

from tallybook.invoice.funds import CreditUsed

Kind = Literal["payment", "credit", "refund"]
"""payment: money came in; credit: the customer's credit paid; refund: money went out."""

PaymentState = Literal["recorded", "reversed"]


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """What a payment paid of an invoice.

    Attributes:
        invoice: id; number: of that invoice.
        amount: with the currency's digits.
    """

    invoice: str
    number: str
    amount: str
    amount_minor: int


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """Money, or credit, that changed hands.

    Attributes:
        method: such as 'bank-transfer'; 'credit' for credit.
        reference: the payer's or the bank's, for people.
        received_us: when it counts; recorded_us: when it was written down.
        allocations: what it paid; together with `credited_minor` all of a payment.
        credited_minor: more than was open, which became the customer's credit.
        credits: what a refund or credit was taken from.
        reversed_us: when it was taken back; None where it was not.
        reason: why.
        lost_minor: credited, spent, and reversed: what could not be taken back from credits.
    """

    id: str
    kind: Kind
    customer: str
    currency: str
    amount: str
    amount_minor: int
    method: str
    reference: str
    received_us: int
    recorded_us: int
    allocations: tuple[Allocation, ...] = ()
    credited_minor: int = 0
    credits: tuple[CreditUsed, ...] = ()
    state: PaymentState = "recorded"
    reversed_us: int | None = None
    reason: str = ""
    lost_minor: int = 0
