"""Which terms of a plan hold in a phase and a currency.

Source: docs/algorithms/plans.md
"""

from decimal import Decimal

import msgspec

from tallybook.catalog.plan.terms import Charge, Minimum, Phase, Plan
from tallybook.catalog.price import Price
from tallybook.kernel.errors import Missing


def priced(plan: Plan, phase: str = "", currency: str = "") -> tuple[Charge, ...]:
    """Return the charges that apply, each with the price it has there, in the plan's order.

    A phase says which charges apply. A price is the phase's in that currency, else the plan's in
    that currency, which for the plan's own currency is the charge's. A subscription's own price,
    where it has one, stands before all of them and is not looked at here.

    Args:
        plan: one version.
        phase: key of one of its phases; '' for the plan's own terms.
        currency: one that it is sold in; '' for its own.

    Raises:
        Missing: it has no such phase, or is not sold in the currency.
    """
    there = _phase(plan, phase)
    own = _prices(plan, currency, {}, plan.currencies)
    above = {} if there is None else _prices(plan, currency, there.prices, there.currencies)
    return tuple(
        msgspec.structs.replace(
            charge, price=above.get(charge.key) or own.get(charge.key, charge.price)
        )
        for charge in plan.charges
        if there is None or there.charges is None or charge.key in there.charges
    )


def commitment(plan: Plan, phase: str = "", currency: str = "") -> Minimum | None:
    """Return the commitment that holds, its amount in that currency; None for none.

    In a phase that charges none of what counts towards the plan's commitment there is none.

    Raises:
        Missing: the plan has no such phase, or is not sold in the currency.
    """
    _sold(plan, currency)
    there = _phase(plan, phase)
    own = None if there is None else there.minimum
    found = plan.minimum if own is None else own
    if found is None or not found.amount:
        return None
    if own is None and not _counts(found, there):
        return None
    amount = found.currencies.get(currency, found.amount)
    return msgspec.structs.replace(found, amount=amount, currencies={})


def _counts(minimum: Minimum, phase: Phase | None) -> bool:
    """Whether any charge that counts towards a commitment applies in a phase."""
    if phase is None or phase.charges is None:
        return True
    counting = minimum.charges or phase.charges
    return any(key in phase.charges for key in counting)


def thresholds(plan: Plan, currency: str = "") -> tuple[Decimal, ...]:
    """Return the amounts of open usage at which an invoice is made; raises Missing."""
    _sold(plan, currency)
    return plan.thresholds_in.get(currency, plan.thresholds)


def _phase(plan: Plan, key: str) -> Phase | None:
    found = plan.phase(key)
    if key and found is None:
        message = f"plan {plan.key} version {plan.version} has no phase '{key}'"
        raise Missing(message, field="phase")
    return found


def _prices(
    plan: Plan, currency: str, own: dict[str, Price], others: dict[str, dict[str, Price]]
) -> dict[str, Price]:
    """Return prices in a currency: the plan's own, or one of the others."""
    _sold(plan, currency)
    return own if currency in {"", plan.currency} else others.get(currency, {})


def _sold(plan: Plan, currency: str) -> None:
    if currency not in {"", *plan.sold_in()}:
        known = ", ".join(plan.sold_in())
        message = f"plan {plan.key} is not sold in {currency}, only in {known}"
        raise Missing(message, field="currency")
