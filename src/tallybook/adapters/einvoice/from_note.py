"""From a credit note to the terms of EN 16931: document type 381, amounts to be taken off.

Source: docs/guides/documents.md
"""

from collections.abc import Iterator

from tallybook.adapters.einvoice.bill import Account, Bill, Item
from tallybook.adapters.einvoice.codes import CLEARING, PIECES
from tallybook.adapters.einvoice.from_invoice import (
    NO_TAX,
    ONE,
    breakdown_of,
    check_currency,
    check_traders,
    day_of,
    days_of,
    rate_of,
    taxes_of_lines,
    without_vat,
)
from tallybook.adapters.einvoice.traders import trader
from tallybook.kernel.money import from_minor
from tallybook.settle.receivable.credit_note import CreditNote


def bill_of_note(note: CreditNote, buyer_reference: str = "") -> Bill:
    """Return a credit note in the terms of EN 16931.

    Args:
        note: issued.
        buyer_reference: what the buyer wants to see on documents; its key where ''.

    Raises:
        Invalid: something that the standard asks for is not known, or the standard has no way to
            say something; `field` names it.
    """
    check_currency(note.currency)
    items = tuple(_items(note))
    breakdown = breakdown_of(note.taxes, items)
    seller, buyer = trader(note.seller, "seller"), trader(note.customer, "customer")
    check_traders(seller, buyer, breakdown)
    days = [day for item in items for day in (item.first, item.last) if day is not None]
    made = Bill(
        kind="381",
        number=note.number,
        issued=day_of(note.issued, note.zone),
        due=None,
        currency=note.currency,
        buyer_reference=buyer_reference or note.customer_key,
        note=note.reason,
        seller=without_vat(seller, breakdown),
        buyer=without_vat(buyer, breakdown),
        items=items,
        breakdown=breakdown,
        first=min(days, default=None),
        last=max(days, default=None),
        preceding=note.invoice_number,
        account=Account(means=CLEARING, iban="", bic="", holder="", reference=note.invoice_number),
        terms=", ".join(_settled(note)),
        paid=from_minor(0, note.currency),
    )
    total = from_minor(note.total_minor, note.currency)
    assert made.total() == total, "lines net of VAT and VAT are the credit note's total"
    return made


def _items(note: CreditNote) -> Iterator[Item]:
    for line, tax in zip(note.lines, taxes_of_lines(note.lines, note.taxes), strict=True):
        net = from_minor(line.base_minor, note.currency)
        first, last = days_of(line.period_start, line.period_end, note.zone)
        yield Item(
            id=str(line.position),
            name=line.name,
            description=line.customer,
            seller_item="",
            note="",
            attributes=(),
            quantity=-ONE if net < 0 else ONE,
            unit=PIECES,
            price=abs(net),
            price_base=ONE,
            net=net,
            rate=NO_TAX if tax is None else rate_of(tax),
            first=first,
            last=last,
        )


def _settled(note: CreditNote) -> Iterator[str]:
    """Yield what becomes of the total."""
    if note.reduces_minor:
        yield f"{note.reduces} {note.currency} taken off {note.invoice_number}"
    if note.credited_minor:
        yield f"{note.credited} {note.currency} credited to the account"
    if note.refund_minor:
        yield f"{note.refund} {note.currency} refunded"
