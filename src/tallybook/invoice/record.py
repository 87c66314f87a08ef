"""A numbered draft as it is stored: the canonical JSON, its digest, and rows for reports."""

import hashlib
from functools import lru_cache

import msgspec

from tallybook.invoice.document import Draft, Invoice, encode_invoice, number_text, numbered_json
from tallybook.invoice.line import Drafted
from tallybook.invoice.ports import InvoiceHead, StoredInvoice, StoredLine
from tallybook.invoice.state import State, after


def finalized(draft: Draft, number: int) -> StoredInvoice:
    """Return the finalized invoice of a draft.

    Args:
        draft: composed.
        number: taken from the series in the transaction that stores it.
    """
    return numbered(unnumbered(draft), number_text(draft.invoice.series, number))


def unnumbered(draft: Draft) -> StoredInvoice:
    """Return the invoice of a draft as it is stored, but for its number and digest."""
    body = draft_body(draft)
    return StoredInvoice(
        head=head_of(draft, draft.invoice, sha256=""),
        body=body,
        lines=tuple(_stored(line) for line in draft.lines),
    )


def numbered(stored: StoredInvoice, number: str) -> StoredInvoice:
    """Return an invoice with the number it was given, and the digest it has with it."""
    body = numbered_json(stored.body, number)
    head = msgspec.structs.replace(stored.head, number=number, sha256=digest_of(body.encode()))
    return StoredInvoice(head=head, body=body, lines=stored.lines)


def draft_body(draft: Draft) -> str:
    """Return the canonical JSON of an invoice that has no number yet."""
    return encode_invoice(draft.invoice).decode()


def head_of(draft: Draft, invoice: Invoice, sha256: str) -> InvoiceHead:
    """Return an invoice as lists show it, in the state that finalization gives it."""
    manifest = invoice.manifest
    return InvoiceHead(
        id=invoice.id,
        number=invoice.number,
        state=_state(invoice),
        customer=invoice.customer_key,
        customer_name=invoice.customer.name,
        sequence=manifest.sequence,
        run=manifest.run,
        currency=invoice.currency,
        total_minor=invoice.total_minor,
        lines=len(invoice.lines),
        issued_us=manifest.issued_us,
        due_us=manifest.due_us,
        period_start_us=min(line.item.position.start_us for line in draft.lines),
        period_end_us=max(line.item.until_us for line in draft.lines),
        cut=manifest.cut,
        sha256=sha256,
        payable_minor=invoice.payable_minor,
        open_minor=invoice.payable_minor,
    )


def _state(invoice: Invoice) -> State:
    """Return the state after finalization: with nothing to pay it is paid."""
    state = after("draft", "finalize")
    return state if invoice.payable_minor else after(state, "pay")


def digest_of(body: bytes) -> str:
    """Return the SHA-256 of a canonical JSON, hexadecimal."""
    return hashlib.sha256(body).hexdigest()


def _stored(drafted: Drafted) -> StoredLine:
    line = drafted.line
    return StoredLine(
        id=line.id,
        number=line.position,
        position=drafted.item.position,
        group=group_text(drafted.billed.group),
        meter=drafted.item.meter,
        meter_version=drafted.item.meter_version,
        quantity=line.quantity,
        amount_minor=line.amount_minor,
        events=line.events,
        adjustment=line.adjustment,
    )


@lru_cache(maxsize=65_536)
def group_text(group: tuple[str | None, ...]) -> str:
    """Return dimension values as JSON, the spelling of their column."""
    return msgspec.json.encode(group).decode()
