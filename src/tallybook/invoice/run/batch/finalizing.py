"""Drafts whose time has come, many at once.

A draft that cannot go with the others goes alone, and is parked there with its reason.

Source: docs/algorithms/invoice-life.md
"""

from collections.abc import Sequence

import msgspec

from tallybook.invoice.ports import Billing, StoredDraft
from tallybook.invoice.run.batch.together import by_run, composed_anew
from tallybook.invoice.run.composing import Result
from tallybook.invoice.run.drafts import finalize_due
from tallybook.invoice.run.grace import ended
from tallybook.invoice.run.storing import write
from tallybook.kernel.errors import Conflict


def finalize_all_due(billing: Billing, names: Sequence[str]) -> int:
    """Finalize drafts whose time has come; those that cannot be are parked and tried again later.

    Args:
        billing: ports.
        names: ids of drafts.

    Returns:
        How many invoices came of it.
    """
    drafts = [billing.invoices.drafts.draft(billing.tenant, name) for name in names]
    return sum(_together(billing, some) for some in by_run(drafts))


def _together(billing: Billing, drafts: Sequence[StoredDraft]) -> int:
    """Finalize drafts of one run in one transaction; those that fall out, alone."""
    results = _results(billing, drafts) if len(drafts) > 1 else {}
    made = 0
    try:
        if results:
            with billing.invoices.transaction(billing.tenant) as transaction:
                made = len(write(transaction, list(results.values())))
    except Conflict:
        results, made = {}, 0
    alone = [draft.id for draft in drafts if draft.customer not in results]
    return made + sum(finalize_due(billing, name) is not None for name in alone)


def _results(billing: Billing, drafts: Sequence[StoredDraft]) -> dict[str, Result]:
    """Return what becomes of open drafts of one run, by their payers; without those that fail."""
    return {
        one.customer: msgspec.structs.replace(result, kept=ended(one, result.draft))
        for one, result in composed_anew(billing, drafts).made
    }
