"""Facts that come with time, or from the lake, instead of from a command: what is told when.

Nobody's transaction makes an invoice overdue or an edge silent; somebody must look. What was told
is marked in the transaction of the fact (`ports.Marks`), so that looking again tells nothing twice.
"""

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from tallybook.invoice.ports import InvoiceHead
from tallybook.kernel.book.fact import Fact, fact
from tallybook.kernel.decimals import plain
from tallybook.kernel.money import money_text
from tallybook.kernel.timestamps import SECOND_US, format_us
from tallybook.settle.entitlement import Value

PERCENTS = (80, 95)
"""Parts of what an entitlement grants at which `entitlement.threshold` is told."""
EXHAUSTED = 100
_LEVELS = 128
"""Above every level, so that a period's start and a level are one number."""


class OverdueTold(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `invoice.overdue`; money is a string, times are RFC 3339."""

    id: str
    number: str
    customer: str
    currency: str
    total: str
    open: str
    issued: str
    due: str


class EntitlementTold(msgspec.Struct, frozen=True, kw_only=True):
    """The body of facts about an entitlement; amounts are in its unit.

    Attributes:
        percent: of what is granted in this usage period: the threshold that is reached.
    """

    entitlement: str
    customer: str
    feature: str
    percent: int
    usage: str
    granted: str
    balance: str
    overage: str
    period_start: str
    period_end: str


class QuarantineTold(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `quarantine.received`: what came into quarantine since the last one.

    Attributes:
        count: pieces.
        reasons: code -> pieces.
        until_commit: of the lake.
    """

    count: int
    reasons: dict[str, int]
    until_commit: int


class EdgeTold(msgspec.Struct, frozen=True, kw_only=True):
    """The body of facts about an edge; times are RFC 3339."""

    edge: str
    last_seen: str
    silent_seconds: int


def overdue_fact(head: InvoiceHead, now_us: int) -> Fact:
    """Return the fact that an invoice is past its due date."""
    body = OverdueTold(
        id=head.id,
        number=head.number,
        customer=head.customer,
        currency=head.currency,
        total=money_text(head.total_minor, head.currency),
        open=money_text(head.open_minor, head.currency),
        issued=format_us(head.issued_us),
        due=format_us(head.due_us),
    )
    return fact("invoice.overdue", head.id, head.customer, now_us, body)


def entitlement_level(told: Value) -> int:
    """Return the greatest threshold that usage has reached, 0 for none, 100 for exhausted."""
    if told.usage <= 0:
        return 0
    if told.balance <= 0:
        return EXHAUSTED
    used = told.usage * 100
    return max((one for one in PERCENTS if used >= told.available * one), default=0)


def entitlement_mark(told: Value) -> int:
    """Return period and threshold as the one number that is kept."""
    assert told.period is not None, "only metered ones are looked at"
    return told.period.start_us * _LEVELS + entitlement_level(told)


def entitlement_fact(
    key: str, customer: str, feature: str, told: Value, mark: int | None, now_us: int
) -> Fact | None:
    """Return the fact that an entitlement has reached another threshold; None where it has not.

    Args:
        key: of the entitlement.
        customer: whose.
        feature: of what.
        told: how it stands.
        mark: what was kept when it was looked at last; None before.
        now_us: microseconds UTC.
    """
    assert told.period is not None, "only metered ones are looked at"
    start_us, level = divmod(mark, _LEVELS) if mark is not None else (None, 0)
    reached = entitlement_level(told)
    before = level if start_us == told.period.start_us else 0
    if reached <= before:
        return None
    body = EntitlementTold(
        entitlement=key,
        customer=customer,
        feature=feature,
        percent=reached,
        usage=plain(told.usage),
        granted=plain(Decimal(told.available)),
        balance=plain(told.balance),
        overage=plain(told.overage),
        period_start=format_us(told.period.start_us),
        period_end=format_us(told.period.end_us),
    )
    if reached == EXHAUSTED:
        return fact("entitlement.exhausted", key, customer, now_us, body, str(now_us))
    return fact("entitlement.threshold", key, customer, now_us, body, str(now_us))


def quarantine_fact(reasons: Mapping[str, int], until_commit: int, now_us: int) -> Fact:
    """Return the fact that something came into quarantine."""
    body = QuarantineTold(
        count=sum(reasons.values()),
        reasons=dict(sorted(reasons.items())),
        until_commit=until_commit,
    )
    return fact("quarantine.received", str(until_commit), "", now_us, body)


def edge_silent_fact(name: str, last_seen_us: int, now_us: int) -> Fact:
    """Return the fact that an edge was not heard of for long."""
    body = _edge(name, last_seen_us, now_us)
    return fact("edge.silent", name, "", now_us, body, str(last_seen_us))


def edge_returned_fact(name: str, silent_since_us: int, now_us: int) -> Fact:
    """Return the fact that an edge that was told silent is heard of again."""
    body = _edge(name, silent_since_us, now_us)
    return fact("edge.returned", name, "", now_us, body, str(silent_since_us))


def _edge(name: str, since_us: int, now_us: int) -> EdgeTold:
    silent = max(0, now_us - since_us) // SECOND_US
    return EdgeTold(edge=name, last_seen=format_us(since_us), silent_seconds=silent)
