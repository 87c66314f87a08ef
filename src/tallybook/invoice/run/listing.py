"""Invoices and drafts as one list: numbered ones in the order of their numbers, then drafts."""

import msgspec

from tallybook.invoice.ports import InvoiceHead, InvoiceStore, StoredInvoice
from tallybook.invoice.run.grace import is_draft_id
from tallybook.invoice.state import Shown, shown_as
from tallybook.kernel.errors import Missing


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which invoices to list; None for all.

    Attributes:
        state: as `state.shown` names it.
        issued: from an instant to before another, microseconds UTC; drafts are in no such time.
    """

    customer: str | None = None
    run: str | None = None
    state: str | None = None
    issued: tuple[int, int] | None = None


def place(head: InvoiceHead) -> str:
    """Return where an invoice stands in the list, to go on after it."""
    return head.id if head.state == "draft" else head.number


def listed(
    store: InvoiceStore,
    tenant: str,
    wanted: Wanted,
    *,
    limit: int,
    after: str | None,
    now_us: int,
) -> list[InvoiceHead]:
    """Return up to `limit` invoices and open drafts, those after a place in the list.

    Raises:
        Invalid: there is no such state or place.
    """
    shown = Shown() if wanted.state is None else shown_as(wanted.state, now_us)
    drafts_only = wanted.state == "draft" or (after is not None and is_draft_id(after))
    found: list[InvoiceHead] = []
    if not drafts_only:
        found = store.invoices(
            tenant,
            limit=limit,
            after=after,
            customer=wanted.customer,
            run=wanted.run,
            shown=msgspec.structs.replace(shown, issued=wanted.issued),
        )
        after = None
    if wanted.state in {None, "draft"} and wanted.issued is None and len(found) < limit:
        drafts = store.drafts.drafts(
            tenant,
            limit=limit - len(found),
            after=after,
            customer=wanted.customer,
            run=wanted.run,
        )
        found += [draft.head for draft in drafts]
    return found


def named(store: InvoiceStore, tenant: str, name: str) -> StoredInvoice:
    """Return an invoice by id or number, or a draft by its id.

    A draft that became an invoice is that invoice, one that was replaced what took its place.

    Raises:
        Missing: there is neither, or the draft came to nothing.
    """
    if not is_draft_id(name):
        return store.invoice(tenant, name)
    draft = store.drafts.draft(tenant, name)
    if draft.state == "finalized":
        return store.invoice(tenant, draft.invoice)
    if draft.state == "replaced":
        return named(store, tenant, draft.replaced_by)
    if draft.state != "open":
        raise Missing(f"draft '{name}' is {draft.state}", field="invoice")
    return StoredInvoice(head=draft.head, body=draft.body, lines=())
