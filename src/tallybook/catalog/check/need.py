"""Questions that all checks ask; a refusal is a `Conflict` that names who refers to what."""

from collections.abc import Iterable

from tallybook.catalog.catalog import Catalog, Kind
from tallybook.catalog.meter import LEVELS, Meter
from tallybook.catalog.plan import Charge, Plan
from tallybook.catalog.price import (
    FlatPrice,
    PercentagePrice,
    Price,
    needs_sum,
    price_dimensions,
    sells_units,
)
from tallybook.kernel.errors import Conflict


def need(catalog: Catalog, who: str, kind: Kind, key: str) -> None:
    """Refuse a reference to what is archived or not there."""
    if not catalog.live(kind, key):
        state = "archived" if key in catalog.keys(kind) else "not there"
        raise Conflict(f"{who} refers to {kind} '{key}', which is {state}", field=kind)


def need_taxes(catalog: Catalog, who: str, keys: Iterable[str] | None) -> None:
    """Refuse taxes that are archived or not there."""
    for key in keys or ():
        need(catalog, who, "tax", key)


def need_dimensions(who: str, meter: Meter, names: Iterable[str], field: str) -> None:
    """Refuse dimensions that a meter does not have."""
    for name in names:
        if name not in meter.group_by:
            known = ", ".join(sorted(meter.group_by)) or "none"
            message = f"{who}: meter {meter.key} has no dimension '{name}' (it has {known})"
            raise Conflict(message, field=field)


def same_currency(who: str, currency: str, plan: Plan) -> None:
    """Refuse a plan that is not sold in a currency."""
    if currency not in plan.sold_in():
        sold = ", ".join(plan.sold_in())
        message = f"{who} is in {currency}, but plan {plan.key} is in {sold}"
        raise Conflict(message, field="currency")


def price_fits(catalog: Catalog, who: str, charge: Charge, price: Price) -> None:
    """Refuse a price that cannot be of a charge."""
    if charge.meter is None and not sells_units(price):
        message = f"{who}: a fixed fee needs a flat price, or one of units"
        raise Conflict(message, field="price")
    if charge.meter is not None and isinstance(price, FlatPrice):
        raise Conflict(f"{who}: usage needs a usage price", field="price")
    if charge.meter is None:
        return
    if charge.recurring and isinstance(price, PercentagePrice) and price.of_events():
        message = f"{who}: what is carried over has no single events to charge for"
        raise Conflict(f"{message}; leave out fixed_amount, free_events and bounds", field="price")
    meter = catalog.meter(charge.meter)
    why = needs_sum(price)
    if why and meter.aggregation != "SUM":
        message = f"{who}: meter {meter.key} is {meter.aggregation}, but {why}: use a SUM meter"
        raise Conflict(message, field="meter")
    need_dimensions(who, meter, price_dimensions(price), "split_by")


def recurs(who: str, charge: Charge, meter: Meter) -> None:
    """Refuse to carry over what has no level, and to release what is in no set."""
    if charge.recurring and meter.aggregation not in LEVELS:
        known = ", ".join(sorted(LEVELS))
        message = f"{who}: a {meter.aggregation} meter is not carried over; recurring is of {known}"
        raise Conflict(message, field="recurring")
    if charge.releases and meter.aggregation != "UNIQUE_COUNT":
        message = f"{who}: releases is of a UNIQUE_COUNT meter, {meter.key} is {meter.aggregation}"
        raise Conflict(message, field="releases")
    need_dimensions(who, meter, charge.releases, "releases")
