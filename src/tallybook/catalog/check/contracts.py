"""What customers have: subscriptions, entitlements, wallets."""

from collections.abc import Iterator

from tallybook.catalog.amendment import PlanChange, PriceChange, QuantityChange
from tallybook.catalog.catalog import Catalog
from tallybook.catalog.check.need import need, need_dimensions, price_fits, same_currency
from tallybook.catalog.entitlement import Entitlement, Metered, Wallet
from tallybook.catalog.plan import Charge, Plan
from tallybook.catalog.price import Price
from tallybook.catalog.subscription import Subscription
from tallybook.kernel.errors import Conflict, Missing


def check_subscription(catalog: Catalog, subscription: Subscription) -> None:
    """Refuse a subscription whose customer, plans, base or charges do not fit together."""
    who = f"subscription {subscription.key}"
    need(catalog, who, "customer", subscription.customer)
    currency = catalog.customers[subscription.customer].currency
    plans = list(_plans(catalog, who, subscription))
    for plan in plans:
        same_currency(who, currency, plan)
    _check_kind(catalog, who, subscription, plans)
    if subscription.quantities or subscription.prices or subscription.amendments:
        _check_terms(catalog, who, subscription, plans)


def _plans(catalog: Catalog, who: str, subscription: Subscription) -> Iterator[Plan]:
    """Yield the plan versions that it starts with and that it is on last, and those between."""
    uses = [(subscription.plan, subscription.plan_version, subscription.start_us)]
    changes = [one for one in subscription.amendments if isinstance(one, PlanChange)]
    uses += [(one.plan, one.plan_version, one.at_us) for one in changes]
    last = max(range(len(uses)), key=lambda at: (uses[at][2], at))
    need(catalog, who, "plan", uses[last][0])
    for key, version, at_us in uses:
        try:
            pinned = version is not None
            yield catalog.plan(key, version) if pinned else catalog.plan_at(key, at_us)
            yield catalog.plan(key, version)
        except Missing as error:
            raise Conflict(f"{who}: {error.message}", field="plan") from error


def _check_kind(catalog: Catalog, who: str, subscription: Subscription, plans: list[Plan]) -> None:
    """Refuse an add-on without a base, and a base of what is none."""
    kind = "add-on" if subscription.base else "plan"
    for plan in plans:
        if plan.kind != kind:
            fix = "name its base" if plan.kind == "add-on" else "leave out base"
            message = f"{who}: {plan.key} is of kind {plan.kind}: {fix}, or name another plan"
            raise Conflict(message, field="base")
    if not subscription.base:
        return
    need(catalog, f"{who}, base,", "subscription", subscription.base)
    base = catalog.subscriptions[subscription.base]
    if base.base:
        raise Conflict(f"{who}: base {base.key} is an add-on itself", field="base")
    if base.customer != subscription.customer:
        message = f"{who}: base {base.key} is customer {base.customer}'s"
        raise Conflict(message, field="base")


def _check_terms(catalog: Catalog, who: str, subscription: Subscription, plans: list[Plan]) -> None:
    """Refuse quantities and prices of charges that none of its plans has."""
    charges: dict[str, Charge] = {c.key: c for plan in plans for c in plan.charges}
    for key in _quantities(subscription):
        if key not in charges or charges[key].meter is not None:
            message = f"{who}: quantity of '{key}', which is no fixed fee of its plan"
            raise Conflict(message, field="quantities")
    for key, price in _prices(subscription):
        if key not in charges:
            message = f"{who}: price of '{key}', which is no charge of its plan"
            raise Conflict(message, field="prices")
        price_fits(catalog, f"{who}, price of {key}", charges[key], price)


def _quantities(subscription: Subscription) -> Iterator[str]:
    yield from subscription.quantities
    for one in subscription.amendments:
        if isinstance(one, QuantityChange):
            yield one.charge


def _prices(subscription: Subscription) -> Iterator[tuple[str, Price]]:
    yield from subscription.prices.items()
    for one in subscription.amendments:
        if isinstance(one, PriceChange) and one.price is not None:
            yield one.charge, one.price


def check_entitlement(catalog: Catalog, entitlement: Entitlement) -> None:
    """Refuse an entitlement whose customer, meter or dimensions are not there."""
    who = f"entitlement {entitlement.key}"
    need(catalog, who, "customer", entitlement.customer)
    access = entitlement.access
    if isinstance(access, Metered):
        need(catalog, who, "meter", access.meter)
        need_dimensions(who, catalog.meter(access.meter), access.filter, "filter")


def check_wallet(catalog: Catalog, wallet: Wallet) -> None:
    """Refuse a wallet of nobody, or in another currency than its customer's."""
    who = f"wallet {wallet.key}"
    need(catalog, who, "customer", wallet.customer)
    currency = catalog.customers[wallet.customer].currency
    if wallet.currency != currency:
        message = f"{who} is in {wallet.currency}, but customer {wallet.customer} in {currency}"
        raise Conflict(message, field="currency")
