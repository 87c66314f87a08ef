"""Invoices made outside of a billing run: of one-off charges, and in place of voided ones.

Source: docs/algorithms/invoice-life.md
"""

from collections.abc import Sequence

import msgspec

from tallybook.invoice.document import Invoice, decode_invoice
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import new_run
from tallybook.invoice.ledger.holdings import PendingExtra
from tallybook.invoice.manifest import Extra
from tallybook.invoice.ports import BillingRun, InvoiceHead
from tallybook.invoice.run.alone import fresh, insist
from tallybook.invoice.run.basis import Basis, Stand, standing
from tallybook.invoice.run.composing import Result, composed
from tallybook.invoice.run.payers import Payer, payer
from tallybook.invoice.run.storing import counted, write
from tallybook.invoice.run.work import Work
from tallybook.kernel.errors import Conflict, Invalid
from tallybook.kernel.timestamps import parse_rfc3339
from tallybook.settle.receivable.flow import Settling, void_invoice

ONE_OFF = "one-off"
"""What a run was asked for that bills one-off charges alone."""
_UNTIL = "until "


def invoice_now(settling: Settling, customer: str, extras: Sequence[Extra]) -> InvoiceHead:
    """Bill one-off charges on an invoice of their own, at once, and return it.

    The invoice is that of who pays for the customer; coupons, credits and wallets count as on
    every invoice.

    Raises:
        Missing: there is no such customer, or no such tax.
        Invalid: no charge, or one that is too large.
    """
    if not extras:
        raise Invalid("a one-off invoice has at least one line", field="lines")
    billing = settling.billing
    catalog = billing.catalog.load(billing.tenant)
    owner, who = catalog.customer(customer), payer(catalog, customer)
    if owner.key != who.key:
        extras = [msgspec.structs.replace(extra, customer=owner.key) for extra in extras]
    run = _one_off_run(settling)
    basis = Basis(billing, run, catalog)
    made = [_pending(extra, owner.key, owner.currency, run) for extra in extras]
    return insist(lambda: _bill(settling, basis, who, extras, made))


def _one_off_run(settling: Settling, replaces: str = "") -> BillingRun:
    billing = settling.billing
    now = billing.clock.now_us()
    return BillingRun(
        id=billing.ids.new("run"),
        request=ONE_OFF,
        period=None,
        until_us=None,
        cut=billing.usage.head(),
        started_us=now,
        state="done",
        finished_us=now,
        replaces=replaces,
    )


def _pending(extra: Extra, customer: str, currency: str, run: BillingRun) -> PendingExtra:
    return PendingExtra(
        customer=customer,
        currency=currency,
        at_us=run.started_us,
        extra=msgspec.structs.replace(extra, customer=""),
        batch=run.id,
    )


def _bill(
    settling: Settling,
    basis: Basis,
    who: Payer,
    extras: Sequence[Extra],
    made: Sequence[PendingExtra],
    replaces: str = "",
) -> InvoiceHead:
    """Compose, number and store an invoice of one-off charges; `made` are written with it."""
    stand = standing(basis, [who])
    account = stand.accounts.get(who.key)
    assert account is not None, "every asked customer has an account"
    only = msgspec.structs.replace(account, extras=tuple(extras))
    work = Work(payer=_alone(basis, who, extras), items=(), periods=(), waiting=0)
    result = composed(basis, Stand(stand.books, {who.key: only}, stand.alike), work, {})
    return _store(settling, basis.run, result, made, replaces)


def _alone(basis: Basis, who: Payer, extras: Sequence[Extra]) -> Payer:
    """Return a payer without its subscriptions, with the members whose charges these are."""
    keys = sorted({extra.customer for extra in extras} - {""})
    members = tuple(basis.catalog.customers[key] for key in keys)
    return Payer(customer=who.customer, members=members)


def _store(
    settling: Settling,
    run: BillingRun,
    result: Result,
    made: Sequence[PendingExtra] = (),
    replaces: str = "",
) -> InvoiceHead:
    """Store an invoice, in place of the voided one with the id `replaces` where given."""
    if result.draft is None:
        raise Conflict("there is nothing to bill", code="nothing-to-bill")
    with settling.settlements.transaction(settling.billing.tenant) as transaction:
        transaction.put_extras(made)
        stored = write(transaction.invoices, [result])
        transaction.invoices.put_run(counted(run, [result]))
        if replaces:
            transaction.replace(replaces, stored[0].head.number)
    return stored[0].head


def reissue(settling: Settling, name: str) -> InvoiceHead:
    """Void an invoice, bill again what it billed as it stands now, and return the new invoice.

    Called again after it was interrupted, it goes on with an invoice that is void already.

    Raises:
        Missing: there is no such invoice.
        Conflict: it cannot be voided, it was reissued before, or there is nothing left to bill.
    """
    billing = settling.billing
    stored = billing.invoices.invoice(billing.tenant, name)
    invoice = decode_invoice(stored.body)
    if stored.head.state != "void":
        void_invoice(settling, invoice.id)
    catalog = billing.catalog.load(billing.tenant)
    who = payer(catalog, invoice.customer_key)
    request = _request(invoice.manifest.request)
    if request is None:
        run = _one_off_run(settling, invoice.number)
        basis, extras = Basis(billing, run, catalog), invoice.manifest.extras

        def attempt() -> InvoiceHead:
            _check_once(settling, invoice)
            _check_waiting(settling, extras)
            return _bill(settling, basis, who, extras, (), invoice.id)

        return insist(attempt)
    run = new_run(billing, request, billing.ids.new("run"))
    run = msgspec.structs.replace(
        run, state="done", finished_us=run.started_us, replaces=invoice.number
    )
    basis = Basis(billing, run, catalog)

    def again() -> InvoiceHead:
        _check_once(settling, invoice)
        return _store(settling, run, fresh(basis, who)[2], (), invoice.id)

    return insist(again)


def _check_once(settling: Settling, invoice: Invoice) -> None:
    by = settling.settlements.replaced_by(settling.billing.tenant, invoice.id)
    if by is not None:
        message = f"invoice {invoice.number} was reissued as {by}"
        raise Conflict(message, code="exists", field="invoice")


def _check_waiting(settling: Settling, extras: Sequence[Extra]) -> None:
    """Refuse to bill charges anew of which one does not wait any more."""
    for extra in extras:
        if settling.settlements.charge(settling.billing.tenant, extra.id).invoice:
            message = f"the one-off charge '{extra.name}' is on another invoice, or withdrawn"
            raise Conflict(message, code="later-document", field="invoice")


def _request(text: str) -> BillRequest | None:
    """Return what a manifest says that its run was asked for; None for one-off charges alone."""
    if text == ONE_OFF:
        return None
    if text.startswith(_UNTIL):
        return BillRequest(until_us=parse_rfc3339(text.removeprefix(_UNTIL)))
    return BillRequest(period=text)
