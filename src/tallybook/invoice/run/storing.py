"""Many payers stored in one transaction: invoices, numbers, books, periods, drafts, the run.

Source: DECISIONS 28; docs/algorithms/billing-runs.md
"""

from collections.abc import Sequence
from itertools import groupby

import msgspec

from tallybook.invoice.document import Draft, Invoice, number_place, spent, with_number
from tallybook.invoice.ledger.facts import finalized_facts
from tallybook.invoice.ledger.posting import postings
from tallybook.invoice.ports import (
    Billing,
    BillingRun,
    InvoiceTransaction,
    Parked,
    Spent,
    StoredInvoice,
)
from tallybook.invoice.record import stored_invoice
from tallybook.invoice.run.composing import Result
from tallybook.kernel.errors import Corrupt, Refused


def store(billing: Billing, run: BillingRun, results: Sequence[Result]) -> BillingRun:
    """Write everything that results leave behind, and the run, in one transaction.

    Returns:
        The run with the payers counted.

    Raises:
        Conflict: books or an account were moved on by somebody else; nothing was written.
    """
    run = counted(run, results)
    with billing.invoices.transaction(billing.tenant) as transaction:
        write(transaction, results)
        transaction.put_run(run)
    return run


def write(transaction: InvoiceTransaction, results: Sequence[Result]) -> list[StoredInvoice]:
    """Write what results leave behind, and return the finalized invoices in their order.

    The series' row is locked before anything else, so that two writers wait and never deadlock.
    """
    drafts = [result.draft for result in results if result.draft is not None]
    numbered = _numbered(transaction, drafts)
    transaction.claim({result.payer: result.version for result in results})
    stored = [stored_invoice(draft, invoice) for draft, invoice in numbered]
    if stored:
        transaction.add_invoices(stored)
        _book(transaction, numbered)
    lines = [line for draft in drafts for line in draft.lines]
    transaction.put_billed([(line.item.position, line.billed) for line in lines])
    transaction.put_periods([period for result in results for period in result.periods])
    transaction.put_drafts([result.kept for result in results if result.kept is not None])
    return stored


def counted(run: BillingRun, results: Sequence[Result]) -> BillingRun:
    """Return the run with results counted."""
    return msgspec.structs.replace(
        run,
        customers=run.customers + len(results),
        invoices=run.invoices + sum(result.draft is not None for result in results),
        drafts=run.drafts + sum(_waits(result) for result in results),
    )


def passed(run: BillingRun, customers: int) -> BillingRun:
    """Return the run with customers counted that were done before."""
    return msgspec.structs.replace(run, customers=run.customers + customers)


def parked(run: BillingRun, customer: str, error: Refused | Corrupt) -> BillingRun:
    """Return the run with a customer that it could not bill, and why."""
    one = Parked(customer=customer, code=error.code, message=error.message)
    return msgspec.structs.replace(passed(run, 1), parked=(*run.parked, one))


def _waits(result: Result) -> bool:
    return result.kept is not None and result.kept.state == "open"


def _numbered(
    transaction: InvoiceTransaction, drafts: Sequence[Draft]
) -> list[tuple[Draft, Invoice]]:
    """Return drafts with the numbers that follow in their series."""
    found: list[tuple[Draft, Invoice]] = []
    for series, members in groupby(drafts, key=lambda draft: draft.invoice.series):
        of_series = list(members)
        first = transaction.take_numbers(series, len(of_series))
        found += [(draft, with_number(draft, first + i)) for i, draft in enumerate(of_series)]
    return found


def _book(transaction: InvoiceTransaction, numbered: Sequence[tuple[Draft, Invoice]]) -> None:
    """Write what invoices mean to the ledger, the outbox and the customers' accounts."""
    books = transaction.books
    books.post([entry for _, invoice in numbered for entry in postings(invoice)])
    books.tell([fact for _, invoice in numbered for fact in finalized_facts(invoice)])
    books.spend([one for draft, invoice in numbered if _used(one := _spent(draft, invoice))])


def _spent(draft: Draft, invoice: Invoice) -> Spent:
    return spent(draft, number_place(invoice.number)[1])


def _used(one: Spent) -> bool:
    """Whether an account is touched at all."""
    taken = one.coupons or one.credits or one.wallets or one.extras
    return bool(taken or one.carried_minor)
