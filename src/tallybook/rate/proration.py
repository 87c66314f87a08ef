"""How much of a whole period counts: of a fixed fee, or a minimum, in a partial one.

Source: docs/algorithms/proration.md
"""

from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from tallybook.catalog.plan import Proration
from tallybook.kernel.decimals import EXACT
from tallybook.kernel.period import Period, days_between


class Portion(msgspec.Struct, frozen=True):
    """How much of a whole period counts.

    Attributes:
        taken: of `full`, both in `unit`.
    """

    taken: int = 1
    full: int = 1
    unit: str = "periods"

    def whole(self) -> bool:
        """Whether all of it counts."""
        return self.taken == self.full

    def of_amount(self, amount: Decimal) -> Decimal:
        """Return the portion's part of an amount, a quotient with 80 digits."""
        if self.whole():
            return amount
        return EXACT.divide(EXACT.multiply(amount, Decimal(self.taken)), Decimal(self.full))


WHOLE = Portion()


@lru_cache(maxsize=4096)
def portion(proration: Proration, part: Period, whole: Period, tz: ZoneInfo) -> Portion:
    """Return how much of a whole period a part of it is.

    Args:
        proration: by days of the zone, by exact time, or not at all.
        part: what counts, within `whole`.
        whole: the period as it would be without the subscription's start and end.
        tz: the customer's zone, in which days are counted.
    """
    if proration == "day":
        taken = days_between(part.start_us, part.end_us, tz)
        return Portion(taken, days_between(whole.start_us, whole.end_us, tz), "days")
    if proration == "second":
        return Portion(part.end_us - part.start_us, whole.end_us - whole.start_us, "microseconds")
    return WHOLE
