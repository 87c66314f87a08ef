"""One payer composed: the manifest of everything its invoice depends on, and what it leaves behind.

Source: docs/algorithms/billing-runs.md; DECISIONS 30.
"""

import msgspec

from tallybook.catalog.customer import Customer
from tallybook.catalog.subscription import StoredPeriod
from tallybook.invoice.document import Draft, Facts, compose
from tallybook.invoice.manifest import Manifest
from tallybook.invoice.ports import Seen, StoredDraft
from tallybook.invoice.run.basis import Basis, Stand
from tallybook.invoice.run.batch.task import Scope, Task, scope_of, task_of
from tallybook.invoice.run.bounds import check_draft
from tallybook.invoice.run.work import Work, alone_at_fault
from tallybook.kernel.timestamps import DAY_US


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One payer of a run, as it is to be stored.

    Attributes:
        payer: key.
        version: of the books that it was decided from.
        draft: to be finalized; None where there is nothing to bill, or where it waits.
        periods: afterwards.
        kept: its stored draft afterwards; None where it has none.
        seen: that all of it was looked at, and is billed by this; None where it is not.
    """

    payer: str
    version: int
    draft: Draft | None = None
    periods: tuple[StoredPeriod, ...] = ()
    kept: StoredDraft | None = None
    seen: Seen | None = None


def composed(basis: Basis, stand: Stand, work: Work, facts: Facts) -> Result:
    """Return a payer's invoice, where anything differs, and its periods afterwards.

    Raises:
        Missing: something that an item names is not there.
        Invalid: an amount is too large, or a price has none for some usage.
        Conflict: a safety bound.
    """
    task = task_of(stand, work, facts, basis.run.cut)
    return result_of(scope_of(basis), task, work.payer.customer, work.payer.members)


def result_of(
    scope: Scope, task: Task, customer: Customer, members: tuple[Customer, ...]
) -> Result:
    """Return what a task comes to.

    Args:
        scope: of the run.
        task: of a payer.
        customer, members: the payer, and whom it pays for.

    Raises:
        Refused: as `composed`.
        Corrupt: the program failed over this payer.
    """
    manifest = manifest_of(scope, task, customer, members)
    with alone_at_fault(task.payer):
        draft = compose(manifest, scope.catalog, task.facts())
    if draft is not None:
        check_draft(draft, task.recent, scope.bounds)
    return Result(
        payer=task.payer,
        version=task.version,
        draft=draft,
        periods=task.periods,
        seen=task.seen,
    )


def manifest_of(
    scope: Scope, task: Task, customer: Customer, members: tuple[Customer, ...]
) -> Manifest:
    """Return everything that a payer's invoice may depend on."""
    run, catalog = scope.run, scope.catalog
    seller = catalog.seller
    return Manifest(
        tenant=scope.tenant,
        run=run.id,
        request=run.request,
        sequence=task.last.sequence + 1,
        prior=task.last.invoice or None,
        customer=customer,
        seller=msgspec.structs.replace(seller, logo="") if seller.logo else seller,
        currency=customer.currency,
        cut=run.cut,
        catalog_version=catalog.version,
        issued_us=run.started_us,
        due_us=run.started_us + seller.payment_days * DAY_US,
        tz=scope.tz,
        items=task.items,
        members=members,
        extras=task.extras,
        funds=task.funds,
        taxes=tuple(catalog.taxes[key] for key in sorted(catalog.taxes)),
        replaces=run.replaces,
    )
