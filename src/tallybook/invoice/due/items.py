"""Items: one position each, to rate as a whole.

Source: docs/algorithms/rerating.md
"""

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from tallybook.catalog.plan import Charge
from tallybook.catalog.subscription import StoredPeriod, Subscription, units
from tallybook.invoice.due.terms import MINIMUM, Sold, Terms
from tallybook.invoice.manifest import Billed, Group, Item, Position

History = Mapping[Position, Mapping[Group, Billed]]
"""What earlier invoices billed, by position and dimension value."""


class Bearings(msgspec.Struct, frozen=True):
    """What every item of a subscription is made from.

    Attributes:
        subscription: whose.
        history: what was billed before.
        owner: key of the customer whose it is, where another one pays; '' for the payer.
    """

    subscription: Subscription
    history: History
    owner: str


def charge_item(
    sold: Sold,
    period: StoredPeriod,
    terms: Terms,
    bearings: Bearings,
    *,
    fees_end_us: int,
    adjustment: bool,
) -> Item:
    """Return the item of a charge in a period as the run leaves it."""
    charge = sold.charge
    position = Position(period.subscription, charge.key, period.start_us)
    end = fees_end_us if is_advance(charge) else period.end_us
    return Item(
        position=position,
        plan=period.plan,
        plan_version=period.plan_version,
        end_us=end,
        full_start_us=period.full_start_us,
        full_end_us=period.full_end_us,
        until_us=end if charge.meter is None else period.until_us,
        meter=charge.meter,
        meter_version=None if charge.meter is None else period.meters[charge.meter],
        adjustment=adjustment,
        before=before(bearings.history, position),
        customer=bearings.owner,
        phase=terms.phase,
        price=period.prices.get(charge.key, sold.price),
        quantities=_quantities(charge, bearings.subscription, period.start_us, end),
        taxes=sold.taxes,
    )


def _quantities(
    charge: Charge, subscription: Subscription, start_us: int, end_us: int
) -> tuple[tuple[int, Decimal], ...]:
    return () if charge.meter else units(subscription, charge.key, start_us, end_us)


def minimum_item(
    amount: Decimal, period: StoredPeriod, terms: Terms, bearings: Bearings, *, adjustment: bool
) -> Item:
    """Return the item of a commitment in a period."""
    position = Position(period.subscription, MINIMUM, period.start_us)
    return Item(
        position=position,
        plan=period.plan,
        plan_version=period.plan_version,
        end_us=period.end_us,
        full_start_us=period.full_start_us,
        full_end_us=period.full_end_us,
        until_us=period.end_us,
        meter=None,
        meter_version=None,
        adjustment=adjustment,
        before=before(bearings.history, position),
        customer=bearings.owner,
        phase=terms.phase,
        minimum=amount,
        taxes=terms.taxes,
    )


def before(history: History, position: Position) -> tuple[Billed, ...]:
    """Return what was billed of a position, in the order of its dimension values."""
    found = history.get(position)
    if not found:
        return ()
    return tuple(found[group] for group in sorted(found, key=str))


def is_advance(charge: Charge) -> bool:
    """Whether a charge is a fee due when its period starts."""
    return charge.meter is None and charge.timing == "advance"


def given_back(billed: tuple[Billed, ...]) -> bool:
    """Whether nothing of a position is billed any more."""
    return all(one.amount_minor == 0 and one.quantity == "0" for one in billed)
