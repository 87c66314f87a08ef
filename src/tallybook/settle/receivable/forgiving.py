"""What credit notes give back of what is billed in all of a charge, so that nothing is given twice.

Source: docs/algorithms/credit-notes.md
"""

from collections.abc import Iterator

import msgspec

from tallybook.catalog.subscription import StoredPeriod
from tallybook.invoice.document import Invoice
from tallybook.invoice.line import Line
from tallybook.invoice.manifest import Billed, Position
from tallybook.invoice.ports import Books, StoredInvoice
from tallybook.invoice.record import group_text
from tallybook.kernel.money import rounded_parts
from tallybook.settle.receivable.credit_note import CreditNote

Sum = tuple[Position, Billed]
"""What is billed in all of a charge and dimension value."""


def subscriptions_of(invoice: Invoice) -> list[str]:
    """Return whose figures an invoice is part of."""
    return sorted({item.position.subscription for item in invoice.manifest.items})


def sums_of(stored: StoredInvoice, books: Books) -> dict[str, Sum]:
    """Return what is billed in all by now of each line's charge, by the line's id.

    A one-off is not among them: it is billed once.
    """
    found: dict[str, Sum] = {}
    for line in stored.lines:
        for billed in books.billed.get(line.position, {}).values():
            if group_text(billed.group) == line.group:
                found[line.id] = line.position, billed
    return found


def looked_at_again(sums: list[Sum], books: Books) -> list[StoredPeriod]:
    """Return the periods of sums, as the next run rates them again whichever month it bills."""
    places = {(position.subscription, position.start_us) for position, _ in sums}
    return [
        msgspec.structs.replace(period, again=True)
        for subscription in sorted({subscription for subscription, _ in places})
        for period in books.periods.get(subscription, ())
        if (subscription, period.start_us) in places
    ]


def bounds_of(invoice: Invoice, sums: dict[str, Sum]) -> dict[str, int]:
    """Return how much of each line above zero may be credited at most, of its net.

    What later invoices credited, and what notes of other lines gave back, is not given again.
    """
    return {
        line.id: _room(sums[line.id][1])
        for line in invoice.lines
        if line.id in sums and line.net_minor > 0
    }


def _room(billed: Billed) -> int:
    """Return what is left of a sum, less its part of the discounts."""
    left = max(billed.amount_minor - max(billed.forgiven_minor, 0), 0)
    net = max(billed.amount_minor - billed.discount_minor, 0)
    return left * net // billed.amount_minor if billed.amount_minor > 0 else 0


def forgiven(note: CreditNote, invoice: Invoice, sums: dict[str, Sum]) -> list[Sum]:
    """Return the sums with what a credit note gave back, to be stored in their place."""
    return list(_moved(note, invoice, sums, 1))


def unforgiven(note: CreditNote, invoice: Invoice, sums: dict[str, Sum]) -> list[Sum]:
    """Return the sums without what a credit note gave back that is voided."""
    return list(_moved(note, invoice, sums, -1))


def _moved(note: CreditNote, invoice: Invoice, sums: dict[str, Sum], sign: int) -> Iterator[Sum]:
    lines = {line.id: line for line in invoice.lines}
    for taken in note.lines:
        if taken.line in sums:
            position, billed = sums[taken.line]
            before = note.manifest.credited.get(taken.line, 0)
            line = lines[taken.line]
            gross = _gross(line, before + taken.net_minor) - _gross(line, before)
            minor = billed.forgiven_minor + sign * gross
            yield position, msgspec.structs.replace(billed, forgiven_minor=minor)


def _gross(line: Line, net_minor: int) -> int:
    """Return the amount, before coupons, that a part of a line's net stands for."""
    if line.net_minor == line.amount_minor:
        return net_minor
    sign = -1 if line.net_minor < 0 else 1
    return rounded_parts([sign * line.amount_minor * net_minor], abs(line.net_minor))[0]
