"""An invoice of its own for one-off charges: nothing of a subscription is on it.

Source: docs/algorithms/billing-runs.md
"""

from collections.abc import Sequence

import msgspec

from tallybook.invoice.manifest import Extra
from tallybook.invoice.ports import Account, Billing, BillingRun, StoredInvoice
from tallybook.invoice.run.alone import insist
from tallybook.invoice.run.basis import Basis, Stand, standing
from tallybook.invoice.run.batch.prepared import prepared
from tallybook.invoice.run.composing import composed
from tallybook.invoice.run.payers import Payer, payer_of
from tallybook.invoice.run.storing import store
from tallybook.invoice.run.work import Work
from tallybook.kernel.errors import Conflict

REQUEST = "one-off"


def bill_extras(
    billing: Billing,
    customer: str,
    extras: Sequence[Extra] | None = None,
    name: str | None = None,
) -> StoredInvoice:
    """Return the finalized invoice of a customer's one-off charges; its funds count.

    Args:
        billing: ports.
        customer: key; a customer that another one pays for is on its payer's invoice.
        extras: put on the customer's account before; None for all that wait.
        name: id of the run; the same one again gives the same invoice.

    Raises:
        Missing: there is no such customer.
        Conflict: nothing waits, or a safety bound.
    """
    catalog = billing.catalog.load(billing.tenant)
    found = payer_of(catalog, customer)
    owner = catalog.customer(customer)
    run = _run(billing, name or billing.ids.new("run"))
    payer = Payer(customer=found, members=() if owner == found else (owner,))

    def attempt() -> StoredInvoice:
        stand = standing(Basis(billing, run, catalog), [payer])
        if payer.key not in stand.books.done:
            _store(Basis(billing, run, catalog), _chosen(stand, owner.key, extras), payer)
        (head,) = billing.invoices.invoices(billing.tenant, limit=1, run=run.id, customer=payer.key)
        return billing.invoices.invoice(billing.tenant, head.id)

    return insist(attempt)


def _run(billing: Billing, name: str) -> BillingRun:
    known = billing.invoices.runs(billing.tenant, limit=1, name=name)
    if known:
        return known[0]
    now = billing.clock.now_us()
    return BillingRun(
        id=name,
        request=REQUEST,
        period=None,
        until_us=None,
        cut=billing.usage.head(),
        started_us=now,
        finished_us=now,
        state="done",
    )


def _chosen(stand: Stand, owner: str, extras: Sequence[Extra] | None) -> Stand:
    """Return where billing stands with the chosen charges of one customer alone."""
    accounts = {
        key: msgspec.structs.replace(account, extras=account.extras if key == owner else ())
        for key, account in stand.accounts.items()
    }
    if extras is not None:
        own = accounts.get(owner, Account())
        accounts[owner] = msgspec.structs.replace(own, extras=tuple(extras))
    return Stand(stand.books, accounts)


def _store(basis: Basis, stand: Stand, payer: Payer) -> None:
    result = composed(basis, stand, Work(payer, (), (), 0), {})
    if result.draft is None:
        message = f"no one-off charge of {payer.key} waits to be billed"
        raise Conflict(message, code="nothing-to-bill")
    store(basis.billing, basis.run, [prepared(result)])
