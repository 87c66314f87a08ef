"""What customers hold that invoices take from: redeemed coupons, credits, one-off charges.

Source: docs/algorithms/coupons.md, docs/algorithms/credit-notes.md
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal, TypeVar

import msgspec

from tallybook.catalog.coupon import Coupon
from tallybook.invoice.document import Invoice
from tallybook.invoice.funds import CouponInHand, CreditInHand, Funds, WalletInHand
from tallybook.invoice.manifest import Extra
from tallybook.invoice.ports import Account, Spent
from tallybook.kernel.errors import Conflict, Corrupt
from tallybook.kernel.money import to_minor

T = TypeVar("T")

Purpose = Literal["credit", "refund"]
"""credit: pays invoices to come; refund: waits to be paid out."""


class Redemption(msgspec.Struct, frozen=True, kw_only=True):
    """A coupon put to a customer's use.

    Attributes:
        coupon: as it was when it was redeemed.
        at_us: when, microseconds UTC; invoices from then on.
        used_minor: taken off invoices so far.
        invoices: how many invoices it took something off.
        ended_us: taken away from the customer; None where it was not.
    """

    id: str
    customer: str
    coupon: Coupon
    at_us: int
    used_minor: int = 0
    invoices: int = 0
    ended_us: int | None = None


class Credit(msgspec.Struct, frozen=True, kw_only=True):
    """An amount that a customer is owed.

    Attributes:
        source: id of the credit note, of the invoice whose total was below zero, or of the
            payment that was more than was open.
        number: of that document, or the payment's reference.
        at_us: oldest is used first.
        amount_minor: above zero; left_minor: of it, 0 or more.
    """

    source: str
    number: str
    customer: str
    currency: str
    at_us: int
    amount_minor: int
    left_minor: int
    purpose: Purpose = "credit"


WITHDRAWN = "withdrawn"


class PendingExtra(msgspec.Struct, frozen=True, kw_only=True):
    """A one-off charge or credit of a customer.

    Attributes:
        batch: those of one batch go on an invoice of their own; '' for the customer's next one.
        invoice: id of the invoice that it is on; '' where it waits, `WITHDRAWN` where it was
            taken back before an invoice had it.
    """

    customer: str
    currency: str
    at_us: int
    extra: Extra
    batch: str = ""
    invoice: str = ""


def coupon_in_hand(redemption: Redemption, currency: str) -> CouponInHand | None:
    """Return what is left of a redeemed coupon for invoices in a currency; None for nothing."""
    coupon = redemption.coupon
    if redemption.ended_us is not None or coupon.currency not in {"", currency}:
        return None
    if coupon.duration == "once" and coupon.amount is None and redemption.invoices:
        return None
    left_minor = _left(coupon, coupon.amount, redemption.used_minor)
    times = None if coupon.invoices is None else coupon.invoices - redemption.invoices
    if left_minor == 0 or times == 0:
        return None
    return CouponInHand(
        redemption=redemption.id,
        coupon=coupon,
        left_minor=left_minor,
        invoices_left=times,
        redeemed_us=redemption.at_us,
    )


def _left(coupon: Coupon, amount: Decimal | None, used_minor: int) -> int | None:
    if coupon.duration != "once" or amount is None:
        return None
    return to_minor(amount, coupon.currency) - used_minor


def used(redemption: Redemption, amount_minor: int) -> Redemption:
    """Return a redemption after an invoice took an amount off with it."""
    return msgspec.structs.replace(
        redemption,
        used_minor=redemption.used_minor + amount_minor,
        invoices=redemption.invoices + 1,
    )


def returned(redemption: Redemption, amount_minor: int) -> Redemption:
    """Return a redemption after that invoice was taken back."""
    return msgspec.structs.replace(
        redemption,
        used_minor=redemption.used_minor - amount_minor,
        invoices=redemption.invoices - 1,
    )


def drawn(credit: Credit, amount_minor: int) -> Credit:
    """Return a credit with an amount less, or with more where a negative one is given back.

    Raises:
        Conflict: there is not so much left.
    """
    left = credit.left_minor - amount_minor
    if not 0 <= left <= credit.amount_minor:
        message = f"of the credit of {credit.number} {credit.left_minor} minor units are left"
        raise Conflict(message, code="account-moved", field="amount")
    return msgspec.structs.replace(credit, left_minor=left)


class Holdings(msgspec.Struct, frozen=True, kw_only=True):
    """Things that customers hold, as they are, or as they are to be."""

    redemptions: tuple[Redemption, ...] = ()
    credits: tuple[Credit, ...] = ()
    extras: tuple[PendingExtra, ...] = ()


def account_at(
    version: int, held: Holdings, wallets: tuple[WalletInHand, ...], currency: str, at_us: int
) -> Account:
    """Return what a customer can use for an invoice in a currency, at an instant.

    Args:
        version: of its account.
        held: by it, oldest first.
        wallets: in the order in which they pay.
        currency: ISO 4217.
        at_us: what it holds from later on does not count, microseconds UTC.
    """
    coupons = (coupon_in_hand(one, currency) for one in held.redemptions if one.at_us <= at_us)
    return Account(
        funds=Funds(
            version=version,
            coupons=tuple(coupon for coupon in coupons if coupon is not None),
            credits=tuple(
                CreditInHand(
                    source=one.source,
                    number=one.number,
                    left_minor=one.left_minor,
                    at_us=one.at_us,
                )
                for one in held.credits
                if one.left_minor and one.purpose == "credit" and _counts(one, currency, at_us)
            ),
            wallets=wallets,
        ),
        extras=tuple(
            one.extra
            for one in held.extras
            if not one.invoice and not one.batch and _counts(one, currency, at_us)
        ),
    )


def _counts(one: Credit | PendingExtra, currency: str, at_us: int) -> bool:
    return one.currency == currency and one.at_us <= at_us


def after_invoice(spent: Spent, held: Holdings) -> Holdings:
    """Return what an invoice took things to, and the credit that it gave.

    Args:
        spent: by one invoice.
        held: at least everything that it names.

    Raises:
        Conflict: less is left than was taken, or a one-off charge is billed already.
        Corrupt: something it names is not there.
    """
    redemptions = {one.id: one for one in held.redemptions}
    credits_ = {one.source: one for one in held.credits}
    waiting = {one.extra.id: one for one in held.extras}
    return Holdings(
        redemptions=tuple(
            used(_named(redemptions, coupon.redemption), coupon.amount_minor)
            for coupon in spent.coupons
        ),
        credits=(
            *(drawn(_named(credits_, one.source), one.amount_minor) for one in spent.credits),
            *_carried(spent),
        ),
        extras=tuple(_billed(_named(waiting, extra), spent.invoice) for extra in spent.extras),
    )


def after_void(invoice: Invoice, held: Holdings) -> Holdings:
    """Return what things are once a finalized invoice is taken back.

    Its one-off charges wait for the customer's next invoice.

    Raises:
        Conflict: the credit that it gave is used.
        Corrupt: something it names is not there.
    """
    redemptions = {one.id: one for one in held.redemptions}
    credits_ = {one.source: one for one in held.credits}
    waiting = {one.extra.id: one for one in held.extras}
    given = (_named(credits_, invoice.id),) if invoice.carried_minor else ()
    return Holdings(
        redemptions=tuple(
            returned(_named(redemptions, coupon.redemption), coupon.amount_minor)
            for coupon in invoice.discounts
        ),
        credits=(
            *(drawn(_named(credits_, u.source), -u.amount_minor) for u in invoice.credits),
            *(withdrawn(credit) for credit in given),
        ),
        extras=tuple(
            msgspec.structs.replace(_named(waiting, extra.id), invoice="", batch="")
            for extra in invoice.manifest.extras
        ),
    )


def withdrawn(credit: Credit) -> Credit:
    """Return a credit whose document is taken back; raises Conflict where it is used."""
    if credit.left_minor != credit.amount_minor:
        message = f"the credit of {credit.number} is used; what used it must be taken back first"
        raise Conflict(message, code="credit-used")
    return msgspec.structs.replace(credit, left_minor=0)


def _named(held: Mapping[str, T], name: str) -> T:
    if name not in held:
        raise Corrupt(f"an invoice names {name}, which is not there")
    return held[name]


def _billed(extra: PendingExtra, invoice: str) -> PendingExtra:
    if extra.invoice:
        message = f"the one-off charge '{extra.extra.name}' is billed already"
        raise Conflict(message, code="account-moved")
    return msgspec.structs.replace(extra, invoice=invoice)


def _carried(spent: Spent) -> tuple[Credit, ...]:
    if not spent.carried_minor:
        return ()
    carried = Credit(
        source=spent.invoice,
        number=spent.number,
        customer=spent.customer,
        currency=spent.currency,
        at_us=spent.at_us,
        amount_minor=spent.carried_minor,
        left_minor=spent.carried_minor,
    )
    return (carried,)
