"""Invoices: listed, shown, previewed, as PDF, explained down to the events, and verified."""

from typing import Annotated

import msgspec
from litestar import Controller, Response, get, post
from litestar.params import Parameter

from tallybook.compose import World
from tallybook.invoice.audit.reconcile import Reconciliation, reconcile
from tallybook.invoice.audit.verify import Verified, explain, verify
from tallybook.invoice.document import Invoice
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import preview
from tallybook.invoice.line import Line
from tallybook.invoice.ports import InvoiceHead
from tallybook.invoice.run.drafts import discard, finalize, refresh
from tallybook.invoice.run.listing import Wanted, listed, named, place
from tallybook.invoice.state import shown as shown_state
from tallybook.kernel.money import money_text
from tallybook.kernel.timestamps import LAST_US, format_us, parse_rfc3339
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.instants import From, To, between
from tallybook.serve.api.common.paging import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    Cursor,
    Limit,
    Page,
    page,
    place_of,
)
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.documents import (
    PDF_SUFFIX,
    XML_SUFFIX,
    XmlFormat,
    document_answer,
    pdf_of,
    xml_of,
)
from tallybook.serve.api.rest.events import EventView, event_view
from tallybook.serve.api.rest.runs import RunSpec, check_run

Name = Annotated[
    str, Parameter(description="The id (inv_…) or number (INV-000001), or a draft's id (drf_…).")
]


