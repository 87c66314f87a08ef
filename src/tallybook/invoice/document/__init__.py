"""The invoice as a document: what a manifest makes, what the customer reads, what is kept.

Lines, coupons, taxes, credits, wallets, shares: one module each; `compose` puts them together.

Source: docs/algorithms/invoice-totals.md
"""

from tallybook.invoice.document.compose import compose
from tallybook.invoice.document.extra import EXTRA
from tallybook.invoice.document.invoice import (
    Draft,
    Facts,
    Invoice,
    MemberTotal,
    Party,
    ShareTotal,
    TaxTotal,
)
from tallybook.invoice.document.number import (
    NUMBER_DIGITS,
    decode_invoice,
    encode_invoice,
    number_place,
    number_text,
    numbered_json,
    with_number,
)
from tallybook.invoice.document.spent import after_use, spent
from tallybook.invoice.document.totals import DRAFT_NUMBER
from tallybook.invoice.due import MINIMUM

__all__ = [
    "DRAFT_NUMBER",
    "EXTRA",
    "MINIMUM",
    "NUMBER_DIGITS",
    "Draft",
    "Facts",
    "Invoice",
    "MemberTotal",
    "Party",
    "ShareTotal",
    "TaxTotal",
    "after_use",
    "compose",
    "decode_invoice",
    "encode_invoice",
    "number_place",
    "number_text",
    "numbered_json",
    "spent",
    "with_number",
]
