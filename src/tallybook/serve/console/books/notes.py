"""Credit notes: listed, shown with their document, checked, taken back."""

from typing import Any

from litestar import Request, Response, get, post
from litestar.types import ControllerRouterHandler

from tallybook.compose import World
from tallybook.serve.api.common.paging import page, place_of
from tallybook.serve.api.rest.documents import (
    PDF_SUFFIX,
    XML_SUFFIX,
    XmlFormat,
    document_answer,
    note_pdf_of,
    note_xml_of,
)
from tallybook.serve.api.rest.settlement.credit_notes import note_view
from tallybook.serve.console.access import BILLING_PAGE, PAGE, sent_by, session_of
from tallybook.serve.console.auth import Form
from tallybook.serve.console.forms import Confirmation, ask, confirmed, to
from tallybook.serve.console.render import html, money
from tallybook.settle.receivable.credit_note import decode_note
from tallybook.settle.receivable.flow import check_note, take_back_note

PAGE_ROWS = 50
LINES_SHOWN = 500


@get("/credit-notes", opt=PAGE, sync_to_thread=True)
def notes_page(
    request: "Request[Any, Any, Any]",
    world: World,
    cursor: str | None = None,
    customer: str | None = None,
) -> Response[bytes]:
    """List credit notes in the order of their numbers."""
    session = session_of(request)
    tenant = session.grant.tenant
    found = world.settlements.credit_notes(
        tenant, limit=PAGE_ROWS + 1, after=place_of(cursor, str), customer=customer or None
    )
    shown = page(found, PAGE_ROWS, lambda head: head.number)
    catalog = world.catalog.load(tenant)
    return html(
        "books/notes.html",
        session=session,
        here="credit-notes",
        notes=[(note_view(head), catalog.customer(head.customer).name) for head in shown.items],
        customer=customer,
        next_cursor=shown.next_cursor,
    )


@get("/credit-notes/{name:str}", opt=PAGE, sync_to_thread=True)
def note_page(
    request: "Request[Any, Any, Any]",
    world: World,
    name: str,
    check: str = "",
    xml: XmlFormat = "cii",
) -> Response[bytes]:
    """Show a credit note; with `.pdf` or `.xml` behind its name, the document."""
    session = session_of(request)
    tenant = session.grant.tenant
    bare = name.removesuffix(PDF_SUFFIX).removesuffix(XML_SUFFIX)
    stored = world.settlements.credit_note(tenant, bare)
    if name.endswith(PDF_SUFFIX):
        return document_answer(note_pdf_of(world, tenant, stored), name, "pdf")
    if name.endswith(XML_SUFFIX):
        return document_answer(note_xml_of(world, tenant, stored, xml).encode(), name, "xml")
    note = decode_note(stored.body)
    return html(
        "books/note.html",
        session=session,
        here="credit-notes",
        note=note,
        head=note_view(stored.head),
        sha256=stored.head.sha256,
        lines=note.lines[:LINES_SHOWN],
        proof=check_note(world.settling(tenant), name) if check else None,
        may_bill=session.grant.allows("billing") and stored.head.state == "issued",
    )


@post("/credit-notes/{name:str}/void", opt=BILLING_PAGE, sync_to_thread=True)
def void_note(
    request: "Request[Any, Any, Any]", world: World, name: str, data: Form
) -> Response[Any]:
    """Ask whether a credit note shall be taken back, or take it back."""
    session = sent_by(request, data)
    tenant = session.grant.tenant
    head = world.settlements.credit_note(tenant, name).head
    if confirmed(data):
        take_back_note(world.settling(tenant), name)
        return to(f"/credit-notes/{head.number}")
    return ask(
        session,
        "credit-notes",
        Confirmation(
            title=f"Void {head.number}?",
            text="What it took off is open again, and the credit that it gave is taken back. It is"
            " refused once any of that credit is used. Its number stays used.",
            action=f"/credit-notes/{head.number}/void",
            button="Void the credit note",
            back=f"/credit-notes/{head.number}",
            details=(
                ("Of invoice", head.invoice_number),
                ("Total", f"{head.currency} {money(note_view(head).total)}"),
            ),
            danger=True,
        ),
    )


ROUTES: list[ControllerRouterHandler] = [notes_page, note_page, void_note]
