"""What is sold: plans, coupons, and rules that put newcomers on a plan."""

from collections.abc import Iterator

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.check.need import (
    need,
    need_dimensions,
    need_taxes,
    price_fits,
    recurs,
    same_currency,
)
from tallybook.catalog.coupon import Coupon
from tallybook.catalog.plan import Charge, Plan
from tallybook.catalog.price import Price
from tallybook.catalog.rule import CustomerRule
from tallybook.kernel.errors import Conflict


def check_plan(catalog: Catalog, plan: Plan) -> None:
    """Refuse a plan whose meters, dimensions or taxes are not there."""
    need_taxes(catalog, f"plan {plan.key}", plan.taxes)
    for charge in plan.charges:
        who = f"plan {plan.key}, charge {charge.key}"
        need_taxes(catalog, who, charge.taxes)
        if charge.meter is not None:
            need(catalog, who, "meter", charge.meter)
            meter = catalog.meter(charge.meter)
            need_dimensions(who, meter, (*charge.split_by, *charge.where), "split_by")
            recurs(who, charge, meter)
        for price in _prices(plan, charge):
            price_fits(catalog, who, charge, price)


def _prices(plan: Plan, charge: Charge) -> Iterator[Price]:
    """Yield every price that a charge may have."""
    others = [plan.currencies, *(phase.currencies for phase in plan.phases)]
    places = [phase.prices for phase in plan.phases]
    places += [prices for currencies in others for prices in currencies.values()]
    yield charge.price
    yield from (prices[charge.key] for prices in places if charge.key in prices)


def check_coupon(catalog: Catalog, coupon: Coupon) -> None:
    """Refuse a coupon for what is not sold."""
    who = f"coupon {coupon.key}"
    for key in coupon.plans:
        need(catalog, who, "plan", key)
    for key in coupon.meters:
        need(catalog, who, "meter", key)
    if not coupon.charges:
        return
    plans = coupon.plans or [key for key in catalog.plans if catalog.live("plan", key)]
    known = {charge.key for key in plans for charge in catalog.plan(key).charges}
    for key in coupon.charges:
        if key not in known:
            message = f"{who} refers to charge '{key}', which none of its plans has"
            raise Conflict(message, field="charges")


def check_rule(catalog: Catalog, rule: CustomerRule) -> None:
    """Refuse a rule whose plan is not there, or not for its customers."""
    who = f"rule {rule.key}"
    need(catalog, who, "plan", rule.plan)
    plan = catalog.plan(rule.plan)
    if plan.kind == "add-on":
        raise Conflict(f"{who} needs a plan, but {plan.key} is an add-on", field="plan")
    same_currency(who, rule.currency, plan)
