"""Customers and invoices: what is owed, how each line came about, and the proof."""

from typing import Any

from litestar import Request, Response, get, post
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler

from tallybook.compose import World
from tallybook.invoice.audit.verify import Verified, find_line, verify
from tallybook.invoice.document import decode_invoice
from tallybook.invoice.ports import InvoiceHead
from tallybook.invoice.run.listing import named
from tallybook.serve.api.common.paging import keyed_page, page, place_of
from tallybook.serve.api.rest.catalog import customer_view
from tallybook.serve.api.rest.documents import pdf_of
from tallybook.serve.api.rest.invoices import explained, invoice_view
from tallybook.serve.api.rest.runs import BILLING_RUN, RunSpec, ask_run, run_view
from tallybook.serve.console.access import BILLING_PAGE, PAGE, session_of
from tallybook.serve.console.auth import Form
from tallybook.serve.console.render import html
from tallybook.serve.console.session import check_form

PAGE_ROWS = 50
EVENTS_SHOWN = 100


@get("/customers", opt=PAGE, sync_to_thread=True)
def customers_page(
    request: "Request[Any, Any, Any]", world: World, cursor: str | None = None
) -> Response[bytes]:
    """List customers with their plans."""
    session = session_of(request)
    catalog = world.catalog.load(session.grant.tenant)
    live = [c for c in catalog.customers.values() if catalog.live("customer", c.key)]
    shown = keyed_page(live, PAGE_ROWS, cursor, lambda customer: customer.key)
    plans: dict[str, list[str]] = {}
    for subscription in catalog.subscriptions.values():
        if catalog.live("subscription", subscription.key):
            plans.setdefault(subscription.customer, []).append(subscription.plan)
    return html(
        "customers.html",
        session=session,
        here="customers",
        customers=[customer_view(catalog, customer) for customer in shown.items],
        plans=plans,
        total=len(live),
        next_cursor=shown.next_cursor,
    )


@get("/invoices", opt=PAGE, sync_to_thread=True)
def invoices_page(
    request: "Request[Any, Any, Any]",
    world: World,
    cursor: str | None = None,
    customer: str | None = None,
) -> Response[bytes]:
    """List invoices, newest first, and the newest billing run."""
    session = session_of(request)
    tenant = session.grant.tenant
    heads = world.invoices.invoices(
        tenant,
        limit=PAGE_ROWS + 1,
        after=place_of(cursor, str),
        customer=customer,
        newest=True,
    )
    shown = page(heads, PAGE_ROWS, lambda head: head.number)
    runs = world.jobs.listed(tenant, BILLING_RUN, 1)
    now_us = world.clock.now_us()
    return html(
        "invoices.html",
        session=session,
        here="invoices",
        invoices=[
            invoice_view(head, now_us)
            for head in [*_drafts(world, tenant, cursor, customer), *shown.items]
        ],
        customer=customer,
        next_cursor=shown.next_cursor,
        run=run_view(runs[0]) if runs else None,
        may_bill=session.grant.allows("billing"),
    )


def _drafts(
    world: World, tenant: str, cursor: str | None, customer: str | None
) -> list[InvoiceHead]:
    """Return the drafts that stand above the first page."""
    if cursor is not None:
        return []
    found = world.invoices.drafts.drafts(tenant, limit=PAGE_ROWS, customer=customer)
    return [draft.head for draft in found]


@post("/invoices/bill", opt=BILLING_PAGE, sync_to_thread=True)
def bill_now(request: "Request[Any, Any, Any]", world: World, data: Form) -> Redirect:
    """Ask for a billing run of what is open so far."""
    session = session_of(request)
    check_form(session, data.get("token", ""))
    ask_run(world, session.grant.tenant, RunSpec(until="now"))
    return Redirect("/invoices", status_code=303)


@get("/invoices/{name:str}", opt=PAGE, sync_to_thread=True)
def invoice_page(
    request: "Request[Any, Any, Any]", world: World, name: str, check: str = ""
) -> Response[bytes]:
    """Show an invoice; with `.pdf` behind its name, the document."""
    session = session_of(request)
    tenant = session.grant.tenant
    if name.endswith(".pdf"):
        stored = named(world.invoices, tenant, name.removesuffix(".pdf"))
        headers = {"content-disposition": f'inline; filename="{stored.head.number}.pdf"'}
        return Response(pdf_of(world, stored), media_type="application/pdf", headers=headers)
    stored = named(world.invoices, tenant, name)
    proof: Verified | None = (
        verify(world.billing(tenant), name) if check and stored.head.state != "draft" else None
    )
    return html(
        "invoice.html",
        session=session,
        here="invoices",
        invoice=decode_invoice(stored.body),
        head=invoice_view(stored.head, world.clock.now_us()),
        sha256=stored.head.sha256,
        proof=proof,
    )


@get("/invoices/{name:str}/lines/{line:str}", opt=PAGE, sync_to_thread=True)
def line_page(
    request: "Request[Any, Any, Any]", world: World, name: str, line: str, skip: int = 0
) -> Response[bytes]:
    """Show how a line came about, down to the very events."""
    session = session_of(request)
    tenant = session.grant.tenant
    invoice = decode_invoice(world.invoices.invoice(tenant, name).body)
    found = find_line(invoice, line)
    metered = found.meter is not None
    return html(
        "line.html",
        session=session,
        here="invoices",
        invoice=invoice,
        line=found,
        skip=skip,
        found=explained(world, tenant, name, line, EVENTS_SHOWN, max(0, skip)) if metered else None,
    )


ROUTES: list[ControllerRouterHandler] = [
    customers_page,
    invoices_page,
    bill_now,
    invoice_page,
    line_page,
]
