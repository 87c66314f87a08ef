"""A line: cumulated usage rated as a whole, less what was billed before.

Source: docs/algorithms/rerating.md; DECISIONS 20, 30.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Literal

import msgspec

from tallybook.catalog.meter import Meter
from tallybook.catalog.plan import Charge, Plan
from tallybook.catalog.price import Price
from tallybook.invoice.manifest import Billed, Group, Item
from tallybook.invoice.rating import NOTHING, Fact, price_of, rated_item, with_forgiven
from tallybook.invoice.rounding import round_line
from tallybook.kernel.decimals import EXACT, plain, short
from tallybook.kernel.money import money_text
from tallybook.kernel.timestamps import format_us
from tallybook.rate.step import Rated, Step


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """Cumulated figures of a line, as text.

    Attributes:
        quantity: plain decimal.
        amount: rounded to the currency's digits.
        events: how many events.
        digest: sum of their row hashes; '' where it is not known.
        exact: the amount before rounding, at most 12 decimals; '' where it is not known.
    """

    quantity: str
    amount: str
    events: int
    digest: str = ""
    exact: str = ""


class MeterRef(msgspec.Struct, frozen=True, kw_only=True):
    """The meter version a line was counted with."""

    key: str
    version: int
    aggregation: str


LineKind = Literal["usage", "fee", "minimum", "one-off"]


class LineTax(msgspec.Struct, frozen=True, kw_only=True):
    """A line's part of a tax: parts add up to the invoice's tax of that rate."""

    tax: str
    amount: str
    amount_minor: int


class LineShare(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a line that belongs to somebody else; parts are split by largest remainder."""

    party: str
    percent: str
    amount: str
    amount_minor: int


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an invoice; every number is a plain decimal text, every time RFC 3339.

    Attributes:
        id: derived from the invoice's id and the position.
        position: 1 and up.
        adjustment: corrects a period that was closed before.
        dimensions: value of each `split_by` dimension; null is a missing value.
        cut: snapshot that was counted.
        quantity: of this line alone: now less before.
        amount: of this line alone, rounded.
        amount_minor: the same in minor units.
        events: of this line alone.
        now: cumulated, this line included; what the steps explain.
        before: what earlier invoices billed of it.
        kind: what sort of thing it charges for.
        customer: key of the customer whose it is, where another one pays; '' for the payer.
        phase: key of the plan's phase; '' for none.
        discount_minor: what coupons take off it; 0 or more, 0 or less on a negative line.
        net_minor: amount less discount.
        base_minor: net less the taxes that its price contains: what taxes are computed on, and what
            is earned.
        taxes: its part of each of the invoice's taxes.
        shares: parts of the base that belong to others.
    """

    id: str
    position: int
    subscription: str
    plan: str
    plan_version: int
    charge: str
    name: str
    adjustment: bool
    period_start: str
    period_end: str
    until: str
    dimensions: dict[str, str | None]
    meter: MeterRef | None
    unit: str
    cut: int
    quantity: str
    amount: str
    amount_minor: int
    events: int
    price: Price
    steps: tuple[Step, ...]
    now: Total
    before: Total
    kind: LineKind = "usage"
    customer: str = ""
    phase: str = ""
    discount: str = "0"
    discount_minor: int = 0
    net: str = "0"
    net_minor: int = 0
    base: str = "0"
    base_minor: int = 0
    taxes: tuple[LineTax, ...] = ()
    shares: tuple[LineShare, ...] = ()


class Drafted(msgspec.Struct, frozen=True, kw_only=True):
    """A line before coupons and taxes, without place and id; and the state it leaves behind."""

    line: Line
    item: Item
    billed: Billed


def draft_lines(
    item: Item,
    plan: Plan,
    meter: Meter | None,
    facts: Mapping[Group, Fact],
    cut: int,
    zone_name: str,
    currency: str,
) -> Iterator[Drafted]:
    """Yield the lines of an item: one for each dimension value that differs from before.

    Args:
        item: what to rate.
        plan: the version that the item names.
        meter: the version that the item names; None for a fixed fee.
        facts: cumulated usage by dimension value; a value not in it has none.
        cut: snapshot of the facts.
        zone_name: the customer's zone, for days.
        currency: of the invoice, one that the plan is sold in.
    """
    charge = plan.charge(item.position.charge)
    assert charge is not None, "a stored plan version keeps its charges"
    before = {billed.group: billed for billed in item.before}
    groups = facts.keys() | before.keys()
    if not charge.split_by:
        groups.add(())
    for group in sorted(groups, key=_group_order) if len(groups) > 1 else groups:
        fact = facts.get(group, NOTHING)
        rated = rated_item(item, charge, fact, zone_name)
        value = rated.quantity if meter is None else fact.value
        earlier = before.get(group)
        due = round_line(rated.amount, currency, plan.rounding)
        minor = due if earlier is None else earlier.after(due)
        if minor != due:
            rated = with_forgiven(rated, minor - due, currency)
        billed = Billed(
            group=group,
            amount_minor=minor,
            quantity=plain(value),
            events=fact.events,
            digest=str(fact.digest),
            until_us=item.until_us,
            cut=cut,
            invoice="",
            forgiven_minor=0 if earlier is None else earlier.forgiven_minor,
        )
        left = value if earlier is None else EXACT.subtract(value, Decimal(earlier.quantity))
        if left or minor != (0 if earlier is None else earlier.amount_minor):
            line = _line(_Sold(item, plan, charge, meter, currency), rated, billed, earlier, left)
            yield Drafted(line=line, item=item, billed=billed)


class _Sold(msgspec.Struct, frozen=True):
    """What the lines of an item have in common."""

    item: Item
    plan: Plan
    charge: Charge
    meter: Meter | None
    currency: str


def _group_order(group: Group) -> tuple[tuple[bool, str], ...]:
    return tuple((text is not None, text or "") for text in group)


def _line(sold: _Sold, rated: Rated, billed: Billed, earlier: Billed | None, left: Decimal) -> Line:
    """Return the line of one dimension value.

    Args:
        sold: what is sold.
        rated: what all of it so far costs.
        billed: the same as it is kept.
        earlier: what was billed before.
        left: the quantity of this line alone.
    """
    item, meter, currency = sold.item, sold.meter, sold.currency
    before = _never(currency) if earlier is None else _total(earlier, currency)
    difference = billed.amount_minor - (0 if earlier is None else earlier.amount_minor)
    now = _total(billed, currency, short(rated.amount))
    return Line(
        id="",
        position=0,
        subscription=item.position.subscription,
        plan=sold.plan.key,
        plan_version=sold.plan.version,
        charge=sold.charge.key,
        name=sold.charge.name,
        adjustment=item.adjustment,
        period_start=_instant(item.position.start_us),
        period_end=_instant(item.end_us),
        until=_instant(item.until_us),
        dimensions=dict(zip(sold.charge.split_by, billed.group, strict=True)),
        meter=None if meter is None else _reference(meter),
        unit=_unit(meter),
        cut=billed.cut,
        quantity=plain(left),
        amount=now.amount if earlier is None else money_text(difference, currency),
        amount_minor=difference,
        events=now.events - before.events,
        price=price_of(item, sold.charge),
        steps=rated.steps,
        now=now,
        before=before,
        kind="fee" if meter is None else "usage",
        customer=item.customer,
        phase=item.phase,
    )


_instant = lru_cache(maxsize=4096)(format_us)
"""A run's lines have few different instants."""


@lru_cache(maxsize=256)
def _never(currency: str) -> Total:
    """Return the figures of what was never billed."""
    return Total(quantity="0", amount=money_text(0, currency), events=0, digest="0")


def _reference(meter: Meter) -> MeterRef:
    return MeterRef(key=meter.key, version=meter.version, aggregation=meter.aggregation)


def _unit(meter: Meter | None) -> str:
    """Return what a quantity counts; a level held over time is in unit-hours."""
    if meter is None:
        return ""
    return f"{meter.unit or 'unit'}-h" if meter.aggregation == "TIME_WEIGHTED" else meter.unit


def _total(billed: Billed, currency: str, exact: str = "") -> Total:
    return Total(
        quantity=billed.quantity,
        amount=money_text(billed.amount_minor, currency),
        events=billed.events,
        digest=billed.digest,
        exact=exact,
    )
