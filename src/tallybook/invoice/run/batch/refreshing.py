"""Drafts kept up to date in their days of grace: composed anew where anything has changed.

What may have changed is asked of everybody in few questions: versions of books, accounts and
catalog, and who has new events of times that a draft counts. Only those drafts are composed again.

Source: docs/algorithms/invoice-life.md
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.invoice.due import BillRequest, horizon
from tallybook.invoice.ports import Billing, Parked, StoredDraft, Waiting
from tallybook.invoice.run.batch.together import Anew, by_run, composed_anew
from tallybook.invoice.run.grace import ended, refreshed
from tallybook.invoice.run.storing import write
from tallybook.kernel.errors import Conflict
from tallybook.kernel.timestamps import DAY_US

DRAFTS_AT_ONCE = 500
"""Most drafts that are composed anew in one round."""
_PLACES_AT_ONCE = 10_000
_NEVER_US = 1 << 62


class Mark(msgspec.Struct, frozen=True):
    """What a draft was composed from: while it stands, only new events can change the draft.

    Attributes:
        books, account, catalog: versions.
        day: since 1970, UTC; each day a draft is composed anew, for what comes with time.
    """

    books: int
    account: int
    catalog: int
    day: int


class Known(msgspec.Struct, frozen=True):
    """What is known of a tenant's open drafts.

    Attributes:
        cut: snapshot up to which events were looked at; None where none were.
        marks: by draft, what it was composed from.
        until_us: by draft, the end of the usage that it counts.
    """

    cut: int | None = None
    marks: dict[str, Mark] = {}
    until_us: dict[str, int] = {}


def keep_fresh(billing: Billing, known: Known) -> tuple[Known, int]:
    """Compose anew the drafts that may have changed, a bounded number; return what is known then.

    Args:
        billing: ports.
        known: from the round before; `Known()` at first, when every draft is composed once.

    Returns:
        What is known now, and how many drafts were composed.

    Cost: where nothing has changed, one question for 10,000 drafts, and one for each event type
        where events came in.
    """
    waiting = list(_waiting(billing))
    if not waiting:
        return Known(), 0
    catalog, cut = billing.catalog.load(billing.tenant), billing.usage.head()
    day = billing.clock.now_us() // DAY_US
    now = {one.id: Mark(one.books, one.account, catalog.version, day) for one in waiting}
    late = _late(billing, catalog, known, cut)
    stale = [
        one.id
        for one in waiting
        if known.marks.get(one.id) != now[one.id]
        or late.get(one.customer, _NEVER_US) < known.until_us[one.id]
    ]
    left = now.keys() - stale
    done = {draft.id: draft for draft in refresh_all(billing, stale[:DRAFTS_AT_ONCE])}
    marks = {name: now[name] for name in (*left, *done) if name in now}
    ends = _ends(catalog, done.values())
    ends |= {name: known.until_us[name] for name in marks if name not in done}
    return Known(cut, marks, ends), len(done)


def refresh_all(billing: Billing, names: Sequence[str]) -> list[StoredDraft]:
    """Return drafts composed anew, as they are stored then.

    One that cannot be composed stays as it was, and says why. Those that are not open are left
    out, and those that somebody moved on meanwhile.
    """
    drafts = [billing.invoices.drafts.draft(billing.tenant, name) for name in names]
    still = [draft for draft in drafts if draft.state == "open"]
    return [draft for some in by_run(still) for draft in _refreshed(billing, some)]


def _refreshed(billing: Billing, drafts: Sequence[StoredDraft]) -> list[StoredDraft]:
    """Refresh drafts of one run in one transaction; where it conflicts, each alone."""
    anew = composed_anew(billing, drafts)
    try:
        return _stored(billing, anew)
    except Conflict:
        if len(drafts) == 1:
            return []  # Somebody moved it on; the next round sees it as it is then.
    return [kept for draft in drafts for kept in _refreshed(billing, [draft])]


def _stored(billing: Billing, anew: Anew) -> list[StoredDraft]:
    """Write drafts as they are composed now; one with nothing left to bill ends."""
    versions = {one.customer: version for one, version, _ in anew.failed}
    kept = [
        msgspec.structs.replace(
            one, parked=Parked(customer=one.customer, code=error.code, message=error.message)
        )
        for one, _, error in anew.failed
    ]
    empty = []
    for one, result in anew.made:
        if result.draft is None:
            empty.append(msgspec.structs.replace(result, kept=ended(one, None)))
        else:
            versions[one.customer] = result.version
            kept.append(refreshed(one, result.draft, anew.run.started_us))
    with billing.invoices.transaction(billing.tenant) as transaction:
        transaction.expect(versions)
        transaction.put_drafts(kept)
        write(transaction, empty)
    return kept


def _waiting(billing: Billing) -> Iterator[Waiting]:
    after = ""
    while True:
        some = billing.invoices.drafts.waiting(billing.tenant, limit=_PLACES_AT_ONCE, after=after)
        yield from some
        if len(some) < _PLACES_AT_ONCE:
            return
        after = some[-1].id


def _late(billing: Billing, catalog: Catalog, known: Known, cut: int) -> dict[str, int]:
    """Return, by payer, the time of the earliest event that is new since the last round."""
    if known.cut is None or cut <= known.cut or not known.until_us:
        return {}
    before_us = max(known.until_us.values())
    first: dict[str, int] = {}
    for kind in sorted({meter.event_type for some in catalog.meters.values() for meter in some}):
        new = billing.usage.touched(billing.tenant, kind, known.cut, cut, before_us=before_us)
        _earliest(first, ((one.subject, one.first_us) for one in new))
    found: dict[str, int] = {}
    for customer in catalog.customers.values() if first else ():
        times = [first[span.subject] for span in customer.subjects if span.subject in first]
        _earliest(found, ((customer.parent or customer.key, at_us) for at_us in times))
    return found


def _earliest(found: dict[str, int], times: Iterable[tuple[str, int]]) -> None:
    for name, at_us in times:
        found[name] = min(at_us, found.get(name, _NEVER_US))


def _ends(catalog: Catalog, drafts: Iterable[StoredDraft]) -> dict[str, int]:
    """Return, by draft, the end of the usage that it counts, with or without a line of it yet."""
    asked = list(drafts)
    zones: dict[str, set[str]] = {draft.customer: set() for draft in asked}
    for one in catalog.customers.values() if asked else ():
        for who in zones.keys() & {one.key, one.parent}:
            zones[who].add(one.zone)
    return {draft.id: _until_us(draft, zones[draft.customer]) for draft in asked}


def _until_us(draft: StoredDraft, zones: Iterable[str]) -> int:
    request = BillRequest(period=draft.period, until_us=draft.until_us)
    return max(horizon(request, zone, draft.refreshed_us).until_us for zone in zones)
