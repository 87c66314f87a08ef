"""Plans: what is sold, by version; how one is written, checked, and which of its terms hold.

Source: docs/algorithms/plans.md
"""

from tallybook.catalog.plan.check import CHARGES_MAX, PHASES_MAX, SPLIT_MAX, check_plan
from tallybook.catalog.plan.resolve import commitment, priced, thresholds
from tallybook.catalog.plan.spec import (
    ChargeSpec,
    MinimumSpec,
    PhaseSpec,
    PlanSpec,
    PriceSpec,
    plan_spec,
)
from tallybook.catalog.plan.terms import (
    Charge,
    Minimum,
    Phase,
    Plan,
    PlanKind,
    Proration,
    Share,
    Timing,
)

__all__ = [
    "CHARGES_MAX",
    "PHASES_MAX",
    "SPLIT_MAX",
    "Charge",
    "ChargeSpec",
    "Minimum",
    "MinimumSpec",
    "Phase",
    "PhaseSpec",
    "Plan",
    "PlanKind",
    "PlanSpec",
    "PriceSpec",
    "Proration",
    "Share",
    "Timing",
    "check_plan",
    "commitment",
    "plan_spec",
    "priced",
    "thresholds",
]
