"""A plan: versioned charges in one currency. A version, once stored, never changes.

Source: CONTRACTS §5; DECISIONS 20, 21; docs/algorithms/plans.md
"""

from decimal import Decimal
from typing import Literal

import msgspec

from tallybook.catalog.price import Price
from tallybook.kernel.money import Rounding

Timing = Literal["arrears", "advance"]
Proration = Literal["day", "second", "none"]
PlanKind = Literal["plan", "add-on"]


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a charge's amount that belongs to somebody else.

    Attributes:
        party: such as 'provider', 'consumer', or a partner's key.
        percent: of the line's net amount; all shares of a charge are at most 100.
    """

    party: str
    percent: Decimal


class Minimum(msgspec.Struct, frozen=True, kw_only=True):
    """A commitment: charges of a period come to this at least; a line of its own trues it up.

    Attributes:
        amount: for a whole period, in the plan's currency; prorated by day in a partial one.
        charges: keys of the charges that count towards it; () for all.
        currencies: other currency -> amount in it.
    """

    amount: Decimal
    name: str = "Minimum commitment"
    charges: tuple[str, ...] = ()
    currencies: dict[str, Decimal] = {}


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch at the beginning of a subscription with terms of its own: a trial, a ramp.

    Attributes:
        length: an ISO 8601 duration such as P14D or P3M; None for good, of the last one. Where the
            last one has a length, the plan's own terms follow it.
        charges: keys of the charges that it charges; None for all.
        prices: charge key -> price in place of the charge's own, in the plan's currency.
        currencies: other currency -> charge key -> the same in it.
        minimum: in place of the plan's; None for the plan's, an amount of 0 for none.
    """

    key: str
    name: str
    length: str | None = None
    charges: tuple[str, ...] | None = None
    prices: dict[str, Price] = {}
    currencies: dict[str, dict[str, Price]] = {}
    minimum: Minimum | None = None


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a plan charges for.

    Attributes:
        key: unique within the plan; lines name it.
        name: as the line shows it.
        meter: key of the meter whose usage is priced; None for a fixed fee.
        price: a usage price where there is a meter; where there is none a flat price of each unit,
            or a price of all units: by unit, graduated, by volume, in packages.
        timing: a fixed fee is due at the period's start (advance) or end (arrears); usage always
            in arrears, from zero in each period.
        proration: how a fixed fee shrinks in a partial period: whole days of the customer's
            zone, exact time, or not at all.
        split_by: dimensions of the meter; rated and shown for each of their values.
        where: dimension -> texts that count; None is a missing value.
        interval: how long its periods are, such as P1Y; '' for the plan's.
        recurring: its usage is carried over into the next period instead of starting at zero, and
            prorated by how long it was there.
        releases: dimension -> texts of a recurring UNIQUE_COUNT: an event with one of them takes
            its value away, such as a seat that is given back.
        quantity: units of a fixed fee, where the subscription names none.
        once: a fixed fee that is due once, when a subscription of the plan starts; not prorated.
        taxes: keys; None for those of the plan; () for none.
        shares: parts of its amount that belong to others.
    """

    key: str
    name: str
    price: Price
    meter: str | None = None
    timing: Timing = "arrears"
    proration: Proration = "day"
    split_by: tuple[str, ...] = ()
    where: dict[str, tuple[str | None, ...]] = {}
    interval: str = ""
    recurring: bool = False
    releases: dict[str, tuple[str | None, ...]] = {}
    quantity: Decimal = Decimal(1)
    once: bool = False
    taxes: tuple[str, ...] | None = None
    shares: tuple[Share, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a plan.

    Attributes:
        key: stable name, unique within the tenant.
        version: 1 and up; any change makes a new one, from each subscription's next period on.
        currency: ISO 4217; the same in all versions.
        rounding: how a line is rounded to the minor unit, once.
        kind: an add-on is subscribed to beside a subscription of a plan.
        interval: how long periods are: an ISO 8601 duration such as P1M, P1W, P1Y.
        effective_us: periods that start from then on may use this version; None for at once.
        phases: in order from each subscription's start; () for none.
        taxes: keys; None for those of the customer; () for none.
        minimum: None for none.
        currencies: other currency -> charge key -> price in it.
        thresholds: rising amounts of usage, of the whole life of a subscription, at which an
            invoice is made at once.
        thresholds_step: another threshold after each such amount beyond the last; None for none.
        thresholds_in: other currency -> the same in it.
    """

    key: str
    name: str
    currency: str
    charges: tuple[Charge, ...]
    rounding: Rounding = "half_up"
    version: int = 1
    kind: PlanKind = "plan"
    interval: str = "P1M"
    effective_us: int | None = None
    phases: tuple[Phase, ...] = ()
    taxes: tuple[str, ...] | None = None
    minimum: Minimum | None = None
    currencies: dict[str, dict[str, Price]] = {}
    thresholds: tuple[Decimal, ...] = ()
    thresholds_step: Decimal | None = None
    thresholds_in: dict[str, tuple[Decimal, ...]] = {}

    def charge(self, key: str) -> Charge | None:
        """Return one charge, or None."""
        for charge in self.charges:
            if charge.key == key:
                return charge
        return None

    def phase(self, key: str) -> Phase | None:
        """Return one phase, or None."""
        return next((phase for phase in self.phases if phase.key == key), None)

    def meters(self) -> frozenset[str]:
        """Return the keys of every meter it prices."""
        return frozenset(charge.meter for charge in self.charges if charge.meter is not None)

    def interval_of(self, charge: Charge) -> str:
        """Return how long the periods of one of its charges are."""
        return charge.interval or self.interval

    def intervals(self) -> tuple[str, ...]:
        """Return the different lengths of its periods, its own first if any charge has it."""
        found = {self.interval_of(charge): None for charge in self.charges}
        own = (self.interval,) if self.interval in found or self.minimum is not None else ()
        return tuple(dict.fromkeys((*own, *found)))

    def sold_in(self) -> tuple[str, ...]:
        """Return the currencies it has prices in, its own first."""
        return (self.currency, *sorted(self.currencies))