class InvoiceView(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice in a list; money is a string, times are RFC 3339.

    Attributes:
        state: draft, finalized, overdue, paid, void or uncollectible.
        payable: what was to be paid when it was finalized.
        open: of that, what is neither paid nor credited nor written off.
    """

    id: str
    number: str
    state: str
    customer: str
    customer_name: str
    currency: str
    total: str
    payable: str
    open: str
    lines: int
    issued: str
    due: str
    period_start: str
    period_end: str
    run: str


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What an invoice would be; null where there is nothing to bill."""

    invoice: Invoice | None


class PreviewSpec(RunSpec, frozen=True, kw_only=True):
    """What to preview: a period or an instant, of one customer."""

    customer: str


class ExplainedEvent(msgspec.Struct, frozen=True):
    """An event of a line; fresh where no earlier invoice had counted it."""

    event: EventView
    fresh: bool


class ExplainedView(msgspec.Struct, frozen=True, kw_only=True):
    """The events a line is made of.

    Attributes:
        ok: count and digest of the events are those of the line.
        count: events in all; digest: sum of their row hashes.
    """

    line: Line
    ok: bool
    count: int
    digest: str
    items: list[ExplainedEvent]
    next_cursor: str | None


def invoice_view(head: InvoiceHead, now_us: int) -> InvoiceView:
    """Return an invoice as lists show it at an instant."""
    return InvoiceView(
        id=head.id,
        number=head.number,
        state=shown_state(head.state, head.due_us, now_us),
        customer=head.customer,
        customer_name=head.customer_name,
        currency=head.currency,
        total=money_text(head.total_minor, head.currency),
        payable=money_text(head.payable_minor, head.currency),
        open=money_text(head.open_minor, head.currency),
        lines=head.lines,
        issued=format_us(head.issued_us),
        due=format_us(head.due_us),
        period_start=format_us(head.period_start_us),
        period_end=format_us(head.period_end_us),
        run=head.run,
    )


def explained(
    world: World, tenant: str, name: str, line: str, limit: int, skip: int
) -> ExplainedView:
    """Return a part of the events of a line."""
    found = explain(world.billing(tenant), name, line, limit=limit, skip=skip)
    meters = world.catalog.meters(tenant)
    following = skip + len(found.events)
    return ExplainedView(
        line=found.line,
        ok=found.ok,
        count=found.count,
        digest=found.digest,
        items=[
            ExplainedEvent(event_view(meters, event), fresh)
            for event, fresh in zip(found.events, found.fresh, strict=True)
        ],
        next_cursor=str(following) if following < found.count else None,
    )


class Invoices(Controller):
    """What customers owe."""

    path = "/invoices"
    tags = ("invoices",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_invoices(
        self,
        world: World,
        grant: Grant,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        customer: str | None = None,
        run: str | None = None,
        in_state: Annotated[
            str | None,
            Parameter(query="state", description="Such as draft, overdue, paid or void."),
        ] = None,
        from_: From = None,
        to: To = None,
    ) -> Page[InvoiceView]:
        """List invoices in the order of their numbers, then drafts.

        With `from` or `to` those issued in that time, and no drafts.
        """
        now_us = world.clock.now_us()
        heads = listed(
            world.invoices,
            grant.tenant,
            Wanted(customer=customer, run=run, state=in_state, issued=between(from_, to)),
            limit=limit + 1,
            after=place_of(cursor, str),
            now_us=now_us,
        )
        shown = page(heads, limit, place)
        return Page([invoice_view(head, now_us) for head in shown.items], shown.next_cursor)

    @post("/preview", opt=READ, status_code=200, sync_to_thread=True)
    def preview_invoice(self, world: World, grant: Grant, data: PreviewSpec) -> Preview:
        """Show the invoice a billing run would make for one customer; nothing is stored.

        A month that has not ended, or an instant to come, is billed as if nothing more were used.
        What it would be after a change of a subscription: that command with `dry_run`.
        """
        spec = check_run(data, world.clock.now_us() if data.until == "now" else LAST_US)
        until = None if spec.until is None else parse_rfc3339(spec.until)
        request = BillRequest(period=spec.period, until_us=until)
        draft = preview(world.billing(grant.tenant), request, data.customer)
        return Preview(invoice=None if draft is None else draft.invoice)

    @get("/{name:str}", opt=READ, sync_to_thread=True)
    def get_invoice(
        self,
        world: World,
        grant: Grant,
        name: Name,
        xml: Annotated[XmlFormat, Parameter(query="format", required=False)] = "cii",
    ) -> Response[bytes]:
        """Show an invoice as its canonical JSON; with `.pdf` or `.xml` behind it, the document.

        The XML is EN 16931: CII as in Factur-X, or UBL for Peppol with `format=ubl`.
        """
        if name.endswith(PDF_SUFFIX):
            return _pdf(world, grant, name.removesuffix(PDF_SUFFIX))
        if name.endswith(XML_SUFFIX):
            return _xml(world, grant, name.removesuffix(XML_SUFFIX), xml)
        stored = named(world.invoices, grant.tenant, name)
        return Response(stored.body.encode(), media_type="application/json")

    @get("/{name:str}/explain", opt=READ, sync_to_thread=True)
    def explain_line(
        self,
        world: World,
        grant: Grant,
        name: Name,
        line: Annotated[str, Parameter(description="Id or position of the line.")] = "1",
        limit: Limit = LIMIT_DEFAULT,
        cursor: Annotated[int, Parameter(ge=0, required=False)] = 0,
    ) -> ExplainedView:
        """List the very events a line is made of, and whether they are what it says."""
        return explained(world, grant.tenant, name, line, min(limit, LIMIT_MAX), cursor)

    @get("/{name:str}/verify", opt=READ, sync_to_thread=True)
    def verify_invoice(self, world: World, grant: Grant, name: Name) -> Verified:
        """Recompute an invoice from its manifest and compare it byte by byte."""
        return verify(world.billing(grant.tenant), name)

    @post("/{name:str}/finalize", opt=BILLING, status_code=200, sync_to_thread=True)
    def finalize_invoice(self, world: World, grant: Grant, name: Name) -> InvoiceView:
        """Fix a draft for good: composed anew, numbered, posted. An invoice stays as it is."""
        stored = finalize(world.billing(grant.tenant), name)
        return invoice_view(stored.head, world.clock.now_us())

    @post("/{name:str}/refresh", opt=BILLING, status_code=200, sync_to_thread=True)
    def refresh_draft(self, world: World, grant: Grant, name: Name) -> InvoiceView:
        """Compose a draft anew from what is stored now."""
        kept = refresh(world.billing(grant.tenant), name)
        return invoice_view(kept.head, world.clock.now_us())

    @post("/{name:str}/discard", opt=BILLING, status_code=200, sync_to_thread=True)
    def discard_draft(self, world: World, grant: Grant, name: Name) -> InvoiceView:
        """Throw a draft away; what it would have billed stays open for another run."""
        kept = discard(world.billing(grant.tenant), name)
        return invoice_view(kept.head, world.clock.now_us())


@get("/reconcile", opt=READ, tags=["invoices"], sync_to_thread=True)
def show_reconciliation(world: World, grant: Grant) -> Reconciliation:
    """Prove that every event is billed, not yet billed, or not billable; name what differs.

    Reads every row of the tenant a few times for each meter.
    """
    return reconcile(world.billing(grant.tenant), world.usage)


def _pdf(world: World, grant: Grant, name: str) -> Response[bytes]:
    stored = named(world.invoices, grant.tenant, name)
    return document_answer(pdf_of(world, stored), f"{stored.head.number}{PDF_SUFFIX}", "pdf")


def _xml(world: World, grant: Grant, name: str, format_: XmlFormat) -> Response[bytes]:
    stored = named(world.invoices, grant.tenant, name)
    content = xml_of(stored, format_).encode()
    return document_answer(content, f"{stored.head.number}{XML_SUFFIX}", "xml")
