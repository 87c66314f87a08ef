"""The terms that an item is rated with, resolved: charges of a phase, prices, units and taxes.

A price is, in this order: the subscription's own, the phase's, the plan's in the customer's
currency, the charge's. Taxes are the charge's, else the plan's, the payer's, the seller's.

Source: docs/algorithms/plans.md, docs/algorithms/taxes.md
"""

from decimal import Decimal

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.plan import Charge, Plan, commitment, priced
from tallybook.catalog.price import Price
from tallybook.catalog.subscription import StoredPeriod, Subscription

MINIMUM = "@minimum"
"""Stands for the charge of a commitment."""


class Sold(msgspec.Struct, frozen=True):
    """A charge as a customer has it.

    Attributes:
        price: in place of the charge's own; None for that.
        taxes: keys.
    """

    charge: Charge
    interval: str
    price: Price | None
    taxes: tuple[str, ...]


class Terms(msgspec.Struct, frozen=True):
    """A plan version in a phase, as a customer has it.

    Attributes:
        minimum: of a whole period of the plan's interval; None for none.
        taxes: of the commitment's line.
    """

    plan: Plan
    phase: str
    sold: tuple[Sold, ...]
    minimum: Decimal | None
    taxes: tuple[str, ...]

    def of_interval(self, interval: str) -> list[Sold]:
        """Return what is charged in periods of an interval."""
        return [sold for sold in self.sold if sold.interval == interval]

    def minimum_of(self, interval: str) -> Decimal | None:
        """Return the commitment of periods of an interval."""
        return self.minimum if interval == self.plan.interval else None


def charges_of(period: StoredPeriod, catalog: Catalog) -> list[Charge]:
    """Return the charges of a period's interval and phase; raises Missing."""
    plan = catalog.plan(period.plan, period.plan_version)
    there = plan.phase(period.phase)
    return [
        charge
        for charge in plan.charges
        if plan.interval_of(charge) == period.interval
        and (there is None or there.charges is None or charge.key in there.charges)
    ]


class Resolver:
    """Resolves terms for one subscription, each once."""

    def __init__(self, subscription: Subscription, catalog: Catalog) -> None:
        """Resolve against this catalog."""
        self._subscription = subscription
        self._catalog = catalog
        customer = catalog.customer(subscription.customer)
        self.owner = customer.key if customer.parent else ""
        payer = catalog.customer(customer.parent) if customer.parent else customer
        self._currency = customer.currency
        taxes = payer.taxes
        self._taxes = catalog.seller.taxes if taxes is None else taxes
        self._known: dict[tuple[str, int, str], Terms] = {}

    def of(self, plan: str, version: int, phase: str) -> Terms:
        """Return the terms of a plan version in a phase; raises Missing."""
        key = (plan, version, phase)
        if key not in self._known:
            self._known[key] = self._resolved(self._catalog.plan(plan, version), phase)
        return self._known[key]

    def of_period(self, period: StoredPeriod) -> Terms:
        """Return the terms of a period."""
        return self.of(period.plan, period.plan_version, period.phase)

    def _resolved(self, plan: Plan, phase: str) -> Terms:
        there = phase if plan.phase(phase) is not None else ""
        taxes = self._taxes if plan.taxes is None else plan.taxes
        charges = priced(plan, there, self._currency)
        least = commitment(plan, there, self._currency)
        return Terms(
            plan,
            there,
            tuple(self._sold(plan, charge, taxes) for charge in charges),
            self._minimum(None if least is None else least.amount),
            taxes,
        )

    def _minimum(self, amount: Decimal | None) -> Decimal | None:
        """Return the commitment; one that the subscription agreed on is in place of the plan's."""
        own = self._subscription.minimum
        return amount if own is None else own or None

    def _sold(self, plan: Plan, charge: Charge, taxes: tuple[str, ...]) -> Sold:
        written = plan.charge(charge.key)
        own = written is not None and written.price == charge.price
        return Sold(
            charge,
            plan.interval_of(charge),
            None if own else charge.price,
            taxes if charge.taxes is None else charge.taxes,
        )
