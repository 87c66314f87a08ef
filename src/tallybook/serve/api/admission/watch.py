"""The usage plans of all tenants, as this process knows them: polled, bound to keys once each."""

from collections.abc import Sequence
from typing import Protocol

import msgspec
import structlog

from tallybook.adapters.sql.access.usage_plans import EveryPlan
from tallybook.admit.key import Grant
from tallybook.admit.plan.bind import Binding, bind
from tallybook.admit.plan.plan import UsagePlan, overridden
from tallybook.kernel.errors import TallybookError
from tallybook.serve.api.common.rounds import Rounds

POLL_SECONDS = 0.5
BINDINGS_MAX = 50_000

NOTHING = Binding()
_NO_PLAN = UsagePlan(key="")


class Plans(Protocol):
    """Where plans are kept."""

    def version(self) -> int:
        """Return a number that grows with every change."""
        ...

    def every(self) -> EveryPlan:
        """Return all of them."""
        ...


class PlanWatch:
    """What every key is limited to.

    Args:
        plans: where they are kept.
    """

    def __init__(self, plans: Plans) -> None:
        """Read them once; `start` keeps them fresh."""
        self._plans = plans
        self._version = -1
        self._every = EveryPlan({}, {})
        self._defaults: dict[str, UsagePlan] = {}
        self._bindings: dict[tuple[str, str, str, str], Binding] = {}
        self._rounds = Rounds(self._round, POLL_SECONDS, "usage-plans")
        self.any = False
        self.refresh()

    def start(self) -> None:
        """Poll for changes in the background, until `close`."""
        self._rounds.start()

    def close(self) -> None:
        """Poll no more."""
        self._rounds.close()

    def refresh(self) -> None:
        """Read the plans again if any changed."""
        version = self._plans.version()
        if version == self._version:
            return
        every = self._plans.every()
        self._defaults = {tenant: plan for (tenant, _), plan in every.plans.items() if plan.default}
        self._every = every
        self._bindings = {}
        self.any = bool(every.plans or every.own)
        self._version = version

    def binding(self, grant: Grant) -> Binding:
        """Return the limits of a key."""
        key = (grant.tenant, grant.key_id, grant.usage_plan, grant.customer)
        found = self._bindings.get(key)
        if found is None:
            if len(self._bindings) >= BINDINGS_MAX:
                self._bindings = {}
            found = self._bindings[key] = self._bound(grant)
        return found

    def _bound(self, grant: Grant) -> Binding:
        every = self._every
        first = every.firsts.get((grant.tenant, grant.key_id))
        if first is not None:
            grant = msgspec.structs.replace(grant, key_id=first)
        named = every.plans.get((grant.tenant, grant.usage_plan)) if grant.usage_plan else None
        plan = named or self._defaults.get(grant.tenant)
        own = every.own.get((grant.tenant, grant.key_id), ())
        if plan is None and not own:
            return NOTHING
        return bind(held(plan, own), grant)

    def _round(self) -> None:
        try:
            self.refresh()
        except TallybookError as error:
            structlog.get_logger("limits").warning("limits.not_read", error=error.message)


def held(plan: UsagePlan | None, own: Sequence[object]) -> UsagePlan:
    """Return the plan that holds for a key: its plan's limits, and its own."""
    return overridden(plan or _NO_PLAN, own)  # type: ignore[arg-type]
