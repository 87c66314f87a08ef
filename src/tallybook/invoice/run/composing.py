"""One payer composed: the manifest of everything its invoice depends on, and what it leaves behind.

Source: docs/algorithms/billing-runs.md; DECISIONS 30.
"""

from collections.abc import Iterator

import msgspec

from tallybook.catalog.subscription import StoredPeriod
from tallybook.invoice.document import Draft, Facts, compose
from tallybook.invoice.manifest import Extra, Manifest
from tallybook.invoice.ports import Account, Last, StoredDraft
from tallybook.invoice.run.basis import Basis, Stand
from tallybook.invoice.run.bounds import check_draft
from tallybook.invoice.run.payers import Payer
from tallybook.invoice.run.work import Work, recounted
from tallybook.kernel.timestamps import DAY_US

_NEVER = Last(0, "", "")
_NOTHING = Account()


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One payer of a run, as it is to be stored.

    Attributes:
        payer: key.
        version: of the books that it was decided from.
        draft: to be finalized; None where there is nothing to bill, or where it waits.
        periods: afterwards.
        kept: its stored draft afterwards; None where it has none.
    """

    payer: str
    version: int
    draft: Draft | None = None
    periods: tuple[StoredPeriod, ...] = ()
    kept: StoredDraft | None = None


def composed(basis: Basis, stand: Stand, work: Work, facts: Facts) -> Result:
    """Return a payer's invoice, where anything differs, and its periods afterwards.

    Raises:
        Missing: something that an item names is not there.
        Invalid: an amount is too large, or a price has none for some usage.
        Conflict: a safety bound.
    """
    draft = compose(manifest_of(basis, stand, work), basis.catalog, facts)
    if draft is not None:
        check_draft(draft, stand.books.recent.get(work.key, 0), basis.billing.bounds)
    return Result(
        payer=work.key,
        version=stand.books.versions.get(work.key, 0),
        draft=draft,
        periods=(*work.periods, *recounted(stand.books, work, facts, basis.run.cut)),
    )


def manifest_of(basis: Basis, stand: Stand, work: Work) -> Manifest:
    """Return everything that a payer's invoice may depend on."""
    run, catalog, payer = basis.run, basis.catalog, work.payer
    last = stand.books.last.get(payer.key, _NEVER)
    return Manifest(
        tenant=basis.billing.tenant,
        run=run.id,
        request=run.request,
        sequence=last.sequence + 1,
        prior=last.invoice or None,
        customer=payer.customer,
        seller=msgspec.structs.replace(catalog.seller, logo=""),
        currency=payer.customer.currency,
        cut=run.cut,
        catalog_version=catalog.version,
        issued_us=run.started_us,
        due_us=run.started_us + catalog.seller.payment_days * DAY_US,
        tz=basis.billing.tz,
        items=work.items,
        members=payer.members,
        extras=tuple(_extras(stand, payer)),
        funds=stand.accounts.get(payer.key, _NOTHING).funds,
        taxes=tuple(catalog.taxes[key] for key in sorted(catalog.taxes)),
        replaces=run.replaces,
    )


def _extras(stand: Stand, payer: Payer) -> Iterator[Extra]:
    """Yield the one-off charges of a payer, and those of the customers that it pays for."""
    yield from stand.accounts.get(payer.key, _NOTHING).extras
    for member in payer.members:
        for extra in stand.accounts.get(member.key, _NOTHING).extras:
            yield msgspec.structs.replace(extra, customer=member.key)
