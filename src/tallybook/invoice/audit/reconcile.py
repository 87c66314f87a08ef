"""Conservation: nothing that was acknowledged is lost on the way to money (guarantee 7).

1. received = accepted + duplicate + quarantined, and accepted and quarantined are found by
   counting rows.
2. Per meter: events in scope = billed + not yet billed + not billable; quantities too for COUNT
   and SUM. The four are asked from the lake separately.
3. Per position: what the invoices billed is what the events at their cut give.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.meter import Meter
from tallybook.invoice.audit.claims import Claim, Label, Segment, segments
from tallybook.invoice.due import charges_of
from tallybook.invoice.manifest import Item, Position
from tallybook.invoice.ports import Billing, Books
from tallybook.invoice.questions import OWNERS_MAX, Asked, ask
from tallybook.kernel.decimals import EXACT, plain
from tallybook.kernel.timestamps import format_us
from tallybook.meter.usage import Counters, Ownership, Usage, UsageQuery
from tallybook.rate.ports import EventAccounts
from tallybook.rate.step import ZERO

EARLIEST_US = -62_135_596_800_000_000
LATEST_US = 253_402_300_800_000_000
"""Event times lie in the years 1 to 9999."""

DIFFERENCES_MAX = 100
ADDITIVE = frozenset({"COUNT", "SUM"})


class Tally(msgspec.Struct, frozen=True):
    """Events, and their quantity where quantities of a meter add up."""

    events: int = 0
    quantity: Decimal | None = ZERO

    def __add__(self, other: "Tally") -> "Tally":
        """Return both together."""
        if self.quantity is None or other.quantity is None:
            return Tally(self.events + other.events, None)
        return Tally(self.events + other.events, EXACT.add(self.quantity, other.quantity))

    def __str__(self) -> str:
        """Return it for people."""
        quantity = "" if self.quantity is None else f", quantity {plain(self.quantity)}"
        return f"{self.events} events{quantity}"


class MeterAccount(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the events in scope of one meter.

    in_scope = billed + not_yet_billed + unmapped + not_charged

    Attributes:
        in_scope: everything the meter counts.
        billed: in a billed part of a period, at the snapshot it was billed with.
        not_yet_billed: owned and priced, but later, or not billed so far.
        unmapped: of a subject without a customer at that time, or without a subject.
        not_charged: of a customer without a charge on it at that time.
        ok: the four add up.
    """

    meter: str
    version: int
    aggregation: str
    in_scope: Tally
    billed: Tally
    not_yet_billed: Tally
    unmapped: Tally
    not_charged: Tally
    ok: bool


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """Whether everything adds up, and what does not.

    Attributes:
        cut: snapshot that was counted.
        received: of `counters`, as the log acknowledged them.
        rows_accepted, rows_quarantined: found by counting.
        differences: one sentence each; () where everything adds up.
    """

    ok: bool
    cut: int
    received: int
    accepted: int
    duplicate: int
    quarantined: int
    rows_accepted: int
    rows_quarantined: int
    meters: tuple[MeterAccount, ...]
    differences: tuple[str, ...]


def reconcile(billing: Billing, accounts: EventAccounts) -> Reconciliation:
    """Return the account of every event of the tenant.

    Args:
        billing: ports.
        accounts: the lake's own counters, and counts of its rows.

    Cost: reads every row of the tenant a few times for each meter.
    """
    before = accounts.counters(billing.tenant)
    cut = billing.usage.head()
    rows = accounts.stored(billing.tenant, cut)
    after = accounts.counters(billing.tenant)
    catalog = billing.catalog.load(billing.tenant)
    books = billing.invoices.books(billing.tenant)
    found = list(_counter_differences(before, rows, after))
    meters = tuple(_account(billing, meter, catalog, books, cut) for meter in catalog.live_meters())
    found += [f"meter {one.meter}: {_sum_text(one)}" for one in meters if not one.ok]
    found += _position_differences(billing, catalog, books)
    return Reconciliation(
        ok=not found,
        cut=cut,
        received=before.received,
        accepted=before.accepted,
        duplicate=before.duplicate,
        quarantined=before.quarantined,
        rows_accepted=rows.accepted,
        rows_quarantined=rows.quarantined,
        meters=meters,
        differences=tuple(found[:DIFFERENCES_MAX]),
    )


