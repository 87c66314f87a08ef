"""In which period a fee that is charged once is charged.

Source: docs/algorithms/plans.md, Charged once
"""

from collections.abc import Callable, Sequence

from tallybook.catalog.plan import Plan
from tallybook.invoice.due.items import given_back
from tallybook.invoice.due.moving import Moving
from tallybook.invoice.due.terms import Resolver
from tallybook.invoice.manifest import Billed, Position


def charged_once(
    states: Sequence[Moving],
    terms: Resolver,
    billed: Callable[[Position], tuple[Billed, ...]],
) -> frozenset[Position]:
    """Return the positions of fees that are charged once: one for each plan and charge at most.

    Args:
        states: every period of a subscription, by start.
        terms: of the subscription.
        billed: what was billed of a position.

    Returns:
        The first period of the plan in which the charge applies, unless an earlier period was of a
        version of the plan without it; one that is billed already stays the one.

    Raises:
        Missing: a plan version is not there.
    """
    found: dict[tuple[str, str], Position] = {}
    before: dict[str, list[Plan]] = {}
    for state in states:
        period = state.moved
        there = terms.of_period(period)
        known = before.setdefault(there.plan.key, [])
        for sold in there.of_interval(state.place.interval):
            if not sold.charge.once:
                continue
            place = (there.plan.key, sold.charge.key)
            position = Position(period.subscription, sold.charge.key, period.start_us)
            first = found.get(place)
            if first is None:
                if not any(_lacks(plan, sold.charge.key) for plan in known):
                    found[place] = position
            elif given_back(billed(first)) and not given_back(billed(position)):
                found[place] = position
        known.append(there.plan)
    return frozenset(found.values())


def _lacks(plan: Plan, charge: str) -> bool:
    """Whether who started with a version of a plan is not charged, though a later one has it."""
    there = plan.charge(charge)
    return there is None or not there.once
