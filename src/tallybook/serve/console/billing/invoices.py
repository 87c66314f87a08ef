"""Invoices: what is owed, how each line came about, what became of it, and the proof."""

from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler

from tallybook.compose import World
from tallybook.invoice.audit.verify import Verified, find_line, verify
from tallybook.invoice.document import Invoice, decode_invoice
from tallybook.invoice.ports import InvoiceHead, StoredInvoice
from tallybook.invoice.run.listing import named
from tallybook.invoice.state import shown_as
from tallybook.kernel.errors import Invalid
from tallybook.serve.api.common.paging import page, place_of
from tallybook.serve.api.rest.documents import (
    PDF_SUFFIX,
    XML_SUFFIX,
    XmlFormat,
    document_answer,
    pdf_of,
    xml_of,
)
from tallybook.serve.api.rest.invoices import explained, invoice_view
from tallybook.serve.api.rest.settlement.credit_notes import CreditNoteView, note_view
from tallybook.serve.api.rest.settlement.payments import PaymentView, payment_view
from tallybook.serve.console.access import PAGE, session_of
from tallybook.serve.console.render import html

PAGE_ROWS = 50
EVENTS_SHOWN = 100
LINES_SHOWN = 200
NOTES_SHOWN = 100
PAYMENTS_SHOWN = 1000
"""How many payments of the customer are looked through for those of an invoice."""
STATES = ("all", "finalized", "overdue", "paid", "void", "uncollectible")


class Became(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a finalized invoice.

    Attributes:
        payments: that paid some of it, with the amount.
        notes: credit notes of it.
    """

    payments: list[tuple[PaymentView, str]] = []
    notes: list[CreditNoteView] = []


@get("/invoices", opt=PAGE, sync_to_thread=True)
def invoices_page(
    request: "Request[Any, Any, Any]",
    world: World,
    cursor: str | None = None,
    customer: str | None = None,
    show: str = "all",
) -> Response[bytes]:
    """List invoices, newest first; of a customer, or in a state."""
    session = session_of(request)
    tenant, now_us = session.grant.tenant, world.clock.now_us()
    if show not in STATES:
        raise Invalid(f"show is one of {', '.join(STATES)}", field="show")
    heads = world.invoices.invoices(
        tenant,
        limit=PAGE_ROWS + 1,
        after=place_of(cursor, str),
        customer=customer or None,
        shown=None if show == "all" else shown_as(show, now_us),
        newest=True,
    )
    shown = page(heads, PAGE_ROWS, lambda head: head.number)
    waiting = world.invoices.drafts.drafts(tenant, limit=PAGE_ROWS, customer=customer or None)
    return html(
        "billing/invoices.html",
        session=session,
        here="invoices",
        invoices=[invoice_view(head, now_us) for head in shown.items],
        customer=customer,
        show=show,
        states=STATES,
        drafts=len(waiting),
        next_cursor=shown.next_cursor,
        may_bill=session.grant.allows("billing"),
    )


@get("/invoices/{name:str}", opt=PAGE, sync_to_thread=True)
def invoice_page(
    request: "Request[Any, Any, Any]",
    world: World,
    name: str,
    check: str = "",
    skip: int = 0,
    xml: XmlFormat = "cii",
) -> Response[bytes]:
    """Show an invoice or draft; with `.pdf` or `.xml` behind its name, the document."""
    session = session_of(request)
    tenant = session.grant.tenant
    bare = name.removesuffix(PDF_SUFFIX).removesuffix(XML_SUFFIX)
    stored = named(world.invoices, tenant, bare)
    if bare != name:
        return _document(world, stored, name, xml)
    invoice, skip = decode_invoice(stored.body), max(0, skip)
    draft = stored.head.state == "draft"
    proof: Verified | None = verify(world.billing(tenant), name) if check else None
    return html(
        "billing/invoice.html",
        session=session,
        here="drafts" if draft else "invoices",
        invoice=invoice,
        head=invoice_view(stored.head, world.clock.now_us()),
        due_now=stored.head.open_minor,
        sha256=stored.head.sha256,
        became=Became() if draft else became(world, tenant, stored.head),
        lines=invoice.lines[skip : skip + LINES_SHOWN],
        skip=skip,
        following=skip + LINES_SHOWN if skip + LINES_SHOWN < len(invoice.lines) else None,
        proof=proof,
        draft=world.invoices.drafts.draft(tenant, name) if draft else None,
        actions=actions_of(stored.head, invoice) if session.grant.allows("billing") else (),
    )


def _document(world: World, stored: StoredInvoice, name: str, xml: XmlFormat) -> Response[bytes]:
    shown = stored.head.number if stored.head.state != "draft" else stored.head.id
    if name.endswith(PDF_SUFFIX):
        return document_answer(pdf_of(world, stored), f"{shown}{PDF_SUFFIX}", "pdf")
    return document_answer(xml_of(stored, xml).encode(), f"{shown}{XML_SUFFIX}", "xml")


def actions_of(head: InvoiceHead, invoice: Invoice) -> tuple[str, ...]:
    """Return what can be done with an invoice in its state; what is refused says why."""
    if head.state == "draft":
        return ("finalize", "refresh", "discard")
    if head.state == "void":
        return ("reissue",)
    found: list[str] = []
    if head.open_minor or head.state == "uncollectible":
        found.append("pay")
    if invoice.total_minor > 0:
        found.append("credit")
    if head.state == "finalized" and head.open_minor:
        found.append("write-off")
    untouched = head.open_minor == head.payable_minor or head.state == "uncollectible"
    if untouched and head.state != "paid":
        found += ["reissue", "void"]
    return tuple(found)


def became(world: World, tenant: str, head: InvoiceHead) -> Became:
    """Return payments and credit notes of an invoice."""
    found = world.settlements.payments(tenant, limit=PAYMENTS_SHOWN, invoice=head.id)
    notes = world.settlements.credit_notes(tenant, limit=NOTES_SHOWN, invoice=head.id)
    return Became(
        payments=[
            (payment_view(payment), one.amount)
            for payment in found
            for one in payment.allocations
            if one.invoice == head.id
        ],
        notes=[note_view(note) for note in notes],
    )


@get("/invoices/{name:str}/lines/{line:str}", opt=PAGE, sync_to_thread=True)
def line_page(
    request: "Request[Any, Any, Any]", world: World, name: str, line: str, skip: int = 0
) -> Response[bytes]:
    """Show how a line came about, down to the very events."""
    session = session_of(request)
    tenant = session.grant.tenant
    stored = named(world.invoices, tenant, name)
    invoice, draft = decode_invoice(stored.body), stored.head.state == "draft"
    found = find_line(invoice, line)
    events = found.meter is not None
    return html(
        "billing/line.html",
        session=session,
        here="drafts" if draft else "invoices",
        name=stored.head.id if draft else stored.head.number,
        invoice=invoice,
        line=found,
        skip=skip,
        draft=draft,
        found=explained(world, tenant, name, line, EVENTS_SHOWN, max(0, skip)) if events else None,
    )


ROUTES: list[ControllerRouterHandler] = [invoices_page, invoice_page, line_page]
