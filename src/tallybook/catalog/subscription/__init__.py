"""Subscriptions: who has which plan since when, what was decided about it, and its periods.

Source: docs/algorithms/subscriptions.md, docs/algorithms/periods.md
"""

from tallybook.catalog.subscription.calendar import Alignment, divides, whole_period
from tallybook.catalog.subscription.commands import (
    Decision,
    Skipped,
    decide,
    described,
    migration,
    plan_at,
)
from tallybook.catalog.subscription.periods import Slot, open_periods, opened, slots
from tallybook.catalog.subscription.spec import (
    SubscriptionSpec,
    check_subscription,
    subscription_spec,
)
from tallybook.catalog.subscription.states import Standing, State, standing, state_at
from tallybook.catalog.subscription.subscription import StoredPeriod, Subscription
from tallybook.catalog.subscription.timeline import (
    Ending,
    PhasesOf,
    Stretch,
    alignment,
    ending,
    own_prices,
    pauses,
    timeline,
    units,
)

__all__ = [
    "Alignment",
    "Decision",
    "Ending",
    "PhasesOf",
    "Skipped",
    "Slot",
    "Standing",
    "State",
    "StoredPeriod",
    "Stretch",
    "Subscription",
    "SubscriptionSpec",
    "alignment",
    "check_subscription",
    "decide",
    "described",
    "divides",
    "ending",
    "migration",
    "open_periods",
    "opened",
    "own_prices",
    "pauses",
    "plan_at",
    "slots",
    "standing",
    "state_at",
    "subscription_spec",
    "timeline",
    "units",
    "whole_period",
]
