"""A usage plan: named limits that hold for every key that is put on it."""

from collections.abc import Sequence

import msgspec

from tallybook.admit.plan.limit import Limit, check_limit, check_name
from tallybook.kernel.errors import Invalid
from tallybook.kernel.limits import NAME_CHARS_MAX
from tallybook.kernel.period import zone

LIMITS_MAX = 16


class UsagePlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What keys on it may do.

    Attributes:
        key: names it within its tenant.
        name: for people; '' is the key.
        zone: IANA time zone in which the windows of its quotas are drawn.
        default: whether it holds for every key of the tenant that names none.
        limits: all of them hold at once.
    """

    key: str
    name: str = ""
    zone: str = "UTC"
    default: bool = False
    limits: tuple[Limit, ...] = ()


def check_plan(plan: UsagePlan) -> UsagePlan:
    """Return a plan that can be; raises Invalid, naming the field."""
    check_name(plan.key, "key")
    if len(plan.name) > NAME_CHARS_MAX or not plan.name.isprintable():
        raise Invalid(f"name has at most {NAME_CHARS_MAX} characters", field="name")
    zone(plan.zone)
    check_limits(plan.limits)
    return plan


def check_limits(limits: Sequence[Limit], field: str = "limits") -> None:
    """Check limits that stand together; raises Invalid, naming the field."""
    if len(limits) > LIMITS_MAX:
        raise Invalid(f"a plan has at most {LIMITS_MAX} limits", field=field)
    seen: set[str] = set()
    for number, limit in enumerate(limits):
        check_limit(limit, f"{field}[{number}]")
        if limit.key in seen:
            raise Invalid(f"two limits are named '{limit.key}'", field=f"{field}[{number}].key")
        seen.add(limit.key)


def overridden(plan: UsagePlan, own: Sequence[Limit]) -> UsagePlan:
    """Return the plan as it holds for one key.

    Args:
        plan: as it holds for all.
        own: limits of this key: one with the name of a plan's limit takes its place, others come
            on top.
    """
    mine = {limit.key: limit for limit in own}
    kept = tuple(mine.pop(limit.key, limit) for limit in plan.limits)
    return msgspec.structs.replace(plan, limits=kept + tuple(mine.values()))
