"""Usage plans as a file declares them, and what an apply changes."""

from typing import Any

import pytest

from tallybook.admit.declare import PlanChange, declared_plans, plan_changes
from tallybook.admit.plan.limit import Quota, Rate
from tallybook.admit.plan.plan import UsagePlan
from tallybook.kernel.errors import Invalid

PACE = Rate(key="pace", rate=5)
BASIC = UsagePlan(key="basic", default=True, limits=(PACE,))
LARGE = UsagePlan(key="large", limits=(Quota(key="q", limit=10, window="day"),))
STORED = {"basic": BASIC, "large": LARGE}


def told(changes: list[PlanChange]) -> list[tuple[str, str]]:
    return [(change.action, change.key) for change in changes]


def test_plans_are_read_as_they_are_written() -> None:
    written: list[dict[str, Any]] = [
        {"key": "basic", "default": True, "limits": [{"type": "rate", "key": "pace", "rate": 5}]},
        {"key": "large"},
    ]
    assert declared_plans(written) == (BASIC, UsagePlan(key="large"))
    assert declared_plans(()) == ()


@pytest.mark.parametrize(
    ("written", "field", "said"),
    [
        ([{"name": "x"}], "usage_plans", "key"),
        ([{"key": "p", "rate": 1}], "usage_plans", "rate"),
        ([{"key": "p", "zone": "Nowhere"}], "usage_plans.zone", "'p'"),
        ([{"key": "p"}, {"key": "p"}], "usage_plans.key", "twice"),
        (
            [{"key": "p", "default": True}, {"key": "q", "default": True}],
            "usage_plans.default",
            "only one",
        ),
        (
            [{"key": "p", "limits": [{"type": "rate", "key": "r", "rate": 0}]}],
            "usage_plans.limits[0].rate",
            "'p'",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_plan_and_field(written: Any, field: str, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        declared_plans(written)
    assert refused.value.field == field
    assert said in refused.value.message


def test_what_is_as_declared_changes_nothing() -> None:
    assert plan_changes(STORED, (BASIC, LARGE), {}, prune=True) == []
    assert plan_changes(STORED, (), {}, prune=False) == []
    assert plan_changes(STORED, (LARGE,), {}, prune=False) == []


def test_what_differs_is_named_field_by_field() -> None:
    named = UsagePlan(key="large", name="Large", limits=LARGE.limits)
    new = UsagePlan(key="new")
    changes = plan_changes(STORED, (named, new), {}, prune=False)
    assert told(changes) == [("update", "large"), ("create", "new")]
    assert changes[0].details == ('name: "" -> "Large"',)
    many = tuple(Rate(key=f"pace-{n}", rate=5) for n in range(9))
    (change,) = plan_changes(
        STORED, (UsagePlan(key="basic", default=True, limits=many),), {}, prune=False
    )
    assert max(map(len, change.details)) < 300
    assert change.details[0].endswith("...")


def test_another_default_takes_it_from_the_one_before() -> None:
    new = UsagePlan(key="new", default=True)
    changes = plan_changes(STORED, (new,), {}, prune=False)
    assert told(changes) == [("create", "new"), ("update", "basic")]
    assert changes[1].details == ("default: true -> false",)


def test_pruning_takes_out_of_use_what_no_key_is_on() -> None:
    changes = plan_changes(STORED, (), {"large": 2}, prune=True)
    assert told(changes) == [("archive", "basic"), ("keep", "large")]
    assert changes[1].details == ("2 keys are on it",)
    new = UsagePlan(key="new", default=True)
    changes = plan_changes(STORED, (new,), {"basic": 1}, prune=True)
    assert told(changes) == [
        ("create", "new"), ("keep", "basic"), ("update", "basic"), ("archive", "large"),
    ]  # fmt: skip
