"""Many payers stored in one transaction: invoices, numbers, books, periods, drafts, the run.

Source: DECISIONS 28; docs/algorithms/billing-runs.md
"""

from collections.abc import Iterable, Sequence
from itertools import groupby

import msgspec

from tallybook.invoice.ports import (
    Billing,
    BillingRun,
    InvoiceTransaction,
    Parked,
    StoredInvoice,
)
from tallybook.invoice.run.batch.prepared import Document, Prepared, prepared, with_number
from tallybook.invoice.run.composing import Result
from tallybook.kernel.errors import Corrupt, Refused


def store(billing: Billing, run: BillingRun, some: Sequence[Prepared]) -> BillingRun:
    """Write everything that payers leave behind, and the run, in one transaction.

    Returns:
        The run with the payers counted.

    Raises:
        Conflict: books or an account were moved on by somebody else; nothing was written.
    """
    run = _counted(run, some)
    with billing.invoices.transaction(billing.tenant) as transaction:
        _put(transaction, some)
        transaction.put_run(run)
    return run


def write(transaction: InvoiceTransaction, results: Sequence[Result]) -> list[StoredInvoice]:
    """Write what results leave behind, and return the finalized invoices in their order."""
    return _put(transaction, [prepared(result) for result in results])


def _put(transaction: InvoiceTransaction, some: Sequence[Prepared]) -> list[StoredInvoice]:
    """Write what payers leave behind, and return the finalized invoices in their order.

    The series' row is locked before anything else, so that two writers wait and never deadlock.
    """
    documents = _numbered(transaction, [one.document for one in some if one.document is not None])
    transaction.claim(
        {one.payer: one.version for one in some},
        {one.payer: one.seen for one in some if one.seen is not None},
    )
    stored = [document.invoice for document in documents]
    if stored:
        transaction.add_invoices(stored)
        _book(transaction, documents)
    transaction.put_billed([billed for document in documents for billed in document.billed])
    transaction.put_periods([period for one in some for period in one.periods])
    kept = [one.kept for one in some if one.kept is not None]
    transaction.put_drafts([*(draft for one in some for draft in one.replaced), *kept])
    return stored


def _numbered(transaction: InvoiceTransaction, documents: Iterable[Document]) -> list[Document]:
    """Return documents with the numbers that follow in their series."""
    found: list[Document] = []
    for series, members in groupby(documents, key=lambda document: document.series):
        of_series = list(members)
        first = transaction.take_numbers(series, len(of_series))
        found += [with_number(document, first + i) for i, document in enumerate(of_series)]
    return found


def _book(transaction: InvoiceTransaction, documents: Sequence[Document]) -> None:
    """Write what invoices mean to the customers' accounts, the ledger and the outbox.

    Accounts first, as whoever pays or tops up does, so that two writers wait and never deadlock.
    """
    books = transaction.books
    books.spend([document.spent for document in documents if document.spent is not None])
    books.post([entry for document in documents for entry in document.entries])
    books.tell([fact for document in documents for fact in document.facts])


def counted(run: BillingRun, results: Sequence[Result]) -> BillingRun:
    """Return the run with results counted."""
    return _counted(run, [prepared(result) for result in results])


def _counted(run: BillingRun, some: Sequence[Prepared]) -> BillingRun:
    return msgspec.structs.replace(
        run,
        customers=run.customers + len(some),
        invoices=run.invoices + sum(one.document is not None for one in some),
        drafts=run.drafts + sum(_waits(one) for one in some),
    )


def passed(run: BillingRun, customers: int) -> BillingRun:
    """Return the run with customers counted that were done before."""
    return msgspec.structs.replace(run, customers=run.customers + customers)


def parked(run: BillingRun, customer: str, error: Refused | Corrupt) -> BillingRun:
    """Return the run with a customer that it could not bill, and why."""
    return set_aside(run, Parked(customer=customer, code=error.code, message=error.message))


def set_aside(run: BillingRun, one: Parked) -> BillingRun:
    """Return the run with a customer that it could not bill."""
    return msgspec.structs.replace(passed(run, 1), parked=(*run.parked, one))


def _waits(one: Prepared) -> bool:
    return one.kept is not None and one.kept.state == "open"
