"""What the jobs process does about billing: runs, drafts whose time has come."""

from collections.abc import Mapping, Sequence

import msgspec
import structlog

from tallybook.adapters.processes.crew import Crew
from tallybook.adapters.sql.jobs import Job
from tallybook.compose import World
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill, bill_crossed
from tallybook.invoice.ports import BillingRun
from tallybook.invoice.run.batch.finalizing import finalize_all_due
from tallybook.invoice.run.batch.refreshing import Known, keep_fresh
from tallybook.kernel.timestamps import parse_rfc3339
from tallybook.serve.api.rest.runs import BILLING_RUN, RunSpec
from tallybook.serve.worker.chores import Chore
from tallybook.serve.worker.jobs import Advance, Work
from tallybook.serve.worker.pipeline import await_contained
from tallybook.settings import billing_workers

LAKE_SECONDS_MAX = 120.0
"""How long a run waits for what was acknowledged before it to be in the lake."""


def billing_run(world: World, job: Job, advance: Advance) -> BillingRun:
    """Bill what a job asks for; called again after a kill it goes on where it was."""
    spec = msgspec.json.decode(job.request, type=RunSpec)
    await_contained(world.settings, LAKE_SECONDS_MAX)
    until = None if spec.until is None else parse_rfc3339(spec.until)
    request = BillRequest(period=spec.period, until_us=until)

    def progress(done: int, total: int, _what: str) -> None:
        advance(done, total)

    with Crew(billing_workers(world.settings)) as crew:
        run = bill(world.billing(job.tenant), request, name=job.id, progress=progress, compose=crew)
    if crew.lost:
        structlog.get_logger("billing").warning(
            "billing.processes_lost", job=job.id, lost=crew.lost
        )
    return run


WORK: Mapping[str, Work] = {BILLING_RUN: billing_run}
"""Kind of job -> how it is done."""


DRAFTS_SECONDS = 10.0
DRAFTS_AT_ONCE = 1_000


def finalize_drafts(world: World) -> int:
    """Finalize drafts whose days of grace are over; return how many became invoices.

    What was acknowledged before is on them.
    """
    of_tenant: dict[str, list[str]] = {}
    if world.invoices.drafts.drafts_due(world.clock.now_us(), 1):
        await_contained(world.settings, DRAFTS_SECONDS)
    for tenant, name in world.invoices.drafts.drafts_due(world.clock.now_us(), DRAFTS_AT_ONCE):
        of_tenant.setdefault(tenant, []).append(name)
    return sum(
        finalize_all_due(world.billing(tenant), names) for tenant, names in of_tenant.items()
    )


class DraftKeeper:
    """Keeps the drafts of all tenants up to date, from one process."""

    def __init__(self) -> None:
        """Begin with every draft to be composed once."""
        self._known: dict[str, Known] = {}

    def round(self, world: World) -> int:
        """Compose anew what may have changed; return how many drafts were."""
        done = 0
        for tenant in world.catalog.tenants():
            known = self._known.get(tenant, Known())
            self._known[tenant], some = keep_fresh(world.billing(tenant), known)
            done += some
        return done


THRESHOLDS_SECONDS = 60.0


def bill_thresholds(world: World) -> int:
    """Bill everybody whose usage has reached a threshold; return how many invoices were made."""
    made = 0
    for tenant in world.catalog.tenants():
        run = bill_crossed(world.billing(tenant))
        made += 0 if run is None else run.invoices
    return made


AUDIT_SECONDS = 60.0


def settle_audit(world: World) -> int:
    """Add to the audit log what requests changed that died; return how many there were."""
    return world.audit.settle_old(world.clock.now_us())


CERTIFICATES_SECONDS = 3600.0


def audit_certificates(world: World) -> int:
    """Add to the audit log what of certificates was done before there was one."""
    from tallybook.serve.api.fleet.issuing import take_down_found

    return take_down_found(world)


CHORES: Sequence[Chore] = (
    Chore(name="settle-audit", every_seconds=AUDIT_SECONDS, step=settle_audit),
    Chore(name="audit-certificates", every_seconds=CERTIFICATES_SECONDS, step=audit_certificates),
    Chore(name="bill-thresholds", every_seconds=THRESHOLDS_SECONDS, step=bill_thresholds),
    Chore(name="finalize-drafts", every_seconds=DRAFTS_SECONDS, step=finalize_drafts),
    Chore(name="refresh-drafts", every_seconds=DRAFTS_SECONDS, step=DraftKeeper().round),
)
"""What is looked after between jobs."""
