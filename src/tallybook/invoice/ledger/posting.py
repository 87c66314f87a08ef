"""The ledger entries of a finalized invoice, and those that take it back.

Guarantees: on the receivable of an invoice its entries add up to what is payable; lines and taxes
alone add up to its total.

Source: docs/algorithms/ledger.md
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

from tallybook.invoice.document import Invoice
from tallybook.invoice.line import Line
from tallybook.kernel.book.entry import Entry, Move, Step, account, on_account, posted, reversal
from tallybook.kernel.timestamps import parse_rfc3339


def postings(invoice: Invoice) -> tuple[Entry, ...]:
    """Return the entries of an invoice at its finalization."""
    step = Step(document=invoice.id, at_us=invoice.manifest.issued_us, currency=invoice.currency)
    owed = account("receivable", invoice.customer_key)
    moves = [
        *(move for line in invoice.lines for move in _line(invoice, line, owed)),
        *_taxes(invoice, owed),
        *_funds(invoice, owed),
    ]
    entries = posted(step, moves)
    assert on_account(entries, owed) == invoice.payable_minor, "what is owed is what is payable"
    return entries


def voided(invoice: Invoice, at_us: int) -> tuple[Entry, ...]:
    """Return the entries that take a finalized invoice back, at an instant."""
    step = Step(document=invoice.id, name="void", at_us=at_us, currency=invoice.currency)
    return reversal(step, postings(invoice))


def _line(invoice: Invoice, line: Line, owed: str) -> Iterator[Move]:
    """Yield what a line earns, and what others get of it."""
    earned = account("revenue", line.customer or invoice.customer_key)
    start_us, end_us = service(line)
    yield Move(
        debit=owed,
        credit=earned,
        amount_minor=line.base_minor,
        invoice=invoice.id,
        line=line.id,
        service_start_us=start_us,
        service_end_us=end_us,
    )
    for share in line.shares:
        yield Move(
            debit=earned,
            credit=account("share", share.party),
            amount_minor=share.amount_minor,
            line=line.id,
            service_start_us=start_us,
            service_end_us=end_us,
        )


def service(line: Line) -> tuple[int, int]:
    """Return when a line's service was delivered; usage ends where its counting ended."""
    start_us, end_us = _instant(line.period_start), _instant(line.period_end)
    until_us = _instant(line.until) if line.kind == "usage" else end_us
    return start_us, min(end_us, until_us) if until_us > start_us else end_us


@lru_cache(maxsize=4096)
def _instant(text: str) -> int:
    instant = parse_rfc3339(text)
    assert instant is not None, "a line's times are written by us"
    return instant


def _taxes(invoice: Invoice, owed: str) -> Iterable[Move]:
    return (
        Move(
            debit=owed,
            credit=account("tax", tax.tax),
            amount_minor=tax.amount_minor,
            invoice=invoice.id,
        )
        for tax in invoice.taxes
    )


def _funds(invoice: Invoice, owed: str) -> Iterator[Move]:
    """Yield what credits and wallets paid, and what a total below zero gives."""
    credit = account("credit", invoice.customer_key)
    for used in invoice.credits:
        yield Move(debit=credit, credit=owed, amount_minor=used.amount_minor, invoice=invoice.id)
    for drawn in invoice.prepaid:
        yield Move(
            debit=account("prepaid", drawn.wallet),
            credit=owed,
            amount_minor=drawn.amount_minor,
            invoice=invoice.id,
        )
    yield Move(debit=owed, credit=credit, amount_minor=invoice.carried_minor, invoice=invoice.id)