def _counter_differences(before: Counters, rows: Counters, after: Counters) -> Iterator[str]:
    """Name what the counters do not explain; events that come in meanwhile are allowed for."""
    classes = before.accepted + before.duplicate + before.quarantined
    if before.received != classes:
        yield f"received {before.received}, but accepted + duplicate + quarantined = {classes}"
    if not before.accepted <= rows.accepted <= after.accepted:
        yield f"accepted {before.accepted}, but {rows.accepted} rows are in the lake"
    if not before.quarantined <= rows.quarantined <= after.quarantined:
        yield f"quarantined {before.quarantined}, but {rows.quarantined} rows are in the lake"


def _sum_text(account: MeterAccount) -> str:
    return (
        f"in scope {account.in_scope}, but billed {account.billed}, not yet billed"
        f" {account.not_yet_billed}, unmapped {account.unmapped}, not charged"
        f" {account.not_charged}"
    )


def _account(
    billing: Billing, meter: Meter, catalog: Catalog, books: Books, cut: int
) -> MeterAccount:
    subjects = [s for s, _ in billing.usage.subjects(billing.tenant, meter.event_type, cut)]
    everything = _query(billing, meter, cut)
    everything = msgspec.structs.replace(everything, by_subject=True)
    rows = billing.usage.usage(everything)
    in_scope = _tally(meter, rows)
    unmapped = _tally(meter, [row for row in rows if row.subject is None])
    billed = not_yet = not_charged = _tally(meter, [])
    for label, owners in _by_label(segments(meter.key, subjects, catalog, books)).items():
        if not label.claims:
            plain_rows = list(_owned(billing, _query(billing, meter, cut), owners))
            if label.mapped:
                not_charged += _tally(meter, plain_rows)
            else:
                unmapped += _tally(meter, plain_rows)
            continue
        parts = _claimed(billing, meter, label, owners, cut)
        billed, not_yet = billed + parts[0], not_yet + parts[1]
        not_charged += parts[2]
    return MeterAccount(
        meter=meter.key,
        version=meter.version,
        aggregation=meter.aggregation,
        in_scope=in_scope,
        billed=billed,
        not_yet_billed=not_yet,
        unmapped=unmapped,
        not_charged=not_charged,
        ok=in_scope == billed + not_yet + unmapped + not_charged and not_yet.events >= 0,
    )


def _query(billing: Billing, meter: Meter, cut: int) -> UsageQuery:
    return UsageQuery(tenant=billing.tenant, meter=meter, bounds=(EARLIEST_US, LATEST_US), cut=cut)


def _tally(meter: Meter, rows: Iterable[Usage]) -> Tally:
    total = Tally(0, ZERO if meter.aggregation in ADDITIVE else None)
    for row in rows:
        total += Tally(row.events, ZERO if row.value is None else row.value)
    return total


def _by_label(found: Iterable[Segment]) -> dict[Label, list[Ownership]]:
    by_label: dict[Label, list[Ownership]] = {}
    for segment in found:
        owned = Ownership(segment.subject, "label", segment.start_us, segment.end_us)
        by_label.setdefault(segment.label, []).append(owned)
    return by_label


def _owned(billing: Billing, query: UsageQuery, owners: Sequence[Ownership]) -> Iterator[Usage]:
    """Yield the answer for segments of subjects, asked in parts of bounded size."""
    for start in range(0, len(owners), OWNERS_MAX):
        part = tuple(owners[start : start + OWNERS_MAX])
        yield from billing.usage.usage(msgspec.structs.replace(query, owners=part))


