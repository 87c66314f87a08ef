"""Billing runs: asked for here, executed by the jobs process, watched until they are done."""

from typing import Annotated

import msgspec
from litestar import Controller, get, post
from litestar.params import Parameter

from tallybook.adapters.sql.jobs import Job
from tallybook.compose import World
from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import format_us, parse_rfc3339
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, page, place_of
from tallybook.serve.api.gate import Grant

BILLING_RUN = "billing-run"


class RunSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to bill: one of both.

    Attributes:
        period: 'YYYY-MM', every subscription period that ends in that month of its zone.
        until: 'now' or RFC 3339, what is open so far; 'now' becomes the instant of the request.
    """

    period: str | None = None
    until: str | None = None


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A billing run.

    Attributes:
        state: queued, running, done or failed.
        request: what is billed, with 'now' written out.
        finished: invoices decided so far, of `total`; total is null while unknown.
        result: what came of it; null until done.
        error: code and message; null unless failed.
    """

    id: str
    state: str
    request: RunSpec
    finished: int
    total: int | None
    attempts: int
    created_time: str
    result: msgspec.Raw | None
    error: msgspec.Raw | None


def check_run(spec: RunSpec, now_us: int) -> RunSpec:
    """Return the run with its cut-off written out; raises Invalid."""
    if (spec.period is None) == (spec.until is None):
        raise Invalid("name either period, such as 2026-11, or until", field="period")
    if spec.period is not None:
        year, _, month = spec.period.partition("-")
        fit = len(year) == 4 and len(month) == 2 and (year + month).isdecimal()
        if not fit or not 1 <= int(month) <= 12:
            raise Invalid("period must be a month such as 2026-11", field="period")
        return spec
    until = now_us if spec.until == "now" else parse_rfc3339(spec.until or "")
    if until is None:
        raise Invalid("until must be 'now' or RFC 3339", field="until")
    if until > now_us:
        raise Invalid("until lies in the future; bill what has happened", field="until")
    return msgspec.structs.replace(spec, until=format_us(until))


def ask_run(world: World, tenant: str, spec: RunSpec) -> Job:
    """Queue a billing run."""
    now_us = world.clock.now_us()
    checked = msgspec.json.encode(check_run(spec, now_us))
    return world.jobs.ask(tenant, world.ids.new("run"), BILLING_RUN, checked, now_us)


def run_view(job: Job) -> RunView:
    """Return a run as the API shows it."""
    return RunView(
        id=job.id,
        state=job.state,
        request=msgspec.json.decode(job.request, type=RunSpec),
        finished=job.finished,
        total=job.total,
        attempts=job.attempts,
        created_time=format_us(job.created_us),
        result=job.result,
        error=job.error,
    )


class BillingRuns(Controller):
    """Making invoices."""

    path = "/billing-runs"
    tags = ("invoices",)

    @post("/", opt=BILLING, status_code=202, sync_to_thread=True)
    def start_run(self, world: World, grant: Grant, data: RunSpec) -> RunView:
        """Start a billing run; watch it under its id."""
        return run_view(ask_run(world, grant.tenant, data))

    @get("/", opt=READ, sync_to_thread=True)
    def list_runs(
        self, world: World, grant: Grant, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Page[RunView]:
        """List billing runs, newest first."""
        before = place_of(cursor, str)
        found = world.jobs.listed(grant.tenant, BILLING_RUN, limit + 1, before)
        shown = page(found, limit, lambda job: job.id)
        return Page([run_view(job) for job in shown.items], shown.next_cursor)

    @get("/{id:str}", opt=READ, sync_to_thread=True)
    def get_run(
        self, world: World, grant: Grant, id: Annotated[str, Parameter(description="run_…")]
    ) -> RunView:
        """Show how far a billing run is."""
        return run_view(world.jobs.get(grant.tenant, id))
