"""Usage plans as `catalog.toml` declares them, and what an apply changes of those there are."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from tallybook.admit.plan.plan import UsagePlan, check_plan
from tallybook.kernel.errors import Invalid

DETAIL_CHARS_MAX = 120


class PlanChange(msgspec.Struct, frozen=True, kw_only=True):
    """One plan that an apply writes, or leaves though it is not declared.

    Attributes:
        action: 'keep' is of a plan that is not declared and not taken out of use either.
        plan: as it shall be; None where it is taken out of use, or kept.
        details: one line for each field that differs; of 'keep' the reason.
    """

    action: Literal["create", "update", "archive", "keep"]
    key: str
    plan: UsagePlan | None = None
    details: tuple[str, ...] = ()


def declared_plans(written: Sequence[object]) -> tuple[UsagePlan, ...]:
    """Return the plans of a file's `[[usage_plans]]`; raises Invalid, naming plan and field."""
    try:
        plans = msgspec.convert(list(written), list[UsagePlan])
    except msgspec.ValidationError as error:
        raise Invalid(f"usage_plans: {error}", field="usage_plans") from error
    seen: set[str] = set()
    for plan in plans:
        try:
            check_plan(plan)
        except Invalid as error:
            message = f"usage plan '{plan.key}': {error.message}"
            raise Invalid(message, field=f"usage_plans.{error.field}") from error
        if plan.key in seen:
            raise Invalid(f"usage_plans: '{plan.key}' is there twice", field="usage_plans.key")
        seen.add(plan.key)
    if sum(plan.default for plan in plans) > 1:
        raise Invalid("only one usage plan can be the default", field="usage_plans.default")
    return tuple(plans)


def plan_changes(
    stored: Mapping[str, UsagePlan],
    declared: Sequence[UsagePlan],
    keys_on: Mapping[str, int],
    *,
    prune: bool,
) -> list[PlanChange]:
    """Return what an apply does to the plans of a tenant; nothing where all are as declared.

    Args:
        stored: the plans in use, by key.
        declared: as the file has them.
        keys_on: how many good keys name a plan.
        prune: take out of use what is not declared, but no plan that keys are on.
    """
    changes = [one for plan in declared if (one := _changed(stored.get(plan.key), plan))]
    named = {plan.key for plan in declared}
    taken = any(plan.default for plan in declared)
    for key in sorted(set(stored) - named):
        if prune and not keys_on.get(key):
            changes.append(PlanChange(action="archive", key=key))
            continue
        if prune:
            reason = f"{keys_on[key]} keys are on it"
            changes.append(PlanChange(action="keep", key=key, details=(reason,)))
        if taken:  # there is one default
            given_up = msgspec.structs.replace(stored[key], default=False)
            changes += [one] if (one := _changed(stored[key], given_up)) else []
    return changes


def _changed(before: UsagePlan | None, plan: UsagePlan) -> PlanChange | None:
    if before is None:
        return PlanChange(action="create", key=plan.key, plan=plan)
    details = tuple(_differences(before, plan))
    if not details:
        return None
    return PlanChange(action="update", key=plan.key, plan=plan, details=details)


def _differences(before: UsagePlan, plan: UsagePlan) -> Iterator[str]:
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(plan)
    for field in new:
        if old[field] != new[field]:
            yield f"{field}: {_short(old[field])} -> {_short(new[field])}"


def _short(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= DETAIL_CHARS_MAX else f"{text[: DETAIL_CHARS_MAX - 3]}..."
