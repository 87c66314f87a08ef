"""Credit notes: issued, estimated, listed, verified, voided."""

from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from litestar import Controller, Response, get, post
from litestar.params import Parameter

from tallybook.compose import World
from tallybook.kernel.money import money_text
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, page, place_of
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.documents import (
    PDF_SUFFIX,
    XML_SUFFIX,
    XmlFormat,
    document_answer,
    note_pdf_of,
    note_xml_of,
)
from tallybook.serve.api.rest.settlement.bodies import REASON_CHARS_MAX, minor_of, written
from tallybook.settle.receivable.credit_note import CreditNote, NoteHead
from tallybook.settle.receivable.crediting import Ask, CheckedNote
from tallybook.settle.receivable.flow import check_note, credit, estimate, take_back_note
from tallybook.settle.receivable.noting import LineAsk


class LinePart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of the invoice, by id or position; amount: of its net, null for all that is left."""

    line: str
    amount: Decimal | None = None


class CreditNoteSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be credited of an invoice.

    Attributes:
        invoice: id or number.
        lines: none for all that is left of every line.
        rest: what becomes of what is no longer open: 'credit' of the customer, or 'refund' as far
            as it was paid.
    """

    invoice: str
    reason: str
    lines: list[LinePart] = []
    rest: Literal["credit", "refund"] = "credit"


class CreditNoteView(msgspec.Struct, frozen=True, kw_only=True):
    """A credit note in a list; money is a string, times are RFC 3339."""

    id: str
    number: str
    state: str
    invoice: str
    invoice_number: str
    customer: str
    currency: str
    total: str
    reduces: str
    credited: str
    refund: str
    issued: str


class EstimateView(msgspec.Struct, frozen=True, kw_only=True):
    """What a credit note would be.

    Attributes:
        creditable: what is left of the invoice's total.
        refundable: what of it could be paid out.
    """

    credit_note: CreditNote
    creditable: str
    refundable: str


def note_view(head: NoteHead) -> CreditNoteView:
    """Return a credit note as lists show it."""
    return CreditNoteView(
        id=head.id,
        number=head.number,
        state=head.state,
        invoice=head.invoice,
        invoice_number=head.invoice_number,
        customer=head.customer,
        currency=head.currency,
        total=money_text(head.total_minor, head.currency),
        reduces=money_text(head.reduces_minor, head.currency),
        credited=money_text(head.credited_minor, head.currency),
        refund=money_text(head.refund_minor, head.currency),
        issued=format_us(head.issued_us),
    )


def _ask(world: World, grant: Grant, spec: CreditNoteSpec) -> Ask:
    currency = world.invoices.invoice(grant.tenant, spec.invoice).head.currency
    lines = tuple(
        LineAsk(
            line=part.line,
            amount_minor=None if part.amount is None else minor_of("lines", part.amount, currency),
        )
        for part in spec.lines
    )
    reason = written("reason", spec.reason, REASON_CHARS_MAX)
    return Ask(reason=reason, lines=lines, rest=spec.rest)


class CreditNotes(Controller):
    """What was taken back of invoices."""

    path = "/credit-notes"
    tags = ("settlement",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_credit_notes(
        self,
        world: World,
        grant: Grant,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        customer: str | None = None,
        invoice: str | None = None,
    ) -> Page[CreditNoteView]:
        """List credit notes in the order of their numbers."""
        heads = world.settlements.credit_notes(
            grant.tenant,
            limit=limit + 1,
            after=place_of(cursor, str),
            customer=customer,
            invoice=invoice,
        )
        shown = page(heads, limit, lambda head: head.number)
        return Page([note_view(head) for head in shown.items], shown.next_cursor)

    @post("/", opt=BILLING, sync_to_thread=True)
    def issue_credit_note(self, world: World, grant: Grant, data: CreditNoteSpec) -> CreditNoteView:
        """Credit lines of an invoice, or all of it; it takes off what is open first."""
        ask = _ask(world, grant, data)
        return note_view(credit(world.settling(grant.tenant), data.invoice, ask).head)

    @post("/estimate", opt=READ, status_code=200, sync_to_thread=True)
    def estimate_credit_note(
        self, world: World, grant: Grant, data: CreditNoteSpec
    ) -> EstimateView:
        """Show the credit note that would be issued; nothing is stored."""
        ask = _ask(world, grant, data)
        found = estimate(world.settling(grant.tenant), data.invoice, ask)
        currency = found.note.currency
        return EstimateView(
            credit_note=found.note,
            creditable=money_text(found.creditable_minor, currency),
            refundable=money_text(found.refundable_minor, currency),
        )

    @get("/{name:str}", opt=READ, sync_to_thread=True)
    def get_credit_note(
        self,
        world: World,
        grant: Grant,
        name: str,
        xml: Annotated[XmlFormat, Parameter(query="format", required=False)] = "cii",
    ) -> Response[bytes]:
        """Show a credit note as its canonical JSON; with `.pdf` or `.xml` behind it, the document.

        The XML is EN 16931: CII as in Factur-X, or UBL for Peppol with `format=ubl`.
        """
        bare = name.removesuffix(PDF_SUFFIX).removesuffix(XML_SUFFIX)
        stored = world.settlements.credit_note(grant.tenant, bare)
        if name.endswith(PDF_SUFFIX):
            return document_answer(note_pdf_of(world, grant.tenant, stored), name, "pdf")
        if name.endswith(XML_SUFFIX):
            content = note_xml_of(world, grant.tenant, stored, xml).encode()
            return document_answer(content, name, "xml")
        return Response(stored.body.encode(), media_type="application/json")

    @get("/{name:str}/verify", opt=READ, sync_to_thread=True)
    def verify_credit_note(self, world: World, grant: Grant, name: str) -> CheckedNote:
        """Recompute a credit note from its invoice and compare it byte by byte."""
        return check_note(world.settling(grant.tenant), name)

    @post("/{name:str}/void", opt=BILLING, status_code=200, sync_to_thread=True)
    def void_credit_note(self, world: World, grant: Grant, name: str) -> CreditNoteView:
        """Take a credit note back while nothing of what it gave is used."""
        return note_view(take_back_note(world.settling(grant.tenant), name).head)
