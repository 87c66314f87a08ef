"""The usage plans of `catalog.toml`: what an apply changes of them, decided once and written."""

import msgspec

from tallybook.admit.declare import PlanChange, declared_plans, plan_changes
from tallybook.admit.key import ADMIN
from tallybook.compose import World
from tallybook.serve.api.gate import Grant, allowed


class Decided(msgspec.Struct, frozen=True):
    """What an apply does to usage plans.

    Attributes:
        changes: to be written, in order.
        kept: not declared, and not taken out of use.
        versions: of the plans in use, by key, from which this was decided.
    """

    changes: tuple[PlanChange, ...] = ()
    kept: tuple[PlanChange, ...] = ()
    versions: dict[str, int] = {}


def decided(
    world: World, tenant: str, written: tuple[dict[str, object], ...] | None, *, prune: bool
) -> Decided:
    """Return what is to be done so that a tenant's plans are as a file has them.

    Args:
        world: of the process.
        tenant: whose.
        written: `[[usage_plans]]` of the file; None where it says nothing of any: all stay.
        prune: take out of use what is not declared.

    Raises:
        Invalid: a plan cannot be.
    """
    if written is None:
        return Decided()
    declared = declared_plans(written)
    stored = world.usage_plans.listed(tenant)
    plans = {one.plan.key: one.plan for one in stored}
    on: dict[str, int] = {}
    for key in world.keys.listed(tenant):
        if key.revoked_us is None:
            on[key.usage_plan] = on.get(key.usage_plan, 0) + 1
    found = plan_changes(plans, declared, on, prune=prune)
    return Decided(
        tuple(one for one in found if one.action != "keep"),
        tuple(one for one in found if one.action == "keep"),
        {one.plan.key: one.version for one in stored},
    )


def check_may(grant: Grant, plans: Decided) -> None:
    """Refuse to change usage plans without the scope admin; raises Forbidden."""
    if plans.changes:
        allowed(grant, ADMIN)


def write(world: World, tenant: str, plans: Decided) -> None:
    """Do what was decided, all of it or nothing; raises Conflict where others were faster."""
    if plans.changes:
        changes = {one.key: one.plan for one in plans.changes}
        world.usage_plans.apply(tenant, changes, world.clock.now_us(), plans.versions)
