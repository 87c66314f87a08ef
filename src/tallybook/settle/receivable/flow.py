"""Commands on what customers owe: read where they stand, decide, write; again where others moved.

Source: docs/algorithms/payments.md, docs/algorithms/credit-notes.md,
docs/algorithms/invoice-life.md
"""

from collections.abc import Callable, Sequence

import msgspec

from tallybook.catalog.coupon import Coupon
from tallybook.invoice.document import Invoice, decode_invoice
from tallybook.invoice.ledger.holdings import WITHDRAWN, Holdings, PendingExtra, Redemption
from tallybook.invoice.manifest import Extra
from tallybook.invoice.ports import Billing, Books, InvoiceHead, InvoiceTransaction, Part
from tallybook.invoice.run.alone import insist
from tallybook.kernel.book.fact import Fact, fact
from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.settle.receivable.credit_note import (
    SERIES,
    CreditNote,
    StoredNote,
    decode_note,
)
from tallybook.settle.receivable.crediting import (
    Ask,
    CheckedNote,
    earlier,
    issue,
    note_manifest,
    numbered,
    refundable,
    verify_note,
    void_note,
)
from tallybook.settle.receivable.forgiving import (
    Sum,
    bounds_of,
    forgiven,
    looked_at_again,
    subscriptions_of,
    sums_of,
    unforgiven,
)
from tallybook.settle.receivable.life import Released, released, void, write_off
from tallybook.settle.receivable.noting import compose_note
from tallybook.settle.receivable.paying import Received, receive, refund, reverse, use_credit
from tallybook.settle.receivable.payment import Payment
from tallybook.settle.receivable.ports import Payments, Settlements
from tallybook.settle.receivable.standing import Moves, Standing


class Settling(msgspec.Struct, frozen=True, kw_only=True):
    """The ports that settling works with, for one tenant."""

    billing: Billing
    settlements: Settlements
    payments: Payments


class ChargeTold(msgspec.Struct, frozen=True, kw_only=True):
    """The body of the fact that a one-off charge was taken back before it was billed."""

    charge: str
    name: str
    amount: str
    currency: str


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a credit note would be.

    Attributes:
        note: without a number.
        creditable_minor: what is left of the invoice's total.
        refundable_minor: what of it could be paid out.
    """

    note: CreditNote
    creditable_minor: int
    refundable_minor: int


def pay(settling: Settling, customer: str, received: Received) -> Payment:
    """Record a payment of a customer and return it; see `receive`."""
    return _payment(settling, customer, received, receive)


def pay_from_credit(settling: Settling, customer: str, received: Received) -> Payment:
    """Pay open invoices from a customer's credit and return what was paid; see `use_credit`."""
    return _payment(settling, customer, received, use_credit)


def pay_out(
    settling: Settling, customer: str, received: Received, source: str | None = None
) -> Payment:
    """Record that credit was paid out and return the refund; see `refund`."""
    return _payment(settling, customer, received, lambda r, s: refund(r, s, source))


def _payment(
    settling: Settling,
    customer: str,
    received: Received,
    decide: Callable[[Received, Standing], Moves],
) -> Payment:
    settling.billing.catalog.load(settling.billing.tenant).customer(customer)
    names = [want.invoice for want in received.wanted]
    moves = _insist(settling, customer, names, lambda standing: decide(received, standing))
    return moves.payments[0]


def take_back(settling: Settling, name: str, reason: str) -> Payment:
    """Reverse a payment, refund or use of credit and return it; see `reverse`."""
    tenant, now = settling.billing.tenant, settling.billing.clock.now_us()
    payment = settling.payments.payment(tenant, name)
    names = [one.invoice for one in payment.allocations]

    def decide(standing: Standing) -> Moves:
        again = settling.payments.payment(tenant, name)
        return reverse(again, standing, now, reason)

    return _insist(settling, payment.customer, names, decide).payments[0]


def estimate(settling: Settling, name: str, ask: Ask) -> Estimate:
    """Return what a credit note of an invoice would be, and store nothing.

    Raises:
        Missing, Invalid, Conflict: as `credit`.
    """
    at = _noted(settling, name)
    invoice, standing = at.invoice, at.standing
    before = earlier(standing, invoice.id)
    return Estimate(
        note=_note(settling, at, ask),
        creditable_minor=invoice.total_minor - sum(note.total_minor for note in before),
        refundable_minor=refundable(standing.invoice(invoice.id), before),
    )


def credit(settling: Settling, name: str, ask: Ask) -> StoredNote:
    """Issue a credit note of an invoice and return it.

    Raises:
        Missing: there is no such invoice or line.
        Invalid: more than is left of a line or of the invoice.
        Conflict: the invoice is void, or nothing is left of it.
    """

    def attempt() -> StoredNote:
        at = _noted(settling, name)
        note = _note(settling, at, ask)
        with settling.settlements.transaction(settling.billing.tenant) as transaction:
            number = transaction.invoices.take_numbers(SERIES, 1)
            stored = numbered(note, number)
            _forgive(transaction.invoices, at, forgiven(note, at.invoice, at.sums))
            transaction.settle(issue(stored, at.invoice, at.standing))
        return stored

    return insist(attempt)


