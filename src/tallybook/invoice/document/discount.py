"""What coupons take off the lines of an invoice, before tax.

Source: docs/algorithms/coupons.md
"""

from collections.abc import Sequence

import msgspec

from tallybook.catalog.coupon import Coupon
from tallybook.invoice.funds import CouponInHand, CouponUsed
from tallybook.invoice.line import Drafted, Line
from tallybook.invoice.manifest import Billed, Group, Position
from tallybook.kernel.money import allocate, money_text, rounded_parts, to_minor

Before = dict[tuple[Position, Group], Billed]


class Discounted(msgspec.Struct, frozen=True):
    """The discounts of an invoice.

    Attributes:
        by_line: 0 or more; 0 or less on a line below zero, which does not give it back.
        used: in the order of their application; each of them took something.
        before: what was billed before of positions and dimension values that had a discount.
    """

    by_line: list[int]
    used: tuple[CouponUsed, ...]
    before: Before

    def so_far(self, draft: Drafted) -> int:
        """Return what coupons took off earlier lines of a line's position."""
        before = self.before.get((draft.item.position, draft.billed.group))
        return 0 if before is None else before.discount_minor


def coupon_order(hand: CouponInHand) -> tuple[bool, bool, int, str]:
    """Return the sort key of application: limited ones first, then the oldest redemption."""
    coupon = hand.coupon
    unlimited = not (coupon.meters or coupon.charges)
    return unlimited, not coupon.plans, hand.redeemed_us, hand.redemption


def discounted(
    drafts: Sequence[Drafted], coupons: Sequence[CouponInHand], currency: str
) -> Discounted:
    """Return what coupons take off lines.

    Args:
        drafts: lines of the invoice.
        coupons: in any order.
        currency: of the invoice; coupons of another one wait.

    Guarantees: no line above zero goes below zero; the discounts above zero are what the coupons
    took.
    """
    before = _discounted_before(drafts)
    by_line = [_taken_back(draft, before) if before else 0 for draft in drafts]
    if not coupons:
        return Discounted(by_line, (), before)
    left = [max(draft.line.amount_minor, 0) for draft in drafts]
    used: list[CouponUsed] = []
    for hand in sorted(coupons, key=coupon_order):
        eligible = [
            at for at, minor in enumerate(left) if minor and _counts(hand.coupon, drafts[at].line)
        ]
        weights = [left[at] for at in eligible]
        taken = min(_worth_minor(hand, sum(weights), currency), sum(weights))
        if taken <= 0:
            continue
        for at, part in zip(eligible, allocate(taken, weights), strict=True):
            left[at] -= part
            by_line[at] += part
        used.append(_used(hand, taken, currency))
    return Discounted(by_line, tuple(used), before)


def _discounted_before(drafts: Sequence[Drafted]) -> Before:
    """Return what was billed before with a discount; the lines of an item stand together."""
    found: Before = {}
    item = None
    for draft in drafts:
        if draft.item is not item:
            item = draft.item
            for one in item.before:
                if one.discount_minor > 0 < one.amount_minor:
                    found[item.position, one.group] = one
    return found


def _taken_back(draft: Drafted, before: Before) -> int:
    """Return, 0 or below, what a credit does not give back: the discount that it had in part."""
    earlier = before.get((draft.item.position, draft.billed.group))
    if earlier is None or draft.line.amount_minor >= 0:
        return 0
    credit = min(-draft.line.amount_minor, earlier.amount_minor)
    return -rounded_parts([earlier.discount_minor * credit], earlier.amount_minor)[0]


def _counts(coupon: Coupon, line: Line) -> bool:
    """Whether a coupon counts for a line: for each of its limits."""
    if coupon.plans and line.plan not in coupon.plans:
        return False
    if coupon.charges and line.charge not in coupon.charges:
        return False
    return not coupon.meters or (line.meter is not None and line.meter.key in coupon.meters)


def _worth_minor(hand: CouponInHand, base_minor: int, currency: str) -> int:
    """Return what a coupon may take off a base, rounded once."""
    coupon = hand.coupon
    if hand.invoices_left is not None and hand.invoices_left <= 0:
        return 0
    if coupon.percent is not None:
        numerator, denominator = coupon.percent.as_integer_ratio()
        return rounded_parts([base_minor * numerator], 100 * denominator)[0]
    if coupon.currency != currency or coupon.amount is None:
        return 0
    return to_minor(coupon.amount, currency) if hand.left_minor is None else hand.left_minor


def _used(hand: CouponInHand, taken: int, currency: str) -> CouponUsed:
    return CouponUsed(
        redemption=hand.redemption,
        coupon=hand.coupon.key,
        name=hand.coupon.name,
        amount=money_text(taken, currency),
        amount_minor=taken,
    )
