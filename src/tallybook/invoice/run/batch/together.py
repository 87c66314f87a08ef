"""Open drafts composed anew, many at once: books and usage are asked for together, as in a run.

Source: docs/algorithms/invoice-life.md
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.invoice.ports import Billing, BillingRun, StoredDraft
from tallybook.invoice.run.answers import answers
from tallybook.invoice.run.basis import Basis, standing
from tallybook.invoice.run.batch.batches import INVOICES_A_TRANSACTION
from tallybook.invoice.run.composing import Result, composed
from tallybook.invoice.run.drafts import run_of
from tallybook.invoice.run.payers import Payer, payers, paying
from tallybook.invoice.run.work import Work, work_of
from tallybook.kernel.errors import Corrupt, Refused


class Anew(msgspec.Struct, frozen=True, kw_only=True):
    """What became of drafts of one run when they were composed anew.

    Attributes:
        run: with the snapshot and the date of now.
        made: those that are open, with what they come to.
        failed: those that are open and cannot be composed, the version of the books they were
            decided from, and why.
    """

    run: BillingRun
    made: tuple[tuple[StoredDraft, Result], ...] = ()
    failed: tuple[tuple[StoredDraft, int, Refused | Corrupt], ...] = ()


def by_run(drafts: Iterable[StoredDraft]) -> Iterator[Sequence[StoredDraft]]:
    """Yield drafts in parts of one run each, that fit into one transaction."""
    of_run: dict[str, list[StoredDraft]] = {}
    for draft in drafts:
        of_run.setdefault(draft.run, []).append(draft)
    for some in of_run.values():
        for start in range(0, len(some), INVOICES_A_TRANSACTION):
            yield some[start : start + INVOICES_A_TRANSACTION]


def composed_anew(billing: Billing, drafts: Sequence[StoredDraft]) -> Anew:
    """Return what drafts of one run come to with what is stored now."""
    catalog = billing.catalog.load(billing.tenant)
    basis = Basis(billing, run_of(billing, drafts[0]), catalog)
    found = {one.customer.key: one for one in _payers(catalog, drafts)}
    stand = standing(basis, list(found.values()))
    failed: dict[str, Refused | Corrupt] = {}
    works: list[Work] = []
    for one in found.values():
        try:
            works.append(work_of(basis, stand, one))
        except (Refused, Corrupt) as error:
            failed[one.key] = error
    facts, silent = answers(basis, works)
    failed |= silent
    results: dict[str, Result] = {}
    for work in works:
        if work.key in facts:
            try:
                results[work.key] = composed(basis, stand, work, facts[work.key])
            except (Refused, Corrupt) as error:
                failed[work.key] = error
    # The drafts are read after the books: whoever ends one after that moves the books on.
    store, versions = billing.invoices.drafts, stand.books.versions
    kept = [store.draft(billing.tenant, one.id) for one in drafts]
    still = [one for one in kept if one.state == "open"]
    return Anew(
        run=basis.run,
        made=tuple((one, results[one.customer]) for one in still if one.customer in results),
        failed=tuple(
            (one, versions.get(one.customer, 0), failed[one.customer])
            for one in still
            if one.customer in failed
        ),
    )


def _payers(catalog: Catalog, drafts: Sequence[StoredDraft]) -> Iterator[Payer]:
    """Yield whose drafts they are, in the order of the drafts."""
    known = payers(catalog, [draft.customer for draft in drafts])
    for draft in drafts:
        yield known.get(draft.customer) or paying(catalog, draft.customer)
