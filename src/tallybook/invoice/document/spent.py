"""What an invoice used of its customer's account, and what is left of a coupon.

Source: docs/algorithms/invoice-totals.md, docs/algorithms/coupons.md
"""

import msgspec

from tallybook.invoice.document.invoice import Draft
from tallybook.invoice.document.number import number_text
from tallybook.invoice.funds import CouponInHand
from tallybook.invoice.ports import Spent
from tallybook.kernel.money import to_minor


def spent(draft: Draft, number: int) -> Spent:
    """Return what a draft uses of its customer's account when it is finalized with a number."""
    invoice = draft.invoice
    return Spent(
        customer=invoice.customer_key,
        version=invoice.manifest.funds.version,
        invoice=invoice.id,
        number=number_text(invoice.series, number),
        currency=invoice.currency,
        at_us=invoice.manifest.issued_us,
        coupons=invoice.discounts,
        credits=invoice.credits,
        wallets=invoice.prepaid,
        extras=tuple(extra.id for extra in invoice.manifest.extras),
        carried_minor=invoice.carried_minor,
    )


def after_use(hand: CouponInHand, used_minor: int) -> CouponInHand | None:
    """Return what is left of a coupon after it took something off an invoice; None for nothing.

    An amount that counts once is used up; a percentage that counts once is for one invoice; a
    recurring coupon is for one invoice less; one that counts forever stays.
    """
    coupon = hand.coupon
    if coupon.duration == "forever":
        return hand
    if coupon.duration == "recurring":
        left = (hand.invoices_left or 0) - 1
        return msgspec.structs.replace(hand, invoices_left=left) if left > 0 else None
    if coupon.amount is None:
        return None
    whole = to_minor(coupon.amount, coupon.currency)
    rest = (whole if hand.left_minor is None else hand.left_minor) - used_minor
    return msgspec.structs.replace(hand, left_minor=rest) if rest > 0 else None
