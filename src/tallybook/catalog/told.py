"""The facts of contracts that are told outside, each in the transaction that made it so."""

from collections.abc import Iterable

import msgspec

from tallybook.catalog.catalog import Catalog, Entry
from tallybook.catalog.subscription import Subscription
from tallybook.kernel.book.fact import Fact, fact
from tallybook.kernel.timestamps import format_us

CREATED = "subscription.created"


class SubscriptionTold(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `subscription.created`; times are RFC 3339.

    Attributes:
        base: key of the subscription that this add-on belongs to; '' for none.
        end: null for good.
    """

    subscription: str
    customer: str
    plan: str
    base: str
    start: str
    end: str | None


def created_facts(catalog: Catalog, entries: Iterable[Entry], now_us: int) -> list[Fact]:
    """Return that subscriptions among some entries are new.

    Args:
        catalog: before the entries.
        entries: that are written.
        now_us: microseconds UTC.
    """
    return [
        _created(entry, now_us)
        for entry in entries
        if isinstance(entry, Subscription) and entry.key not in catalog.subscriptions
    ]


def _created(subscription: Subscription, now_us: int) -> Fact:
    end_us = subscription.end_us
    body = SubscriptionTold(
        subscription=subscription.key,
        customer=subscription.customer,
        plan=subscription.plan,
        base=subscription.base,
        start=format_us(subscription.start_us),
        end=None if end_us is None else format_us(end_us),
    )
    return fact(CREATED, subscription.key, subscription.customer, now_us, body)
