"""A ledger entry: one amount from one account to another, so the books balance by construction.

Source: DECISIONS 29.
"""

from typing import Literal

import msgspec

Account = Literal[
    "receivable",
    "revenue",
    "tax",
    "prepaid",
    "credit",
    "cash",
    "bad-debt",
    "promotion",
    "breakage",
    "share",
    "refund",
]
"""What an account is for; docs/algorithms/ledger.md says which side means what."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A positive amount, owed by one account to another. Never changed, never deleted.

    Attributes:
        id: derived from its document and position.
        at_us: when it holds, microseconds UTC.
        debit: account, such as 'receivable:acme'.
        credit: account, such as 'revenue:acme'.
        amount_minor: above zero.
        currency: ISO 4217.
        document: id of the invoice, payment, credit note or top-up that it belongs to.
        line: id of the line; '' for the whole document.
        service_start_us: first instant of what was delivered; None where nothing was.
        service_end_us: first instant after it.
    """

    id: str
    at_us: int
    debit: str
    credit: str
    amount_minor: int
    currency: str
    document: str
    line: str = ""
    service_start_us: int | None = None
    service_end_us: int | None = None


def account(kind: Account, name: str) -> str:
    """Return the name of an account: what it is for, and whose."""
    return f"{kind}:{name}"
