"""The true-up of a commitment: what is missing of a period's minimum, as a line of its own.

Cumulative like every line: charges that rise later make it smaller, and the difference is billed.

Source: docs/algorithms/commitments.md
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.plan import Minimum, Plan, commitment
from tallybook.catalog.price import FlatPrice
from tallybook.invoice.due import MINIMUM
from tallybook.invoice.line import Drafted, Line, Total
from tallybook.invoice.manifest import Billed, Item
from tallybook.invoice.rating import forgiven_step
from tallybook.invoice.rounding import round_line
from tallybook.kernel.decimals import plain
from tallybook.kernel.money import from_minor, money_text
from tallybook.kernel.period import Period, zone
from tallybook.kernel.timestamps import format_us
from tallybook.rate.proration import Portion, portion
from tallybook.rate.step import Step, shown


class Cumulated(msgspec.Struct, frozen=True):
    """An item and what it comes to so far, in minor units, this invoice included."""

    item: Item
    amount_minor: int


class TrueUp(msgspec.Struct, frozen=True):
    """The line of a commitment, and the items that it depends on."""

    line: Drafted
    depends_on: tuple[Item, ...]


def cumulated(item: Item, drafts: Iterable[Drafted]) -> Cumulated:
    """Return what an item comes to: what was billed, and what its lines add."""
    before = sum(billed.amount_minor for billed in item.before)
    return Cumulated(item, before + sum(draft.line.amount_minor for draft in drafts))


def counting(item: Item, minimum: Minimum, others: Sequence[Cumulated]) -> list[Cumulated]:
    """Return what counts towards a commitment.

    Args:
        item: of the commitment.
        minimum: its terms.
        others: charges of the same subscription.

    Returns:
        The named charges, or all, whose whole periods lie within the commitment's.
    """
    return [
        other
        for other in others
        if item.position.start_us <= other.item.position.start_us < item.end_us
        and other.item.full_end_us <= item.full_end_us
        and (not minimum.charges or other.item.position.charge in minimum.charges)
    ]


def true_ups(
    items: Iterable[Item],
    others: Iterable[Cumulated],
    catalog: Catalog,
    currency: str,
    cut: int,
    zones: dict[str, str],
) -> Iterator[TrueUp]:
    """Yield the lines of commitments that differ from before, in the order of the items.

    Args:
        items: of commitments.
        others: every charge of the invoice.
        catalog: holds the plan versions that the items name.
        currency: of the invoice.
        cut: snapshot of the usage.
        zones: whose days count, by key of the customer that the item names.

    Raises:
        Missing: a plan version is not in the catalog.
    """
    by_subscription: dict[str, list[Cumulated]] = {}
    for other in others:
        by_subscription.setdefault(other.item.position.subscription, []).append(other)
    for item in items:
        if item.until_us < item.end_us:
            continue
        plan = catalog.plan(item.plan, item.plan_version)
        terms = commitment(plan, item.phase, currency) or Minimum(amount=item.minimum or Decimal(0))
        counted = counting(item, terms, by_subscription.get(item.position.subscription, ()))
        line = _drafted(item, plan, terms.name, currency, cut, _owed(item, zones), counted)
        if line.line.amount_minor:
            yield TrueUp(line, tuple(other.item for other in counted))


def _owed(item: Item, zones: dict[str, str]) -> Portion:
    """Return the part of a whole period that is committed to."""
    if item.end_us <= item.position.start_us:
        return Portion(0)
    return portion(
        "day",
        Period(item.position.start_us, item.end_us),
        Period(item.full_start_us, item.full_end_us),
        zone(zones[item.customer]),
    )


def _drafted(
    item: Item,
    plan: Plan,
    name: str,
    currency: str,
    cut: int,
    owed: Portion,
    counted: Sequence[Cumulated],
) -> Drafted:
    """Return the line of a commitment, whether or not anything differs."""
    minimum = item.minimum or Decimal(0)
    committed = round_line(owed.of_amount(minimum), currency, plan.rounding)
    charged = sum(other.amount_minor for other in counted)
    due = max(committed - charged, 0)
    before = item.before[0] if item.before else _never(cut)
    now = before.after(due)
    billed = msgspec.structs.replace(
        before, amount_minor=now, quantity="1" if now else "0", until_us=item.until_us, cut=cut
    )
    line = Line(
        id="",
        position=0,
        subscription=item.position.subscription,
        plan=plan.key,
        plan_version=plan.version,
        charge=MINIMUM,
        name=name,
        adjustment=item.adjustment,
        period_start=format_us(item.position.start_us),
        period_end=format_us(item.end_us),
        until=format_us(item.until_us),
        dimensions={},
        meter=None,
        unit="",
        cut=cut,
        quantity=str(int(billed.quantity) - int(before.quantity)),
        amount=money_text(now - before.amount_minor, currency),
        amount_minor=now - before.amount_minor,
        events=0,
        price=FlatPrice(amount=minimum),
        steps=tuple(_steps(minimum, owed, committed, charged, now - due, currency)),
        now=_total(billed, currency),
        before=_total(before, currency),
        kind="minimum",
        customer=item.customer,
        phase=item.phase,
    )
    return Drafted(line=line, item=item, billed=billed)


def _steps(
    minimum: Decimal, owed: Portion, committed: int, charged: int, held: int, currency: str
) -> Iterator[Step]:
    """Yield how a true-up comes about; the amounts of the steps add up to it."""
    amount = from_minor(committed, currency)
    if owed.whole():
        text = f"committed: {plain(minimum)}"
    else:
        part = f"{owed.taken} of {owed.full} {owed.unit}"
        text = f"committed: {plain(minimum)} × {part} = {shown(amount)}"
    yield Step(text=text, amount=plain(amount))
    counts = from_minor(min(charged, committed), currency)
    yield Step(text=f"charged: {money_text(charged, currency)}", amount=plain(-counts))
    if held:
        yield forgiven_step(held, currency)


def _never(cut: int) -> Billed:
    return Billed(
        group=(),
        amount_minor=0,
        quantity="0",
        events=0,
        digest="0",
        until_us=0,
        cut=cut,
        invoice="",
    )


def _total(billed: Billed, currency: str) -> Total:
    amount = money_text(billed.amount_minor, currency)
    return Total(quantity=billed.quantity, amount=amount, events=0, exact=plain(Decimal(amount)))
