"""The facts of an invoice's life that are told outside; each is told once.

Source: DECISIONS 28; docs/algorithms/invoice-life.md
"""

import msgspec

from tallybook.invoice.document import Invoice
from tallybook.kernel.book.fact import Fact, fact


class InvoiceTold(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a fact about an invoice; money is a string, times are RFC 3339."""

    id: str
    number: str
    customer: str
    currency: str
    total: str
    payable: str
    issued: str
    due: str


def told(kind: str, invoice: Invoice, at_us: int, step: str = "") -> Fact:
    """Return a fact about an invoice.

    Args:
        kind: past tense, such as 'invoice.finalized'.
        invoice: numbered.
        at_us: when it happened.
        step: what made it happen, where it can happen again; '' else.
    """
    body = InvoiceTold(
        id=invoice.id,
        number=invoice.number,
        customer=invoice.customer_key,
        currency=invoice.currency,
        total=invoice.total,
        payable=invoice.payable,
        issued=invoice.issued,
        due=invoice.due,
    )
    return fact(kind, invoice.id, invoice.customer_key, at_us, body, step)


def finalized_facts(invoice: Invoice) -> tuple[Fact, ...]:
    """Return what is told when an invoice is finalized: one with nothing to pay is paid."""
    at_us = invoice.manifest.issued_us
    finalized = told("invoice.finalized", invoice, at_us)
    if invoice.payable_minor:
        return (finalized,)
    return (finalized, told("invoice.paid", invoice, at_us))