def _claimed(
    billing: Billing, meter: Meter, label: Label, owners: Sequence[Ownership], cut: int
) -> tuple[Tally, Tally, Tally]:
    """Return billed, not yet billed and not charged of segments that charges have claims on.

    An event counts as billed at the newest snapshot of the claims that match its dimensions.
    """
    names = tuple(sorted({name for claim in label.claims for name, _ in claim.where}))
    at_cut: dict[int, list[Usage]] = {}
    for snapshot in {cut} | {c.cut for c in label.claims if c.cut is not None}:
        query = msgspec.structs.replace(_query(billing, meter, snapshot), group_by=names)
        at_cut[snapshot] = list(_owned(billing, query, owners))
    charged: list[Usage] = []
    missed: list[Usage] = []
    for row in at_cut[cut]:
        cuts = _cuts(label.claims, names, row)
        (missed if cuts is None else charged).append(row)
    billed = [
        row
        for snapshot, rows in at_cut.items()
        for row in rows
        if snapshot == max(_cuts(label.claims, names, row) or (), default=None)
    ]
    done = _tally(meter, billed)
    return done, _less(_tally(meter, charged), done), _tally(meter, missed)


def _cuts(claims: Iterable[Claim], names: tuple[str, ...], row: Usage) -> tuple[int, ...] | None:
    """Return the snapshots a row's dimensions were billed at; None where no charge prices them."""
    dimensions = dict(zip(names, row.group, strict=True))
    matching = [claim for claim in claims if claim.matches(dimensions)]
    if not matching:
        return None
    return tuple(claim.cut for claim in matching if claim.cut is not None)


def _less(whole: Tally, part: Tally) -> Tally:
    if whole.quantity is None or part.quantity is None:
        return Tally(whole.events - part.events, None)
    return Tally(whole.events - part.events, EXACT.subtract(whole.quantity, part.quantity))


def _position_differences(billing: Billing, catalog: Catalog, books: Books) -> Iterator[str]:
    """Name every position whose invoices do not say what the events at their cut give."""
    by_cut: dict[int, dict[str, list[Item]]] = {}
    for key, subscription in catalog.subscriptions.items():
        if not catalog.live("subscription", key):
            continue
        for cut, item in _billed_items(key, catalog, books):
            by_customer = by_cut.setdefault(cut, {})
            by_customer.setdefault(subscription.customer, []).append(item)
    for cut, customers in sorted(by_cut.items()):
        asked = [Asked(catalog.customers[c], tuple(items)) for c, items in customers.items()]
        facts = ask(billing.usage, billing.tenant, asked, catalog, cut)
        for one in asked:
            for item in one.items:
                now = {g: f.value for g, f in facts[one.customer.key][item.position].items()}
                yield from _position_difference(item.position, now, books)


def _billed_items(key: str, catalog: Catalog, books: Books) -> Iterator[tuple[int, Item]]:
    for period in books.periods.get(key, ()):
        for charge in charges_of(period, catalog):
            if charge.meter is not None and period.until_us > period.start_us:
                yield (
                    period.cut,
                    Item(
                        position=Position(key, charge.key, period.start_us),
                        plan=period.plan,
                        plan_version=period.plan_version,
                        end_us=period.end_us,
                        full_start_us=period.full_start_us,
                        full_end_us=period.full_end_us,
                        until_us=period.until_us,
                        meter=charge.meter,
                        meter_version=period.meters[charge.meter],
                        adjustment=False,
                    ),
                )


def _position_difference(
    position: Position, now: dict[tuple[str | None, ...], Decimal], books: Books
) -> Iterator[str]:
    billed = books.billed.get(position, {})
    for group in sorted(now.keys() | billed.keys(), key=str):
        quantity = Decimal(billed[group].quantity) if group in billed else ZERO
        if now.get(group, ZERO) != quantity:
            yield (
                f"subscription {position.subscription}, charge {position.charge}, period from"
                f" {format_us(position.start_us)}, {list(group)}: invoices say"
                f" {plain(quantity)}, events say {plain(now.get(group, ZERO))};"
                " the next billing run adjusts it"
            )
