"""Billing runs with those they could not bill, and drafts that wait."""

from collections import Counter
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.params import Parameter
from litestar.types import ControllerRouterHandler

from tallybook.compose import World
from tallybook.invoice.ports import StoredDraft
from tallybook.kernel.errors import Missing
from tallybook.kernel.money import money_text
from tallybook.serve.api.common.paging import page, place_of
from tallybook.serve.api.rest.invoices import invoice_view
from tallybook.serve.api.rest.runs import BILLING_RUN, RunSpec, ask_run, check_run, run_view
from tallybook.serve.console.access import BILLING_PAGE, PAGE, sent_by, session_of
from tallybook.serve.console.auth import Form
from tallybook.serve.console.forms import Confirmation, ask, carried, confirmed, text_of, to
from tallybook.serve.console.render import html

PAGE_ROWS = 50
JOBS_SHOWN = 5
PARKED_SHOWN = 500
SKIP_MAX = 10_000

Skip = Annotated[int, Parameter(ge=0, le=SKIP_MAX, required=False)]


@get("/drafts", opt=PAGE, sync_to_thread=True)
def drafts_page(
    request: "Request[Any, Any, Any]",
    world: World,
    cursor: str | None = None,
    customer: str | None = None,
) -> Response[bytes]:
    """List open drafts: when each becomes an invoice, and what keeps it from that."""
    session = session_of(request)
    found = world.invoices.drafts.drafts(
        session.grant.tenant,
        limit=PAGE_ROWS + 1,
        after=place_of(cursor, str),
        customer=customer or None,
    )
    shown = page(found, PAGE_ROWS, lambda draft: draft.id)
    now_us = world.clock.now_us()
    return html(
        "billing/drafts.html",
        session=session,
        here="drafts",
        drafts=[(draft, invoice_view(draft.head, now_us)) for draft in shown.items],
        sums=_sums(shown.items),
        customer=customer,
        next_cursor=shown.next_cursor,
    )


def _sums(drafts: list[StoredDraft]) -> list[tuple[str, str]]:
    found: Counter[str] = Counter()
    for draft in drafts:
        found[draft.head.currency] += draft.head.total_minor
    return [(currency, money_text(minor, currency)) for currency, minor in sorted(found.items())]


@get("/runs", opt=PAGE, sync_to_thread=True)
def runs_page(request: "Request[Any, Any, Any]", world: World, skip: Skip = 0) -> Response[bytes]:
    """List billing runs, newest first, and those that wait or failed."""
    session = session_of(request)
    tenant = session.grant.tenant
    found = world.invoices.runs(tenant, limit=skip + PAGE_ROWS + 1)[skip:]
    jobs = [run_view(job) for job in world.jobs.listed(tenant, BILLING_RUN, JOBS_SHOWN)]
    return html(
        "billing/runs.html",
        session=session,
        here="runs",
        runs=found[:PAGE_ROWS],
        jobs=[job for job in jobs if job.state != "done"] if not skip else [],
        following=skip + PAGE_ROWS if len(found) > PAGE_ROWS else None,
        may_bill=session.grant.allows("billing"),
    )


@get("/runs/{name:str}", opt=PAGE, sync_to_thread=True)
def run_page(
    request: "Request[Any, Any, Any]", world: World, name: str, cursor: str | None = None
) -> Response[bytes]:
    """Show a run: its invoices and drafts, and everybody it could not bill, with the reason."""
    session = session_of(request)
    tenant, now_us = session.grant.tenant, world.clock.now_us()
    found = world.invoices.runs(tenant, limit=1, name=name)
    if not found:
        raise Missing(f"there is no billing run '{name}'", field="run")
    heads = world.invoices.invoices(
        tenant, limit=PAGE_ROWS + 1, after=place_of(cursor, str), run=name
    )
    shown = page(heads, PAGE_ROWS, lambda head: head.number)
    drafts = world.invoices.drafts.drafts(tenant, limit=PAGE_ROWS, run=name)
    return html(
        "billing/run.html",
        session=session,
        here="runs",
        run=found[0],
        parked=found[0].parked[:PARKED_SHOWN],
        known=world.catalog.load(tenant).customers.keys(),
        invoices=[invoice_view(head, now_us) for head in shown.items],
        drafts=[invoice_view(draft.head, now_us) for draft in drafts],
        next_cursor=shown.next_cursor,
    )


@post("/invoices/bill", opt=BILLING_PAGE, sync_to_thread=True)
def bill_now(request: "Request[Any, Any, Any]", world: World, data: Form) -> Response[Any]:
    """Ask whether a billing run shall start, of a month or of what is open so far; start it."""
    session = sent_by(request, data)
    period = text_of(data, "period")
    spec = RunSpec(period=period) if period else RunSpec(until="now")
    check_run(spec, world.clock.now_us())
    if not confirmed(data):
        return ask(session, "runs", _confirmation(period, data))
    ask_run(world, session.grant.tenant, spec)
    return to("/runs")


def _confirmation(period: str, data: dict[str, str]) -> Confirmation:
    what = f"every period that ends in {period}" if period else "everything used so far"
    return Confirmation(
        title=f"Bill {period}?" if period else "Bill until now?",
        text=f"A billing run makes invoices of {what}, of all customers. Customers with days of"
        " grace get drafts. Nothing is billed twice, however often it is run.",
        action="/invoices/bill",
        button="Start the run",
        back="/runs",
        fields=carried(data),
    )


ROUTES: list[ControllerRouterHandler] = [drafts_page, runs_page, run_page, bill_now]