class _Noted(msgspec.Struct, frozen=True):
    """An invoice that a credit note is of: where its customer stands, and what is billed in all."""

    invoice: Invoice
    standing: Standing
    sums: dict[str, Sum]
    books: Books


def _noted(settling: Settling, name: str) -> _Noted:
    billing = settling.billing
    stored = billing.invoices.invoice(billing.tenant, name)
    invoice, payer = decode_invoice(stored.body), stored.head.customer
    part = Part(customers=[payer], subscriptions=subscriptions_of(invoice))
    books = billing.invoices.books(billing.tenant, part)
    standing = settling.settlements.standing(billing.tenant, payer, [invoice.id])
    return _Noted(invoice, standing, sums_of(stored, books), books)


def _note(settling: Settling, at: _Noted, ask: Ask) -> CreditNote:
    billing = settling.billing
    now, bounds = billing.clock.now_us(), bounds_of(at.invoice, at.sums)
    manifest = note_manifest(billing.tenant, at.invoice, ask, at.standing, bounds, now)
    return compose_note(manifest, at.invoice)


def _forgive(invoices: InvoiceTransaction, at: _Noted, sums: Sequence[Sum]) -> None:
    """Store what is given back by now; a run that was decided from less is refused."""
    payer = at.standing.customer
    invoices.claim({payer: at.books.versions.get(payer, 0)})
    invoices.put_billed(sums)


def take_back_note(settling: Settling, name: str) -> StoredNote:
    """Void a credit note and return it; see `void_note`."""
    tenant, now = settling.billing.tenant, settling.billing.clock.now_us()

    def attempt() -> StoredNote:
        stored = settling.payments.credit_note(tenant, name)
        at = _noted(settling, stored.head.invoice)
        moves = void_note(stored, at.invoice, at.standing, now)
        sums = unforgiven(decode_note(stored.body), at.invoice, at.sums)
        with settling.settlements.transaction(tenant) as transaction:
            _forgive(transaction.invoices, at, sums)
            transaction.invoices.put_periods(looked_at_again(sums, at.books))
            transaction.settle(moves)
        return moves.notes[0]

    return insist(attempt)


def check_note(settling: Settling, name: str) -> CheckedNote:
    """Recompute a credit note and compare it byte by byte."""
    tenant = settling.billing.tenant
    stored = settling.payments.credit_note(tenant, name)
    body = settling.billing.invoices.invoice(tenant, decode_note(stored.body).invoice).body
    return verify_note(stored, decode_invoice(body), body.encode())


def void_invoice(settling: Settling, name: str) -> InvoiceHead:
    """Take a finalized invoice back and return it; its number stays used.

    What it billed is billed again by the next run that asks for it.

    Raises:
        Missing: there is no such invoice.
        Conflict: something was paid on it or credited of it, a later invoice builds on it, or its
            state forbids it.
    """
    tenant, now = settling.billing.tenant, settling.billing.clock.now_us()

    def attempt() -> None:
        stored = settling.billing.invoices.invoice(tenant, name)
        invoice = decode_invoice(stored.body)
        payer = stored.head.customer
        standing = settling.settlements.standing(tenant, payer, [invoice.id])
        extras = tuple(settling.settlements.extras(tenant, None, invoice.id))
        moves = void(invoice, standing, extras, now)
        part = Part(customers=[payer], subscriptions=subscriptions_of(invoice))
        books = settling.billing.invoices.books(tenant, part)
        gone = released(stored, invoice, books)
        with settling.settlements.transaction(tenant) as transaction:
            transaction.invoices.claim({payer: books.versions.get(payer, 0)})
            _release(transaction.invoices, gone)
            transaction.settle(moves)

    insist(attempt)
    return settling.billing.invoices.invoice(tenant, name).head


def _release(invoices: InvoiceTransaction, gone: Released) -> None:
    invoices.put_billed(gone.billed)
    invoices.put_periods(gone.periods)


def give_up(settling: Settling, name: str) -> InvoiceHead:
    """Write off what is open of an invoice and return it; see `write_off`."""
    tenant, now = settling.billing.tenant, settling.billing.clock.now_us()
    invoice, head = _invoice(settling, name)
    _insist(
        settling, head.customer, [invoice.id], lambda standing: write_off(invoice, standing, now)
    )
    return settling.billing.invoices.invoice(tenant, name).head


def redeem(settling: Settling, key: str, customer: str) -> Redemption:
    """Put a coupon to a customer's use and return the redemption.

    A coupon of a customer whose parent pays is the parent's: it counts on the parent's invoices.

    Raises:
        Missing: there is no such coupon or customer.
        Conflict: the coupon is archived, too late to be redeemed, or redeemed already.
    """
    billing = settling.billing
    catalog = billing.catalog.load(billing.tenant)
    coupon, payer = catalog.coupons.get(key), catalog.customer(customer)
    if coupon is None:
        raise Missing(f"there is no coupon '{key}'", field="coupon")
    payer = catalog.customer(payer.parent) if payer.parent else payer
    now = billing.clock.now_us()
    _check_redeemable(coupon, payer.currency, now, live=catalog.live("coupon", key))
    made = Redemption(id=billing.ids.new("red"), customer=payer.key, coupon=coupon, at_us=now)

    def decide(standing: Standing) -> Moves:
        for one in standing.held.redemptions:
            if one.coupon.key == key and one.ended_us is None:
                message = f"{payer.key} has redeemed coupon {key} already"
                raise Conflict(message, code="coupon-redeemed", field="coupon")
        return _held(standing, Holdings(redemptions=(made,)))

    _insist(settling, payer.key, (), decide)
    return made


