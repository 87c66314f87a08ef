"""What a customer owes now, and when it is worth asking for: one request for all that is overdue.

Source: docs/algorithms/payments.md
"""

from collections.abc import Iterable

import msgspec

from tallybook.invoice.ports import InvoiceHead
from tallybook.invoice.state import shown
from tallybook.settle.receivable.standing import Standing


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """What is open in one currency.

    Attributes:
        overdue_minor: of it, what is past its due date.
        overdue: numbers of those invoices, oldest first.
    """

    open_minor: int = 0
    overdue_minor: int = 0
    overdue: tuple[str, ...] = ()


class PaymentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request for everything that a customer has overdue in a currency."""

    customer: str
    currency: str
    amount_minor: int
    invoices: tuple[str, ...]


def owed(standing: Standing, now_us: int) -> dict[str, Owed]:
    """Return what a customer owes, by currency; written off invoices are left out."""
    return _owed(standing.invoices, now_us)


def _owed(heads: Iterable[InvoiceHead], now_us: int) -> dict[str, Owed]:
    found: dict[str, Owed] = {}
    for head in heads:
        if head.state != "finalized":
            continue
        before = found.get(head.currency, Owed())
        late = shown(head.state, head.due_us, now_us) == "overdue"
        found[head.currency] = Owed(
            open_minor=before.open_minor + head.open_minor,
            overdue_minor=before.overdue_minor + (head.open_minor if late else 0),
            overdue=(*before.overdue, head.number) if late else before.overdue,
        )
    return found


def requests(
    heads: Iterable[InvoiceHead], currency: str, threshold_minor: int, now_us: int
) -> list[PaymentRequest]:
    """Return what is to be asked for: one request a customer whose overdue sum is large enough.

    Args:
        heads: invoices, of any customers.
        currency: ISO 4217; others are left out.
        threshold_minor: a smaller sum is not asked for.
        now_us: microseconds UTC.
    """
    by_customer: dict[str, list[InvoiceHead]] = {}
    for head in heads:
        by_customer.setdefault(head.customer, []).append(head)
    found = []
    for customer, mine in sorted(by_customer.items()):
        late = _owed(mine, now_us).get(currency, Owed())
        if late.overdue and late.overdue_minor >= threshold_minor:
            request = PaymentRequest(
                customer=customer,
                currency=currency,
                amount_minor=late.overdue_minor,
                invoices=late.overdue,
            )
            found.append(request)
    return found
