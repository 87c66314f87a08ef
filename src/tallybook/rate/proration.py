"""What a fixed fee costs in a partial period.

Source: docs/algorithms/proration.md
"""

from decimal import Decimal
from zoneinfo import ZoneInfo

from tallybook.catalog.plan import Proration
from tallybook.kernel.decimals import EXACT, divide, plain
from tallybook.kernel.period import Period, days_between
from tallybook.rate.charge import Rated, Step

ONE = Decimal(1)


def rate_fee(
    amount: Decimal, proration: Proration, part: Period, whole: Period, tz: ZoneInfo
) -> Rated:
    """Return what a fixed fee costs for the part of a whole period.

    Args:
        amount: for the whole period, exact.
        proration: how it shrinks.
        part: what counts, within `whole`.
        whole: the period as it would be without the subscription's start and end.
        tz: the customer's zone, in which days are counted.

    Returns:
        The exact amount, a quotient with 80 digits; quantity is 1.
    """
    taken, of, unit = _share(proration, part, whole, tz)
    if taken == of:
        step = Step(text=f"fixed fee: {plain(amount)}", amount=plain(amount))
        return Rated(quantity=ONE, amount=amount, steps=(step,))
    product = EXACT.multiply(amount, Decimal(taken))
    exact = EXACT.divide(product, Decimal(of))
    shown = plain(divide(product, Decimal(of)))
    text = f"fixed fee: {plain(amount)} × {taken} of {of} {unit} = {shown}"
    return Rated(quantity=ONE, amount=exact, steps=(Step(text=text, amount=shown),))


def _share(proration: Proration, part: Period, whole: Period, tz: ZoneInfo) -> tuple[int, int, str]:
    """Return how much of how much, and of what."""
    if proration == "day":
        taken = days_between(part.start_us, part.end_us, tz)
        return taken, days_between(whole.start_us, whole.end_us, tz), "days"
    if proration == "second":
        return part.end_us - part.start_us, whole.end_us - whole.start_us, "microseconds"
    return 1, 1, "periods"