def _check_redeemable(coupon: Coupon, currency: str, now_us: int, *, live: bool) -> None:
    if not live:
        raise Conflict(f"coupon {coupon.key} is archived", code="coupon-over", field="coupon")
    if coupon.redeem_until_us is not None and now_us >= coupon.redeem_until_us:
        message = f"coupon {coupon.key} can no longer be redeemed"
        raise Conflict(message, code="coupon-over", field="coupon")
    if coupon.currency not in {"", currency}:
        message = f"coupon {coupon.key} is in {coupon.currency}, the customer pays {currency}"
        raise Invalid(message, field="currency")


def withdraw_coupon(settling: Settling, customer: str, redemption: str) -> Redemption:
    """End a redemption and return it; invoices that used it stay as they are.

    Raises:
        Missing: the customer has no such redemption.
    """
    now = settling.billing.clock.now_us()

    def decide(standing: Standing) -> Moves:
        for one in standing.held.redemptions:
            if one.id == redemption:
                ended = msgspec.structs.replace(one, ended_us=one.ended_us or now)
                return _held(standing, Holdings(redemptions=(ended,)))
        raise Missing(f"{customer} has no redemption '{redemption}'", field="redemption")

    return _insist(settling, customer, (), decide).held.redemptions[0]


def put_extras(
    settling: Settling, customer: str, extras: Sequence[Extra]
) -> tuple[PendingExtra, ...]:
    """Put one-off charges on a customer's next invoice, or on that of who pays for it.

    Raises:
        Missing: there is no such customer, or no such tax.
    """
    billing = settling.billing
    catalog = billing.catalog.load(billing.tenant)
    owner = catalog.customer(customer)
    for tax in sorted({key for extra in extras for key in extra.taxes or ()}):
        if not catalog.live("tax", tax):
            raise Missing(f"there is no tax '{tax}'", field="taxes")
    now = billing.clock.now_us()
    made = tuple(
        PendingExtra(customer=owner.key, currency=owner.currency, at_us=now, extra=extra)
        for extra in extras
    )
    with settling.settlements.transaction(billing.tenant) as transaction:
        transaction.put_extras(made)
    return made


def withdraw_extra(settling: Settling, customer: str, name: str) -> PendingExtra:
    """Take back a one-off charge that waits: no invoice will have it.

    Raises:
        Missing: the customer has no such charge, or it was taken back before.
        Conflict: an invoice has it; code 'charge-billed'.
    """
    billing, now = settling.billing, settling.billing.clock.now_us()
    payer = billing.catalog.load(billing.tenant).payer(customer).key

    def decide(standing: Standing) -> Moves:
        # Read after the payer's version: an invoice that takes it in between moves that on.
        found = settling.settlements.charge(billing.tenant, name)
        if found.customer != customer or found.invoice == WITHDRAWN:
            raise Missing(f"no one-off charge '{name}' of {customer} waits", field="charge")
        if found.invoice:
            message = f"the one-off charge '{found.extra.name}' is billed; credit or void it"
            raise Conflict(message, code="charge-billed", field="charge")
        taken = msgspec.structs.replace(found, invoice=WITHDRAWN)
        moves = _held(standing, Holdings(extras=(taken,)))
        return msgspec.structs.replace(moves, facts=(_withdrawn(taken, now),))

    return _insist(settling, payer, (), decide).held.extras[0]


def _withdrawn(taken: PendingExtra, at_us: int) -> Fact:
    extra = taken.extra
    body = ChargeTold(
        charge=extra.id, name=extra.name, amount=plain(extra.amount), currency=taken.currency
    )
    return fact("charge.withdrawn", extra.id, taken.customer, at_us, body)


def _held(standing: Standing, held: Holdings) -> Moves:
    return Moves(customer=standing.customer, version=standing.version, held=held)


def _invoice(settling: Settling, name: str) -> tuple[Invoice, InvoiceHead]:
    stored = settling.billing.invoices.invoice(settling.billing.tenant, name)
    return decode_invoice(stored.body), stored.head


def _insist(
    settling: Settling,
    customer: str,
    invoices: Sequence[str],
    decide: Callable[[Standing], Moves],
) -> Moves:
    """Decide from where a customer stands and write; again while others move it."""
    tenant = settling.billing.tenant

    def attempt() -> Moves:
        moves = decide(settling.settlements.standing(tenant, customer, invoices))
        with settling.settlements.transaction(tenant) as transaction:
            transaction.settle(moves)
        return moves

    return insist(attempt)
