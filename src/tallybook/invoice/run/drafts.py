"""Drafts in their days of grace: shown, refreshed, finalized, thrown away.

A draft is composed again from what is stored when it is finalized, so usage that came in its days
of grace is on the invoice, and what another invoice billed meanwhile is not.

Source: docs/algorithms/invoice-life.md
"""

import msgspec

from tallybook.invoice.ports import Billing, BillingRun, Parked, Part, StoredDraft, StoredInvoice
from tallybook.invoice.run.alone import fresh, insist
from tallybook.invoice.run.basis import Basis
from tallybook.invoice.run.composing import Result
from tallybook.invoice.run.grace import ended, is_draft_id, refreshed
from tallybook.invoice.run.payers import paying
from tallybook.invoice.run.storing import write
from tallybook.kernel.errors import Conflict, Corrupt, Refused
from tallybook.kernel.timestamps import HOUR_US

RETRY_US = HOUR_US
"""When a draft that cannot be finalized is tried again."""


def finalize(billing: Billing, name: str) -> StoredInvoice:
    """Return the invoice that a draft becomes, composed anew with what is stored now.

    Args:
        billing: ports.
        name: id of a draft; of an invoice, which is finalized already, id or number.

    Raises:
        Missing: there is neither.
        Conflict: it was thrown away, there is nothing left to bill, or a safety bound.

    Guarantees: a draft becomes one invoice, however often and by how many it is asked.
    """
    if not is_draft_id(name):
        return billing.invoices.invoice(billing.tenant, name)
    done = insist(lambda: _finalize(billing, name))
    if done is None:
        message = "there is nothing left to bill: other invoices have it, or the usage is gone"
        raise Conflict(message, code="nothing-to-bill")
    return done


def refresh(billing: Billing, name: str) -> StoredDraft:
    """Return a draft composed anew with what is stored now.

    Raises:
        Missing: there is no such draft.
        Conflict: it is not open any more, or a safety bound.
    """
    return insist(lambda: _refresh(billing, name))


def discard(billing: Billing, name: str) -> StoredDraft:
    """Return a draft thrown away; what it would have billed stays open for another run.

    Raises:
        Missing: there is no such draft.
        Conflict: it is not open any more.
    """

    def attempt() -> StoredDraft:
        version = _version(billing, billing.invoices.drafts.draft(billing.tenant, name).customer)
        kept = _open(billing.invoices.drafts.draft(billing.tenant, name))
        kept = msgspec.structs.replace(kept, state="discarded", body="")
        return _kept(billing, version, kept)

    return insist(attempt)


def finalize_due(billing: Billing, name: str) -> StoredInvoice | None:
    """Finalize a draft whose time has come; one that cannot be is parked and tried again later.

    Returns:
        The invoice; None where there is none.
    """
    try:
        return insist(lambda: _finalize(billing, name))
    except (Refused, Corrupt) as error:
        reason = error
    return insist(lambda: _put_off(billing, name, reason))


def _put_off(billing: Billing, name: str, error: Refused | Corrupt) -> None:
    """Say why a draft cannot be finalized, and when it is tried again."""
    version = _version(billing, billing.invoices.drafts.draft(billing.tenant, name).customer)
    kept = billing.invoices.drafts.draft(billing.tenant, name)
    if kept.state == "open":
        reason = Parked(customer=kept.customer, code=error.code, message=error.message)
        later = billing.clock.now_us() + RETRY_US
        kept = msgspec.structs.replace(kept, parked=reason, finalize_us=later)
        _kept(billing, version, kept)


def _finalize(billing: Billing, name: str) -> StoredInvoice | None:
    _, result, kept = _composed(billing, name)
    if kept.state == "finalized":
        return billing.invoices.invoice(billing.tenant, kept.invoice)
    if kept.state == "empty":
        return None
    result = msgspec.structs.replace(result, kept=ended(_open(kept), result.draft))
    with billing.invoices.transaction(billing.tenant) as transaction:
        stored = write(transaction, [result])
    return stored[0] if stored else None


def _refresh(billing: Billing, name: str) -> StoredDraft:
    run, result, kept = _composed(billing, name)
    if result.draft is None:
        kept = ended(_open(kept), None)
        with billing.invoices.transaction(billing.tenant) as transaction:
            write(transaction, [msgspec.structs.replace(result, kept=kept)])
        return kept
    kept = refreshed(_open(kept), result.draft, run.started_us)
    with billing.invoices.transaction(billing.tenant) as transaction:
        transaction.expect({kept.customer: result.version})
        transaction.put_drafts([kept])
    return kept


def _version(billing: Billing, customer: str) -> int:
    """Return the version of where billing stands of a customer."""
    part = Part(customers=(customer,), subscriptions=())
    return billing.invoices.books(billing.tenant, part).versions.get(customer, 0)


def _kept(billing: Billing, version: int, kept: StoredDraft) -> StoredDraft:
    """Store a draft alone: nothing is billed by it."""
    alone = Result(payer=kept.customer, version=version, kept=kept)
    with billing.invoices.transaction(billing.tenant) as transaction:
        write(transaction, [alone])
    return kept


def _composed(billing: Billing, name: str) -> tuple[BillingRun, Result, StoredDraft]:
    """Return a draft's run with the snapshot of now, its payer composed, and the draft as it is.

    The draft is read after the books: whoever ends it after that moves the books on.
    """
    drafts = billing.invoices.drafts
    kept = drafts.draft(billing.tenant, name)
    catalog = billing.catalog.load(billing.tenant)
    run = run_of(billing, kept)
    found = paying(catalog, kept.customer)
    _, _, result = fresh(Basis(billing, run, catalog), found)
    return run, result, drafts.draft(billing.tenant, name)


def run_of(billing: Billing, kept: StoredDraft) -> BillingRun:
    """Return the run of a draft with the snapshot and the date of now."""
    return BillingRun(
        id=kept.run,
        request=kept.request,
        period=kept.period,
        until_us=kept.until_us,
        cut=billing.usage.head(),
        started_us=billing.clock.now_us(),
    )


def _open(kept: StoredDraft) -> StoredDraft:
    """Return a draft that can still be changed; raises Conflict."""
    if kept.state == "replaced":
        raise Conflict(f"the draft was replaced by {kept.replaced_by}", field="state")
    if kept.state != "open":
        raise Conflict(f"the draft is {kept.state} already", field="state")
    return kept
