"""Billing: decide what is due, ask for the usage, compose, number and store.

A run is resumable: its snapshot and date are fixed when it starts, a customer that already has its
invoice or draft of the run is passed over, and what was billed is subtracted from what is, so
nothing is billed twice. A customer that fails is parked with its reason; the rest goes on.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec

from tallybook.catalog.subscription import Subscription
from tallybook.invoice.document import Draft
from tallybook.invoice.due import BillRequest, check_request, horizon
from tallybook.invoice.newcomers import register_newcomers
from tallybook.invoice.ports import Billing, BillingRun, Parked, Progress
from tallybook.invoice.run.alone import fresh, insist
from tallybook.invoice.run.answers import answers
from tallybook.invoice.run.basis import Basis, standing
from tallybook.invoice.run.batch.batches import CUSTOMERS_AT_ONCE, Batch, batches
from tallybook.invoice.run.batch.prepared import (
    Compose,
    Outcome,
    Prepared,
    compose_here,
    prepared,
)
from tallybook.invoice.run.batch.replacing import in_place_of, reach_of
from tallybook.invoice.run.batch.task import Task, scope_of
from tallybook.invoice.run.composing import composed
from tallybook.invoice.run.grace import grace_us, held
from tallybook.invoice.run.payers import Payer, payer, payers
from tallybook.invoice.run.progressive import has_crossed, with_thresholds
from tallybook.invoice.run.storing import parked, passed, set_aside, store
from tallybook.invoice.run.work import Work, work_of
from tallybook.kernel.errors import Conflict, Corrupt, Refused


def start_run(billing: Billing, request: BillRequest, name: str | None = None) -> BillingRun:
    """Store a run with its snapshot and date fixed, or return the stored one of that name.

    Args:
        billing: ports.
        request: a month, or an instant.
        name: id of the run; a fresh one where None.

    Raises:
        Invalid: the request cannot be followed.
    """
    known = billing.invoices.runs(billing.tenant, limit=1, name=name) if name else []
    if known:
        return known[0]
    run = new_run(billing, request, name or billing.ids.new("run"))
    with billing.invoices.transaction(billing.tenant) as transaction:
        transaction.put_run(run)
    return run


def bill(
    billing: Billing,
    request: BillRequest,
    *,
    name: str | None = None,
    only: Sequence[str] | None = None,
    at_once: bool = False,
    progress: Progress | None = None,
    compose: Compose = compose_here,
) -> BillingRun:
    """Bill every customer and return the run as it ended.

    Args:
        billing: ports.
        request: a month, or an instant.
        name: id of a run to start or to go on with.
        only: keys of customers who pay, without newcomers; None for everybody.
        at_once: invoices are finalized whatever days of grace they have.
        progress: told how many customers are done.
        compose: makes the invoices of batches; here, or in other processes, with equal results.

    Raises:
        Invalid: the request cannot be followed.

    Guarantees:
        Every invoice, its number, and the state it leaves behind are one transaction. A run that
        is called again, or goes on after a crash, makes no second invoice.
    """
    run = start_run(billing, request, name)
    if run.state == "done":
        return run
    refused = []
    if only is None:
        refused = register_newcomers(
            billing.catalog, billing.usage, billing.tenant, run.cut, billing.clock.now_us()
        )
    basis = Basis(billing, run, billing.catalog.load(billing.tenant), at_once)
    charged = billing.accounts.charged(billing.tenant)
    found = list(payers(basis.catalog, only, charged).values())
    run = msgspec.structs.replace(run, parked=tuple(refused), customers=0, waiting=0)
    for moved in _billed(basis, run, found, compose):
        run = moved
        if progress is not None:
            progress(run.customers, len(found), "customers billed")
    run = msgspec.structs.replace(run, state="done", finished_us=billing.clock.now_us())
    with billing.invoices.transaction(billing.tenant) as transaction:
        transaction.put_run(run)
    return run


def bill_crossed(billing: Billing) -> BillingRun | None:
    """Bill until now everybody with a subscription whose usage has reached a threshold.

    Returns:
        The run; None where nobody has. Somebody whose usage cannot be billed is left to the next
        ordinary run, which says why.

    Guarantees: a threshold makes one invoice, however often this is called.
    """
    request = BillRequest(until_us=billing.clock.now_us())
    catalog = billing.catalog.load(billing.tenant)
    found = with_thresholds(catalog, list(payers(catalog).values()))
    crossed: list[str] = []
    if found:
        basis = Basis(billing, new_run(billing, request, ""), catalog, at_once=True)
        for start in range(0, len(found), CUSTOMERS_AT_ONCE):
            crossed += _crossed(basis, found[start : start + CUSTOMERS_AT_ONCE])
    return bill(billing, request, only=crossed, at_once=True) if crossed else None


def _crossed(basis: Basis, part: Sequence[Payer]) -> Iterator[str]:
    """Yield the payers of a part whose open usage takes them past a threshold."""
    stand = standing(basis, part)
    works: list[Work] = []
    for one in part:
        with suppress(Refused, Corrupt):
            works.append(work_of(basis, stand, one))
    facts, _ = answers(basis, works)
    for work in works:
        if work.key in facts:
            with suppress(Refused, Corrupt):
                draft = composed(basis, stand, work, facts[work.key]).draft
                if has_crossed(basis.catalog, stand.books, work, draft):
                    yield work.key


def preview(
    billing: Billing,
    request: BillRequest,
    customer: str,
    *,
    instead: Sequence[Subscription] = (),
) -> Draft | None:
    """Return the invoice that a run would make for one customer, and store nothing.

    A month or an instant to come is billed as if nothing more were used until then.

    Args:
        billing: ports.
        request: a month, or an instant, in the future too.
        customer: key; the invoice is that of who pays for it.
        instead: subscriptions as they might be, in place of those of their keys, or new ones.

    Raises:
        Invalid: the request cannot be followed.
        Missing: there is no such customer.
    """
    check_request(request, request.until_us or 0)
    catalog = billing.catalog.load(billing.tenant)
    known = catalog.subscriptions | {one.key: one for one in instead}
    catalog = msgspec.structs.replace(catalog, subscriptions=known)
    found = payer(catalog, customer)
    zones = {one.zone for one in (found.customer, *found.members)}
    now = billing.clock.now_us()
    ends = [horizon(request, name, now).until_us for name in sorted(zones)]
    run = _run(billing, request, "preview", max(now, *ends))
    _, _, result = fresh(Basis(billing, run, catalog), found)
    return result.draft


def new_run(billing: Billing, request: BillRequest, name: str) -> BillingRun:
    """Return a run that starts now, with the snapshot of now.

    Raises:
        Invalid: the request cannot be followed.
    """
    now = billing.clock.now_us()
    check_request(request, now)
    return _run(billing, request, name, now)


def _run(billing: Billing, request: BillRequest, name: str, now_us: int) -> BillingRun:
    return BillingRun(
        id=name,
        request=str(request),
        period=request.period,
        until_us=request.until_us,
        cut=billing.usage.head(),
        started_us=now_us,
    )


def _billed(
    basis: Basis, run: BillingRun, payers: Sequence[Payer], compose: Compose
) -> Iterator[BillingRun]:
    """Yield the run after each batch of its payers; batches may be composed ahead."""
    waiting: deque[Batch] = deque()

    def tasks() -> Iterator[Sequence[Task]]:
        for batch in batches(basis, payers):
            waiting.append(batch)
            yield batch.tasks

    for outcomes in compose(scope_of(basis), tasks()):
        run = _bill_batch(basis, run, waiting.popleft(), outcomes)
        yield run


def _bill_batch(
    basis: Basis, run: BillingRun, batch: Batch, outcomes: Sequence[Outcome]
) -> BillingRun:
    """Store a batch; where it conflicts, each payer alone."""
    run = passed(run, batch.done)
    for one in batch.parked:
        run = set_aside(run, one)
    some: dict[str, Prepared] = {}
    for task, outcome in zip(batch.tasks, outcomes, strict=True):
        if isinstance(outcome, Parked):
            run = set_aside(run, outcome)
        else:
            looked_at, waiting = reach_of(task.items, task.extras), batch.drafts.get(task.payer, ())
            some[outcome.payer] = in_place_of(outcome, looked_at, waiting)
    run = msgspec.structs.replace(run, waiting=run.waiting + batch.waiting)
    if not some:
        return run
    try:
        return store(basis.billing, run, list(some.values()))
    except Conflict:
        for payer in batch.payers:
            if payer.key in some:
                run = _bill_alone(basis, run, payer)
        return run


def _bill_alone(basis: Basis, run: BillingRun, payer: Payer) -> BillingRun:
    """Compose and store one payer from fresh books, until nobody else is faster."""
    wait_us = 0 if basis.at_once else grace_us(payer.customer, basis.catalog)

    def attempt() -> BillingRun:
        stand, work, result = fresh(basis, payer)
        if payer.key in stand.books.done:
            return passed(run, 1)
        made = prepared(held(result, basis.run, wait_us))
        extras = () if result.draft is None else result.draft.invoice.manifest.extras
        drafts = basis.billing.invoices.drafts.open_of(basis.billing.tenant, [payer.key])
        made = in_place_of(made, reach_of(work.items, extras), drafts.get(payer.key, ()))
        return store(basis.billing, run, [made])

    try:
        return insist(attempt)
    except (Refused, Corrupt) as error:
        return parked(run, payer.key, error)
