"""What is told outside of limits: a warning is reached, a limit was exceeded; once a window."""

import msgspec

from tallybook.admit.plan.decide import Tell
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.ids import derived_id
from tallybook.kernel.timestamps import format_us

WARNING, EXCEEDED = "usage_plan.warning", "usage_plan.exceeded"


class LimitTold(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a fact about a limit.

    Attributes:
        usage_plan: key of the plan.
        limit: key of the limit within it.
        size: how many it allows.
        counts: requests or events.
        who: whose requests are counted together, such as 'key:key_…'.
        percent: of the warning that is reached; null where the limit was exceeded.
        window_start: RFC 3339.
    """

    usage_plan: str
    limit: str
    size: int
    counts: str
    who: str
    percent: int | None
    window_start: str


def told(tell: Tell, at_us: int) -> Fact:
    """Return the fact of a telling; its id is the same however often it is told."""
    bound = tell.bound
    kind = WARNING if tell.percent else EXCEEDED
    body = LimitTold(
        usage_plan=bound.plan,
        limit=bound.limit.key,
        size=bound.limit.size,
        counts=bound.limit.counts,
        who=bound.who,
        percent=tell.percent or None,
        window_start=format_us(tell.window_us),
    )
    parts = (bound.plan, bound.limit.key, bound.who, str(tell.window_us), str(tell.percent))
    return Fact(
        id=derived_id("fact", kind, *parts),
        kind=kind,
        subject=bound.who,
        customer=bound.customer,
        at_us=at_us,
        body=msgspec.json.encode(body).decode(),
    )
