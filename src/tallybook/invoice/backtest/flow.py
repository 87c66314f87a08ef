"""Pricing history with two catalogs; nothing is written."""

from collections.abc import Iterator, Sequence

import msgspec

from tallybook.catalog.catalog import Catalog, with_entries
from tallybook.catalog.change import Change, difference
from tallybook.catalog.check import check_references, check_stored
from tallybook.catalog.document import CatalogDocument
from tallybook.catalog.plan import Plan
from tallybook.catalog.subscription import Subscription
from tallybook.invoice.backtest.compare import (
    Backtest,
    Failed,
    Figures,
    Side,
    compared,
    figures,
    totals,
)
from tallybook.invoice.document import Facts, compose
from tallybook.invoice.due import Horizon, due
from tallybook.invoice.line import Line
from tallybook.invoice.manifest import Item, Manifest
from tallybook.invoice.newcomers import newcomers
from tallybook.invoice.ports import Billing
from tallybook.invoice.questions import Asked, ask
from tallybook.kernel.errors import Corrupt, Invalid, Refused
from tallybook.kernel.period import Period
from tallybook.kernel.timestamps import format_us

CUSTOMERS_AT_ONCE = 10_000


class _Priced(msgspec.Struct, frozen=True):
    """One side: what each customer comes to, and who could not be priced."""

    figures: dict[str, Figures]
    failed: tuple[Failed, ...]


class _Asked(msgspec.Struct, frozen=True):
    """One customer's items up to the span's end, and up to its start."""

    customer: str
    upto: tuple[Item, ...]
    before: tuple[Item, ...]


def check_span(start_us: int, end_us: int, now_us: int) -> Period:
    """Return the span of history to price; raises Invalid."""
    if start_us >= end_us:
        raise Invalid("to must be after from", field="to")
    if end_us > now_us:
        raise Invalid("to lies in the future; history is priced up to now at most", field="to")
    return Period(start_us, end_us)


def backtest(
    billing: Billing, document: CatalogDocument, span: Period, *, prune: bool = False
) -> Backtest:
    """Return what a proposed catalog would have given for a span of history, beside the present.

    Both sides price the same usage from scratch: nothing of what was billed is looked at, and an
    effective date of the proposed plans does not keep them from history.

    Args:
        billing: ports; nothing is written through them.
        document: the proposed catalog.
        span: usage of it counts, fees in advance that start in it, fees in arrears that end in it.
        prune: what the document does not declare is out of use in the proposed catalog.

    Raises:
        Conflict: the proposed catalog would contradict itself.
    """
    cut = billing.usage.head()
    stored = billing.catalog.load(billing.tenant)
    changes = difference(stored, document, prune=prune)
    present = _grown(billing, stored, cut)
    proposed = _grown(billing, _proposed(stored, changes), cut)
    old = _priced(billing, present, span, cut, "present")
    new = _priced(billing, proposed, span, cut, "proposed")
    everyone = present.customers | proposed.customers
    customers = tuple(
        compared(everyone[key], old.figures.get(key, {}), new.figures.get(key, {}))
        for key in sorted(old.figures.keys() | new.figures.keys())
    )
    return Backtest(
        start=format_us(span.start_us),
        end=format_us(span.end_us),
        cut=cut,
        changes=tuple(str(change) for change in changes),
        totals=totals(customers),
        customers=customers,
        failed=(*old.failed, *new.failed),
    )


def _proposed(stored: Catalog, changes: Sequence[Change]) -> Catalog:
    """Return the catalog after an apply, its new plans in effect since ever."""
    written = [change.entry for change in changes]
    check_stored(stored, written)
    check_references(with_entries(stored, written))
    since_ever = [
        msgspec.structs.replace(entry, effective_us=None) if isinstance(entry, Plan) else entry
        for entry in written
    ]
    return with_entries(stored, since_ever)


def _grown(billing: Billing, catalog: Catalog, cut: int) -> Catalog:
    """Return a catalog with the customers that its rules make of new subjects."""
    return with_entries(catalog, newcomers(catalog, billing.usage, billing.tenant, cut)[0])


