"""Billing: decide what is due, ask for the usage, compose, number and store.

A run is resumable: its snapshot and date are fixed when it starts, a customer that already has its
invoice of the run is passed over, and what was billed is subtracted from what is, so nothing is
billed twice. A customer that fails is parked with its reason; the rest goes on.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.subscription import StoredPeriod, Subscription
from tallybook.invoice.document import Draft, Facts, compose
from tallybook.invoice.due import BillRequest, check_request, due, horizon
from tallybook.invoice.manifest import Item, Manifest
from tallybook.invoice.newcomers import register_newcomers
from tallybook.invoice.ports import Billing, BillingRun, Books, Last, Parked, Progress
from tallybook.invoice.questions import Asked, ask
from tallybook.invoice.record import finalized
from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Conflict, Corrupt, Refused
from tallybook.kernel.timestamps import DAY_US

CUSTOMERS_AT_ONCE = 10_000
INVOICES_A_TRANSACTION = 500

_T = TypeVar("_T")


class _Work(msgspec.Struct, frozen=True):
    """One customer of a run: what is due, and the periods afterwards."""

    customer: str
    items: tuple[Item, ...]
    periods: tuple[StoredPeriod, ...]
    waiting: int


class _Result(msgspec.Struct, frozen=True):
    """One customer rated: the invoice, where anything differs, and the periods afterwards."""

    draft: Draft | None
    periods: tuple[StoredPeriod, ...]


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
    run = _new_run(billing, request, name or billing.ids.new("run"))
    with billing.invoices.transaction(billing.tenant) as transaction:
        transaction.put_run(run)
    return run


def bill(
    billing: Billing,
    request: BillRequest,
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> BillingRun:
    """Bill every customer and return the run as it ended.

    Args:
        billing: ports.
        request: a month, or an instant.
        name: id of a run to start or to go on with.
        progress: told how many customers are done.

    Raises:
        Invalid: the request cannot be followed.

    Guarantees:
        Every invoice, its number, and the state it leaves behind are one transaction. A run that
        is called again, or goes on after a crash, makes no second invoice.
    """
    run = start_run(billing, request, name)
    if run.state == "done":
        return run
    parked = register_newcomers(billing.catalog, billing.usage, billing.tenant, run.cut)
    catalog = billing.catalog.load(billing.tenant)
    customers = _customers(catalog)
    run = msgspec.structs.replace(run, parked=tuple(parked), customers=0, waiting=0)
    for part in _parts(list(customers.items()), CUSTOMERS_AT_ONCE):
        for moved in _bill_part(billing, run, catalog, dict(part)):
            run = moved
            if progress is not None:
                progress(run.customers, len(customers), "customers billed")
    run = msgspec.structs.replace(run, state="done", finished_us=billing.clock.now_us())
    with billing.invoices.transaction(billing.tenant) as transaction:
        transaction.put_run(run)
    return run


def preview(billing: Billing, request: BillRequest, customer: str) -> Draft | None:
    """Return the invoice that a run would make for one customer now, and store nothing.

    Raises:
        Invalid: the request cannot be followed.
        Missing: there is no such customer.
    """
    run = _new_run(billing, request, "preview")
    catalog = billing.catalog.load(billing.tenant)
    books = billing.invoices.books(billing.tenant)
    payer = catalog.customer(customer)
    work = _work(run, catalog, books, customer, _customers(catalog).get(customer, []))
    facts = ask(billing.usage, billing.tenant, [Asked(payer, work.items)], catalog, run.cut)
    return _result(billing, run, catalog, books, work, facts[customer]).draft


def _new_run(billing: Billing, request: BillRequest, name: str) -> BillingRun:
    now = billing.clock.now_us()
    check_request(request, now)
    return BillingRun(
        id=name,
        request=str(request),
        period=request.period,
        until_us=request.until_us,
        cut=billing.usage.head(),
        started_us=now,
    )


def _customers(catalog: Catalog) -> dict[str, list[Subscription]]:
    """Return the live subscriptions of every live customer that has one, by customer key."""
    found: dict[str, list[Subscription]] = {}
    for key, subscription in sorted(catalog.subscriptions.items()):
        if catalog.live("subscription", key) and catalog.live("customer", subscription.customer):
            found.setdefault(subscription.customer, []).append(subscription)
    return dict(sorted(found.items()))


def _parts(things: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(things), size):
        yield things[start : start + size]


def _bill_part(
    billing: Billing, run: BillingRun, catalog: Catalog, customers: dict[str, list[Subscription]]
) -> Iterator[BillingRun]:
    """Yield the run after each transaction of a part of its customers."""
    books = billing.invoices.books(billing.tenant)
    works: list[_Work] = []
    for customer, subscriptions in customers.items():
        last = books.last.get(customer)
        if last is not None and last.run == run.id:
            run = _counted(run, 1)
            continue
        try:
            works.append(_work(run, catalog, books, customer, subscriptions))
        except (Refused, Corrupt) as error:
            run = _parked(run, customer, error)
    asked = [Asked(catalog.customers[work.customer], work.items) for work in works]
    facts = ask(billing.usage, billing.tenant, asked, catalog, run.cut)
    yield run
    for batch in _parts(works, INVOICES_A_TRANSACTION):
        run = _bill_batch(billing, run, catalog, books, batch, facts)
        yield run


def _work(
    run: BillingRun,
    catalog: Catalog,
    books: Books,
    customer: str,
    subscriptions: Sequence[Subscription],
) -> _Work:
    """Return what one customer has to bill."""
    request = BillRequest(period=run.period, until_us=run.until_us)
    seen = horizon(request, catalog.customer(customer).zone, run.started_us)
    dues = [
        due(one, books.periods.get(one.key, ()), books.billed, catalog, seen, run.cut)
        for one in subscriptions
    ]
    return _Work(
        customer,
        tuple(item for found in dues for item in found.items),
        tuple(period for found in dues for period in found.periods),
        sum(found.waiting for found in dues),
    )


def _bill_batch(
    billing: Billing,
    run: BillingRun,
    catalog: Catalog,
    books: Books,
    works: Sequence[_Work],
    facts: dict[str, Facts],
) -> BillingRun:
    """Compose and store a batch; where it conflicts, each customer alone."""
    results: dict[str, _Result] = {}
    for work in works:
        try:
            usage = facts[work.customer]
            results[work.customer] = _result(billing, run, catalog, books, work, usage)
        except (Refused, Corrupt) as error:
            run = _parked(run, work.customer, error)
    waiting = run.waiting + sum(work.waiting for work in works)
    run = msgspec.structs.replace(run, waiting=waiting)
    try:
        return _store(billing, run, list(results.values()))
    except Conflict:
        return _store_each(billing, run, results)


def _store_each(billing: Billing, run: BillingRun, results: dict[str, _Result]) -> BillingRun:
    for customer, result in results.items():
        try:
            run = _store(billing, run, [result])
        except Conflict as error:
            run = _parked(run, customer, error)
    return run


def _store(billing: Billing, run: BillingRun, results: Sequence[_Result]) -> BillingRun:
    """Write invoices, numbers, periods, what is billed, and the run, in one transaction."""
    drafts = [result.draft for result in results if result.draft is not None]
    run = _counted(run, len(results), len(drafts))
    with billing.invoices.transaction(billing.tenant) as transaction:
        if drafts:
            first = transaction.take_numbers(drafts[0].invoice.series, len(drafts))
            numbered = [finalized(draft, first + i) for i, draft in enumerate(drafts)]
            transaction.add_invoices(numbered)
        lines = [line for draft in drafts for line in draft.lines]
        transaction.put_billed([(line.item.position, line.billed) for line in lines])
        transaction.put_periods([period for result in results for period in result.periods])
        transaction.put_run(run)
    return run


def _result(
    billing: Billing,
    run: BillingRun,
    catalog: Catalog,
    books: Books,
    work: _Work,
    facts: Facts,
) -> _Result:
    draft = compose(_manifest(billing, run, catalog, books, work), catalog, facts)
    return _Result(draft, (*work.periods, *_recounted(books, work, facts, run.cut)))


def _recounted(books: Books, work: _Work, facts: Facts, cut: int) -> Iterator[StoredPeriod]:
    """Yield the closed periods whose events differ from what was billed, as counted now."""
    changed = {
        (item.position.subscription, item.position.start_us)
        for item in work.items
        if item.adjustment and item.meter is not None and _differs(item, facts)
    }
    for subscription, start_us in sorted(changed):
        for period in books.periods[subscription]:
            if period.start_us == start_us:
                yield msgspec.structs.replace(period, cut=cut)


def _differs(item: Item, facts: Facts) -> bool:
    """Whether events or value differ: a late level before the period changes the value alone."""
    found = facts[item.position].items()
    now = {group: (str(fact.digest), plain(fact.value)) for group, fact in found}
    before = {billed.group: (billed.digest, billed.quantity) for billed in item.before}
    none = ("0", "0")
    return any(now.get(g, none) != before.get(g, none) for g in now.keys() | before.keys())


def _manifest(
    billing: Billing, run: BillingRun, catalog: Catalog, books: Books, work: _Work
) -> Manifest:
    customer = catalog.customers[work.customer]
    last = books.last.get(work.customer, Last(0, "", ""))
    return Manifest(
        tenant=billing.tenant,
        run=run.id,
        request=run.request,
        sequence=last.sequence + 1,
        prior=last.invoice or None,
        customer=customer,
        seller=msgspec.structs.replace(catalog.seller, logo=""),
        currency=customer.currency,
        cut=run.cut,
        catalog_version=catalog.version,
        issued_us=run.started_us,
        due_us=run.started_us + catalog.seller.payment_days * DAY_US,
        tz=billing.tz,
        items=work.items,
    )


def _counted(run: BillingRun, customers: int, invoices: int = 0) -> BillingRun:
    return msgspec.structs.replace(
        run, customers=run.customers + customers, invoices=run.invoices + invoices
    )


def _parked(run: BillingRun, customer: str, error: Refused | Corrupt) -> BillingRun:
    parked = Parked(customer=customer, code=error.code, message=error.message)
    return msgspec.structs.replace(_counted(run, 1), parked=(*run.parked, parked))
