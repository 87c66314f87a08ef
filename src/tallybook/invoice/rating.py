"""An item of an invoice, rated: the price applied to what the meter says.

Source: docs/algorithms/modifiers.md, docs/algorithms/proration.md
"""

from decimal import Decimal

import msgspec

from tallybook.catalog.plan import Charge
from tallybook.catalog.price import Modified, Price
from tallybook.invoice.manifest import Group, Item
from tallybook.kernel.decimals import EXACT, plain
from tallybook.kernel.money import from_minor
from tallybook.kernel.period import Period, zone
from tallybook.meter.each import Bands
from tallybook.rate.charge import rate
from tallybook.rate.fee import rate_fee
from tallybook.rate.metered import Metered
from tallybook.rate.percentage import event_terms
from tallybook.rate.proration import WHOLE, Portion, portion
from tallybook.rate.recurring import Held
from tallybook.rate.step import ZERO, Rated, Step


class Fact(msgspec.Struct, frozen=True):
    """What the meter says of an item: the value, and the events it is made of.

    Attributes:
        cells: the value of each combination of a matrix price's dimensions.
        bands: the single events under the terms of a percentage price.
        held: of a recurring charge by day, its levels; the value is then what they come to.
        full_days: of the whole period that they are days of.
    """

    value: Decimal
    events: int
    digest: int
    cells: tuple[tuple[Group, Decimal], ...] = ()
    bands: Bands | None = None
    held: tuple[Held, ...] = ()
    full_days: int = 1


NOTHING = Fact(ZERO, 0, 0)


def price_of(item: Item, charge: Charge) -> Price:
    """Return the price that an item is rated with: its own, or else that of the plan."""
    return charge.price if item.price is None else item.price


def rated_item(item: Item, charge: Charge, fact: Fact, zone_name: str) -> Rated:
    """Return what an item costs so far.

    Args:
        item: what to rate.
        charge: of the plan version that the item names.
        fact: cumulated usage of the item's dimension value.
        zone_name: the customer's zone, for days.

    Raises:
        Invalid: a matrix price has no amount for some usage.
    """
    if item.end_us <= item.position.start_us:
        step = Step(text="ended before it began", amount="0")
        return Rated(quantity=ZERO, amount=ZERO, steps=(step,))
    price = price_of(item, charge)
    if charge.meter is not None:
        due = price.minimum_amount if isinstance(price, Modified) else None
        minimum = WHOLE if due is None else _minimum(item, charge, zone_name)
        return rate(price, _metered(price, fact), minimum)
    return rate_fee(
        price,
        charge.proration,
        Period(item.position.start_us, item.end_us),
        Period(item.full_start_us, item.full_end_us),
        zone(zone_name),
        ((item.position.start_us, charge.quantity), *item.quantities),
        charge.timing,
    )


def with_forgiven(rated: Rated, held_minor: int, currency: str) -> Rated:
    """Return what an item costs with what is not credited, because credit notes gave it back."""
    amount = EXACT.add(rated.amount, from_minor(held_minor, currency))
    step = forgiven_step(held_minor, currency)
    return Rated(quantity=rated.quantity, amount=amount, steps=(*rated.steps, step))


def forgiven_step(held_minor: int, currency: str) -> Step:
    """Return, in words, what is not credited because credit notes gave it back."""
    held = plain(from_minor(held_minor, currency))
    return Step(text=f"given back by credit notes before: {held}", amount=held)


def _metered(price: Price, fact: Fact) -> Metered:
    bands = fact.bands
    if bands is None and event_terms(price) is not None:
        bands = Bands()
    return Metered(
        quantity=fact.value,
        cells=fact.cells,
        bands=bands,
        held=fact.held,
        full_days=fact.full_days,
    )


def _minimum(item: Item, charge: Charge, zone_name: str) -> Portion | None:
    """Return the part of its period that a minimum amount is for; None while it is not over."""
    start_us = item.position.start_us
    if item.until_us < item.end_us:
        return None
    return portion(
        charge.proration,
        Period(start_us, item.end_us),
        Period(item.full_start_us, item.full_end_us),
        zone(zone_name),
    )
