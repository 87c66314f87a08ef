"""Which closed periods cannot have changed since their payer was billed: they are not asked again.

A run that has looked at everything of a payer remembers the snapshot that it counted. The next one
asks the lake once who has events of later commits, and from which instant on; a closed period that
ends by then is as it was. So the cost of a run follows the events that are new, not the history.

Nothing is taken for quiet where anything but usage may have changed: the payer, whom it pays for,
whose subjects are whose, subscriptions, time zones, rules; or what was billed, by a void, say.

Source: docs/algorithms/billing-runs.md
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.invoice.manifest import RULES_VERSION
from tallybook.invoice.ports import Billing, BillingRun, Books, Seen
from tallybook.invoice.run.payers import Payer

CUTS_MAX = 4
"""Most snapshots that are asked from in one go; whoever was billed at another is asked in full."""
_NEVER_US = 1 << 62


def seen_now(payer: Payer, tz: str, cut: int) -> Seen:
    """Return what is remembered of a payer that is billed at a cut.

    Args:
        payer: with everything that it pays for.
        tz: version of the time zone data.
        cut: snapshot.
    """
    told = msgspec.json.encode(
        (payer.customer, payer.members, payer.subscriptions, tz, RULES_VERSION)
    )
    return Seen(terms=hashlib.sha256(told).hexdigest(), cut=cut)


def quiet(
    billing: Billing, run: BillingRun, catalog: Catalog, books: Books, payers: Sequence[Payer]
) -> dict[str, int]:
    """Return, by payer, up to which instant its closed periods are as they were counted.

    A payer that is not in it may have changed anywhere.

    Args:
        billing: ports.
        run: asks at its cut.
        catalog: of the run.
        books: of the payers.
        payers: with what they pay for.

    Cost: one question for each event type and each of the snapshots the payers were billed at,
        about commits since then, and times before the last closed period's end.
    """
    known = {
        payer.key: cut for payer in payers if (cut := _cut(billing, run, books, payer)) is not None
    }
    ends = [one.end_us for some in books.periods.values() for one in some if one.closed]
    if not known or not ends:
        return {}
    first = {
        after: _new_since(billing, run, catalog, after, max(ends))
        for after, _ in Counter(known.values()).most_common(CUTS_MAX)
    }
    return {
        payer.key: _first(payer, first[known[payer.key]])
        for payer in payers
        if known.get(payer.key) in first
    }


def _new_since(
    billing: Billing, run: BillingRun, catalog: Catalog, after: int, before_us: int
) -> dict[str, int]:
    """Return, by subject, the time of the earliest event that came after a snapshot."""
    found: dict[str, int] = {}
    types = {meter.event_type for versions in catalog.meters.values() for meter in versions}
    for kind in sorted(types):
        new = billing.usage.touched(billing.tenant, kind, after, run.cut, before_us=before_us)
        for one in new:
            found[one.subject] = min(one.first_us, found.get(one.subject, _NEVER_US))
    return found


def _cut(billing: Billing, run: BillingRun, books: Books, payer: Payer) -> int | None:
    """Return the snapshot that a payer was billed at, where nothing but usage changed since."""
    seen = books.seen.get(payer.key)
    if seen is None or seen.cut > run.cut or seen != seen_now(payer, billing.tz, seen.cut):
        return None
    return seen.cut


def _first(payer: Payer, by_subject: dict[str, int]) -> int:
    """Return the time of a payer's earliest new event."""
    spans = (span for one in (payer.customer, *payer.members) for span in one.subjects)
    return min((by_subject.get(span.subject, _NEVER_US) for span in spans), default=_NEVER_US)
