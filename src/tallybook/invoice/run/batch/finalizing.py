"""Drafts whose time has come, many at once: books and usage are asked for together, as in a run.

A draft that cannot go with the others goes alone, and is parked there with its reason.

Source: docs/algorithms/invoice-life.md
"""

from collections.abc import Iterator, Sequence

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.invoice.ports import Billing, StoredDraft
from tallybook.invoice.run.answers import answers
from tallybook.invoice.run.basis import Basis, standing
from tallybook.invoice.run.batch.batches import INVOICES_A_TRANSACTION
from tallybook.invoice.run.composing import Result, composed
from tallybook.invoice.run.drafts import finalize_due, run_of
from tallybook.invoice.run.grace import ended
from tallybook.invoice.run.payers import Payer, payer, payers
from tallybook.invoice.run.storing import write
from tallybook.invoice.run.work import Work, work_of
from tallybook.kernel.errors import Conflict, Corrupt, Refused


def finalize_all_due(billing: Billing, names: Sequence[str]) -> int:
    """Finalize drafts whose time has come; those that cannot be are parked and tried again later.

    Args:
        billing: ports.
        names: ids of drafts.

    Returns:
        How many invoices came of it.
    """
    drafts = [billing.invoices.drafts.draft(billing.tenant, name) for name in names]
    of_run: dict[str, list[StoredDraft]] = {}
    for draft in drafts:
        of_run.setdefault(draft.run, []).append(draft)
    made = 0
    for some in of_run.values():
        for start in range(0, len(some), INVOICES_A_TRANSACTION):
            made += _together(billing, some[start : start + INVOICES_A_TRANSACTION])
    return made


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
    catalog = billing.catalog.load(billing.tenant)
    basis = Basis(billing, run_of(billing, drafts[0]), catalog)
    found = {one.customer.key: one for one in _payers(catalog, drafts)}
    stand = standing(basis, list(found.values()))
    works: list[Work] = []
    for one in found.values():
        try:
            works.append(work_of(basis, stand, one))
        except (Refused, Corrupt):
            continue  # it goes alone, and says there what is wrong
    facts, _ = answers(basis, works)
    results: dict[str, Result] = {}
    for work in works:
        if work.key in facts:
            try:
                results[work.key] = composed(basis, stand, work, facts[work.key])
            except (Refused, Corrupt):
                continue
    # The drafts are read after the books: whoever ends one after that moves the books on.
    store = billing.invoices.drafts
    kept = [store.draft(billing.tenant, one.id) for one in drafts if one.customer in results]
    return {
        one.customer: msgspec.structs.replace(
            results[one.customer], kept=ended(one, results[one.customer].draft)
        )
        for one in kept
        if one.state == "open"
    }


def _payers(catalog: Catalog, drafts: Sequence[StoredDraft]) -> Iterator[Payer]:
    """Yield whose drafts they are, in the order of the drafts."""
    known = payers(catalog, [draft.customer for draft in drafts])
    for draft in drafts:
        yield known.get(draft.customer) or payer(catalog, draft.customer)
