"""Safety bounds: what no sane run makes is refused and parked, never truncated.

Source: docs/algorithms/billing-runs.md
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from tallybook.catalog.subscription import StoredPeriod
from tallybook.invoice.document import Draft
from tallybook.invoice.manifest import Group, Position
from tallybook.invoice.ports import Bounds
from tallybook.kernel.errors import Conflict
from tallybook.kernel.money import money_text
from tallybook.kernel.timestamps import format_us


def check_draft(draft: Draft, today: int, bounds: Bounds) -> Draft:
    """Return the draft when it is within the bounds.

    Args:
        draft: composed.
        today: invoices that the customer got within the last 24 hours.
        bounds: what is sane.

    Raises:
        Conflict: too many lines, a total too large, too many invoices, or something twice.
    """
    invoice = draft.invoice
    who = f"the invoice of {invoice.customer_key}"
    if len(draft.lines) > bounds.lines_max:
        message = f"{who} would have {len(draft.lines)} lines, at most {bounds.lines_max}"
        raise Conflict(message, code="too-many-lines")
    if abs(invoice.total_minor) > bounds.total_minor_max:
        most = money_text(bounds.total_minor_max, invoice.currency)
        message = f"{who} would come to {invoice.total} {invoice.currency}, at most {most}"
        raise Conflict(message, code="total-out-of-bounds")
    if today >= bounds.invoices_a_day_max:
        message = f"{invoice.customer_key} got {today} invoices within a day, that is the most"
        raise Conflict(message, code="too-many-invoices")
    _once((line.item.position, line.billed.group) for line in draft.lines)
    return draft


def check_periods(periods: Sequence[StoredPeriod]) -> None:
    """Refuse periods that charge for one time twice.

    Args:
        periods: of one subscription, of all its intervals.

    Raises:
        Conflict: two periods of one interval hold the same instant.
    """
    by_interval: dict[str, list[StoredPeriod]] = {}
    for period in periods:
        if period.end_us > period.start_us:
            by_interval.setdefault(period.interval, []).append(period)
    for rising in by_interval.values():
        rising.sort(key=lambda period: period.start_us)
        for before, after in pairwise(rising):
            if after.start_us < before.end_us:
                message = (
                    f"subscription {after.subscription} would pay twice from"
                    f" {format_us(after.start_us)} on: two of its periods overlap"
                )
                raise Conflict(message, code="double-billing")


def _once(billed: Iterable[tuple[Position, Group]]) -> None:
    """Refuse a line that stands there twice."""
    seen: set[tuple[Position, Group]] = set()
    for one in billed:
        if one in seen:
            position = one[0]
            message = (
                f"charge {position.charge} of subscription {position.subscription} would be billed"
                f" twice for the period from {format_us(position.start_us)} on"
            )
            raise Conflict(message, code="double-billing")
        seen.add(one)
