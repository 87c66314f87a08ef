"""The days of grace: an invoice waits as a draft before it is finalized.

Source: docs/algorithms/invoice-life.md
"""

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.customer import Customer
from tallybook.invoice.document import Draft
from tallybook.invoice.ports import BillingRun, InvoiceHead, StoredDraft
from tallybook.invoice.record import digest_of, draft_body, head_of
from tallybook.invoice.run.composing import Result
from tallybook.kernel.ids import derived_id
from tallybook.kernel.timestamps import DAY_US

DRAFT_PREFIX = "drf"


def draft_id(run: str, customer: str) -> str:
    """Return the id of a customer's draft of a run."""
    return derived_id(DRAFT_PREFIX, run, customer)


def is_draft_id(name: str) -> bool:
    """Whether a name is the id of a draft, not of an invoice."""
    return name.startswith(f"{DRAFT_PREFIX}_")


def grace_us(customer: Customer, catalog: Catalog) -> int:
    """Return how long a payer's invoices stay drafts, microseconds."""
    days = customer.grace_days
    return (catalog.seller.grace_days if days is None else days) * DAY_US


def held(result: Result, run: BillingRun, wait_us: int) -> Result:
    """Return a result whose invoice waits as a draft; without an invoice nothing waits."""
    if result.draft is None or not wait_us:
        return result
    kept = StoredDraft(
        id=draft_id(run.id, result.payer),
        run=run.id,
        customer=result.payer,
        request=run.request,
        period=run.period,
        until_us=run.until_us,
        finalize_us=run.started_us + wait_us,
        made_us=run.started_us,
        refreshed_us=run.started_us,
        head=_head(result.draft, draft_id(run.id, result.payer)),
        body=draft_body(result.draft),
    )
    return Result(payer=result.payer, version=result.version, kept=kept)


def refreshed(kept: StoredDraft, draft: Draft, at_us: int) -> StoredDraft:
    """Return a draft as it is composed now."""
    return msgspec.structs.replace(
        kept,
        refreshed_us=at_us,
        head=_head(draft, kept.id),
        body=draft_body(draft),
        parked=None,
    )


def ended(kept: StoredDraft, draft: Draft | None) -> StoredDraft:
    """Return a draft that became an invoice, or that has nothing left to bill."""
    if draft is None:
        return msgspec.structs.replace(kept, state="empty", body="", parked=None)
    identity = draft.invoice.id
    return msgspec.structs.replace(kept, state="finalized", body="", invoice=identity, parked=None)


def _head(draft: Draft, identity: str) -> InvoiceHead:
    head = head_of(draft, draft.invoice, digest_of(draft_body(draft).encode()))
    return msgspec.structs.replace(head, id=identity, state="draft", sequence=0)
