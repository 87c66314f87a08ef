"""A subscription: a customer on a plan from an instant on; and its periods, stored when opened.

A stored period keeps its start and its whole: a later change of zone or anchor begins with the
period that is opened next. What was decided about the subscription may still shorten it, or move
its end back to where it was.

Source: DECISIONS 21, 26; docs/algorithms/periods.md, docs/algorithms/subscriptions.md
"""

from decimal import Decimal

import msgspec

from tallybook.catalog.amendment import Amendment
from tallybook.catalog.price import Price


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """A customer on a plan.

    Attributes:
        key: stable name, unique within the tenant.
        plan_version: pinned, or None for the newest at the time each period is opened.
        start_us: first instant, microseconds UTC.
        end_us: first instant after it, or None for "for good".
        anchor_day: day of the month on which periods start, 1..31.
        rule: key of the customer rule that made it; '' for none.
        anchor_us: an instant that is a start of a period, of every interval; None to align by
            `anchor_day`: months on that day, years on that day of January, weeks on Monday.
        base: key of the subscription that this add-on belongs to; it ends and pauses with it.
        quantities: charge key -> units of a fixed fee from the start on.
        prices: charge key -> this customer's own price from the start on.
        minimum: commitment for a whole period in place of the plan's.
        thresholds: in place of the plan's; None for the plan's.
        amendments: in the order they were recorded.
    """

    key: str
    customer: str
    plan: str
    start_us: int
    end_us: int | None = None
    anchor_day: int = 1
    plan_version: int | None = None
    rule: str = ""
    anchor_us: int | None = None
    base: str = ""
    quantities: dict[str, Decimal] = {}
    prices: dict[str, Price] = {}
    minimum: Decimal | None = None
    thresholds: tuple[Decimal, ...] | None = None
    amendments: tuple[Amendment, ...] = ()


class StoredPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """One period of a subscription, as it was opened.

    Attributes:
        start_us: first instant that counts; later than `full_start_us` in a partial first period.
        end_us: first instant after it; earlier than `full_end_us` in a partial last period, and
            `start_us` where nothing of it is left.
        full_start_us: where the whole period starts; the denominator of proration.
        full_end_us: where the whole period ends.
        plan: what it was opened with, or what an amendment put in its place.
        plan_version: the plan's version when it was opened.
        meters: meter key -> version; follows corrections while open, fixed once closed.
        until_us: usage before this was billed; `start_us` where nothing was.
        cut: snapshot of the newest billing.
        closed: billed past its end; its usage still counts, as adjustments.
        interval: of which of the plan's intervals it is a period, such as P1M.
        phase: key of the plan's phase; '' for none.
        prices: this customer's own prices when it was opened.
        credited: a fee in advance shrinks where an amendment shortens the period.
        again: an invoice that corrected it was voided: the next run rates all of it again.
    """

    subscription: str
    start_us: int
    end_us: int
    full_start_us: int
    full_end_us: int
    plan: str
    plan_version: int
    until_us: int
    cut: int = 0
    meters: dict[str, int] = {}
    closed: bool = False
    interval: str = "P1M"
    phase: str = ""
    prices: dict[str, Price] = {}
    credited: bool = True
    again: bool = False
