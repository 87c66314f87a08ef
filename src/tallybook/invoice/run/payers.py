"""Who pays: a customer, with its own subscriptions and those of the customers it pays for.

Source: docs/algorithms/billing-runs.md
"""

from collections.abc import Collection, Iterable, Sequence

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.customer import Customer
from tallybook.catalog.subscription import Subscription


class Payer(msgspec.Struct, frozen=True, kw_only=True):
    """A customer that gets one invoice for itself and for those that it pays for.

    Attributes:
        members: the live customers that it pays for, by key.
        subscriptions: live ones of all of them, by customer, the payer's own first.
    """

    customer: Customer
    members: tuple[Customer, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()

    @property
    def key(self) -> str:
        """The key of the customer that pays."""
        return self.customer.key


def payer_of(catalog: Catalog, customer: str) -> Customer:
    """Return who pays for a customer: its parent, or itself; raises Missing."""
    return catalog.payer(customer)


def payers(
    catalog: Catalog, only: Sequence[str] | None = None, charged: Collection[str] = ()
) -> dict[str, Payer]:
    """Return everybody who pays for a live subscription or a charge, in the order of their keys.

    Args:
        catalog: customers and subscriptions.
        only: keys of payers; None for all.
        charged: keys of customers whose one-off charges wait to be billed.
    """
    found: dict[str, dict[str, list[Subscription]]] = {}
    wanted = None if only is None else frozenset(only)
    for key in sorted(_of_payers(catalog, wanted)):
        subscription = catalog.subscriptions[key]
        owner = subscription.customer
        if catalog.live("subscription", key) and catalog.live("customer", owner):
            payer = catalog.customers[owner].parent or owner
            found.setdefault(payer, {}).setdefault(owner, []).append(subscription)
    for owner in charged:
        payer = catalog.customers[owner].parent or owner
        if catalog.live("customer", owner) and (wanted is None or payer in wanted):
            found.setdefault(payer, {})
    children = _children(catalog)
    return {key: _payer(catalog, key, found[key], children) for key in sorted(found)}


def _of_payers(catalog: Catalog, wanted: frozenset[str] | None) -> Iterable[str]:
    """Return the keys of the subscriptions that some pay for; None for all."""
    if wanted is None:
        return catalog.subscriptions
    paying = {key for key, one in catalog.customers.items() if (one.parent or key) in wanted}
    return [key for key, one in catalog.subscriptions.items() if one.customer in paying]


def payer(catalog: Catalog, customer: str) -> Payer:
    """Return the payer of a customer, whether or not anything is subscribed; raises Missing."""
    return paying(catalog, payer_of(catalog, customer).key)


def paying(catalog: Catalog, customer: str) -> Payer:
    """Return a customer with all that it pays for: nothing, where another one pays for it.

    Raises:
        Missing: there is no such customer.
    """
    known = payers(catalog, [customer]).get(customer)
    return known or _payer(catalog, customer, {}, _children(catalog))


def _children(catalog: Catalog) -> dict[str, list[str]]:
    """Return the live customers that others pay for, by who pays."""
    found: dict[str, list[str]] = {}
    for customer in catalog.customers.values():
        if customer.parent and catalog.live("customer", customer.key):
            found.setdefault(customer.parent, []).append(customer.key)
    return found


def _payer(
    catalog: Catalog,
    key: str,
    owned: dict[str, list[Subscription]],
    children: dict[str, list[str]],
) -> Payer:
    """Return a payer; who has no subscription may still have a one-off charge."""
    members = sorted({*owned, *children.get(key, ())} - {key})
    order = [one for one in (key, *members) if one in owned]
    return Payer(
        customer=catalog.customer(key),
        members=tuple(catalog.customers[member] for member in members),
        subscriptions=tuple(one for owner in order for one in owned[owner]),
    )
