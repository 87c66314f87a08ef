"""What is stored keeps the meaning by which it was billed."""

from collections.abc import Iterable

from tallybook.catalog.catalog import Catalog, Entry, entry_kind
from tallybook.catalog.customer import Customer
from tallybook.catalog.entitlement import Wallet
from tallybook.catalog.meter import Meter
from tallybook.catalog.plan import Plan
from tallybook.catalog.subscription import Subscription
from tallybook.kernel.errors import Conflict


def check_stored(catalog: Catalog, entries: Iterable[Entry]) -> None:
    """Refuse to give what is stored another meaning, by which it was billed; raises Conflict.

    A subscription's billed periods are its payer's, in the payer's currency: under another
    customer, or in another currency, a late event would correct what somebody else paid. What was
    decided about a subscription stays decided: amendments are only ever added.
    """
    for entry in entries:
        match entry:
            case Subscription():
                _check_subscription(catalog, entry)
            case Customer():
                _check_customer(catalog, entry)
            case Wallet():
                _check_wallet(catalog, entry)
            case Meter() | Plan():
                _check_version(catalog, entry)
            case _:
                pass


def _check_subscription(catalog: Catalog, entry: Subscription) -> None:
    known = catalog.subscriptions.get(entry.key)
    if known is None:
        return
    who = f"subscription {entry.key}"
    if known.customer != entry.customer:
        message = f"{who} is customer {known.customer}'s for good"
        raise Conflict(f"{message}; end it and make another one", field="customer")
    if known.base != entry.base:
        was = f"belongs to {known.base}" if known.base else "is no add-on,"
        message = f"{who} {was} for good; end it and make another one"
        raise Conflict(message, field="base")
    if entry.amendments[: len(known.amendments)] != known.amendments:
        message = f"{who}: what was decided stays; amendments are only ever added"
        raise Conflict(message, field="amendments")


def _check_customer(catalog: Catalog, entry: Customer) -> None:
    known = catalog.customers.get(entry.key)
    if known is None:
        return
    if known.currency != entry.currency:
        message = f"customer {entry.key} pays in {known.currency} for good"
        raise Conflict(f"{message}; make another customer", field="currency")
    if known.parent != entry.parent and _subscribes(catalog, entry.key):
        payer = f"customer {known.parent} pays" if known.parent else "it pays itself"
        message = f"{payer} for what customer {entry.key} subscribes to, late usage included"
        fix = "archive its subscriptions first, or make another customer"
        raise Conflict(f"{message}; {fix}", field="parent")


def _subscribes(catalog: Catalog, customer: str) -> bool:
    return any(
        one.customer == customer and catalog.live("subscription", one.key)
        for one in catalog.subscriptions.values()
    )


def _check_wallet(catalog: Catalog, entry: Wallet) -> None:
    known = catalog.wallets.get(entry.key)
    if known is None:
        return
    for field in ("customer", "currency", "unit"):
        if getattr(known, field) != getattr(entry, field):
            message = f"wallet {entry.key} keeps its {field}; make another wallet"
            raise Conflict(message, field=field)


def _check_version(catalog: Catalog, entry: Meter | Plan) -> None:
    """Refuse to give a stored version of a meter or plan another meaning."""
    if isinstance(entry, Meter):
        changed = any(
            stored.version == entry.version and not stored.same_definition(entry)
            for stored in catalog.meters.get(entry.key, ())
        )
    else:
        stored_plans = catalog.plans.get(entry.key, ())
        changed = any(p.version == entry.version and p != entry for p in stored_plans)
    if changed:
        name = f"{entry_kind(entry)} {entry.key} version {entry.version}"
        raise Conflict(f"{name} is stored and never changes", field="version")