def _priced(billing: Billing, catalog: Catalog, span: Period, cut: int, side: Side) -> _Priced:
    found: dict[str, Figures] = {}
    failed: list[Failed] = []
    subscriptions = _customers(catalog)
    keys = sorted(subscriptions)
    for at in range(0, len(keys), CUSTOMERS_AT_ONCE):
        asked: list[_Asked] = []
        for key in keys[at : at + CUSTOMERS_AT_ONCE]:
            try:
                asked.append(_asked(catalog, key, subscriptions[key], span, cut))
            except (Refused, Corrupt) as error:
                failed.append(_failed(key, side, error))
        upto = _facts(billing, catalog, [(one.customer, one.upto) for one in asked], cut)
        before = _facts(billing, catalog, [(one.customer, one.before) for one in asked], cut)
        for one in asked:
            try:
                figured = figures(
                    _lines(billing, catalog, one.customer, one.upto, upto, cut),
                    _lines(billing, catalog, one.customer, one.before, before, cut),
                )
            except (Refused, Corrupt) as error:
                failed.append(_failed(one.customer, side, error))
                continue
            if figured:
                found[one.customer] = figured
    return _Priced(found, tuple(failed))


def _customers(catalog: Catalog) -> dict[str, list[Subscription]]:
    """Return the live subscriptions of every live customer that has one."""
    found: dict[str, list[Subscription]] = {}
    for key, subscription in sorted(catalog.subscriptions.items()):
        if catalog.live("subscription", key) and catalog.live("customer", subscription.customer):
            found.setdefault(subscription.customer, []).append(subscription)
    return found


def _asked(
    catalog: Catalog, customer: str, subscriptions: Sequence[Subscription], span: Period, cut: int
) -> _Asked:
    upto = tuple(_items(catalog, subscriptions, span.end_us, cut))
    before = _items(catalog, subscriptions, span.start_us, cut)
    since = _committed_since(upto, span)

    def matters(item: Item) -> bool:
        ended = item.end_us <= span.start_us
        first = since.get(item.position.subscription, span.start_us)
        return not ended or item.position.start_us >= first

    return _Asked(customer, tuple(filter(matters, upto)), tuple(filter(matters, before)))


def _committed_since(items: Sequence[Item], span: Period) -> dict[str, int]:
    """Return where the commitments that end in a span begin: they count all from there on."""
    found: dict[str, int] = {}
    for item in items:
        if item.minimum is not None and item.end_us > span.start_us:
            key = item.position.subscription
            found[key] = min(found.get(key, item.position.start_us), item.position.start_us)
    return found


def _items(
    catalog: Catalog, subscriptions: Sequence[Subscription], until_us: int, cut: int
) -> Iterator[Item]:
    """Yield what would be billed up to an instant, had nothing been billed before.

    A period that starts exactly then has not begun: its fee in advance belongs to what follows.
    """
    seen = Horizon(None, until_us, whole=False, now_us=until_us - 1)
    for subscription in subscriptions:
        for item in due(subscription, (), {}, catalog, seen, cut).items:
            yield msgspec.structs.replace(item, customer="")


def _facts(
    billing: Billing, catalog: Catalog, asked: Sequence[tuple[str, tuple[Item, ...]]], cut: int
) -> dict[str, Facts]:
    questions = [Asked(catalog.customers[key], items) for key, items in asked if items]
    return ask(billing.usage, billing.tenant, questions, catalog, cut)


def _lines(
    billing: Billing,
    catalog: Catalog,
    customer: str,
    items: tuple[Item, ...],
    facts: dict[str, Facts],
    cut: int,
) -> tuple[Line, ...]:
    """Return the lines that items come to; none where there are no items."""
    if not items:
        return ()
    manifest = _manifest(billing, catalog, customer, items, cut)
    draft = compose(manifest, catalog, facts[customer])
    return () if draft is None else draft.invoice.lines


def _manifest(
    billing: Billing, catalog: Catalog, customer: str, items: tuple[Item, ...], cut: int
) -> Manifest:
    payer = catalog.customers[customer]
    now_us = billing.clock.now_us()
    return Manifest(
        tenant=billing.tenant,
        run="backtest",
        request="backtest",
        sequence=1,
        prior=None,
        customer=payer,
        seller=msgspec.structs.replace(catalog.seller, logo=""),
        currency=payer.currency,
        cut=cut,
        catalog_version=catalog.version,
        issued_us=now_us,
        due_us=now_us,
        tz=billing.tz,
        items=items,
        taxes=tuple(catalog.taxes.values()),
    )


def _failed(customer: str, side: Side, error: Refused | Corrupt) -> Failed:
    return Failed(customer=customer, side=side, code=error.code, message=error.message)
