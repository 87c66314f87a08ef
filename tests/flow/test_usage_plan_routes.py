"""Usage plans over the API: made, changed, taken out of use; how a key stands."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallybook.admit.plan.bind import bind
from tallybook.admit.plan.flow import let_through
from tallybook.admit.plan.use import GIVEN_UP, Counter, added
from tallybook.kernel.errors import Missing
from tallybook.serve.api.admission.made import asking
from tallybook.serve.api.admission.watch import PlanWatch
from tallybook.serve.api.checks import checks_of
from tallybook.serve.api.gate import Gate
from tallybook.serve.worker.use import UseReporter
from tallybook.settings import GateSettings
from tests.support.api import Api

PLAN: dict[str, Any] = {
    "key": "p",
    "name": "Standard",
    "zone": "Europe/Berlin",
    "limits": [
        {"type": "rate", "key": "r", "rate": 5, "burst": 10},
        {"type": "quota", "key": "q", "limit": 10, "window": "month", "warn": [50]},
        {"type": "concurrency", "key": "c", "limit": 2, "per": "tenant"},
        {"type": "entitlement", "key": "e", "feature": "calls"},
    ],
}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path) as made:
        yield made


def test_plans_are_made_shown_changed_and_dropped(api: Api) -> None:
    made = api.post("/usage-plans", PLAN)
    assert (made["key"], made["version"], made["keys"]) == ("p", 1, 0)
    assert [limit["type"] for limit in made["limits"]] == [
        "rate", "quota", "concurrency", "entitlement",
    ]  # fmt: skip
    assert api.post("/usage-plans", PLAN, 409)["code"] == "exists"
    assert api.get("/usage-plans/p") == made
    assert api.get("/usage-plans")["items"] == [made]
    changed = api.put("/usage-plans/p", {**PLAN, "name": "More"})
    assert (changed["name"], changed["version"]) == ("More", 2)
    assert api.put("/usage-plans/other", PLAN, 400)["field"] == "key"
    api.delete("/usage-plans/p")
    assert api.get("/usage-plans/p", 404)["code"] == "not-found"
    assert api.delete("/usage-plans/p", 404)["code"] == "not-found"
    assert api.post("/usage-plans", PLAN)["version"] == 4


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"zone": "Nowhere"}, "zone"),
        ({"limits": [{"type": "rate", "key": "r", "rate": 0}]}, "limits[0].rate"),
        ({"limits": [{"type": "sometimes", "key": "r"}]}, "limits[0].type"),
        ({"limits": [{"type": "rate", "key": "r"}]}, "limits[0].rate"),
        ({"more": 1}, "more"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(api: Api, change: dict[str, Any], field: str) -> None:
    refused = api.post("/usage-plans", {**PLAN, **change}, 400)
    assert refused["code"] == "invalid"
    assert field.partition("[")[0] in str(refused["field"])


def key_of(api: Api, **more: Any) -> str:
    made = api.post("/keys", {"name": "k", "scopes": ["read"], **more})
    return str(made["id"])


def test_how_a_key_stands(api: Api) -> None:
    key = key_of(api)
    assert api.get(f"/keys/{key}/usage") == {"id": key, "usage_plan": "", "limits": [], "use": []}
    api.post("/usage-plans", {**PLAN, "default": True})
    gate = Gate(api.world.keys, api.world.secret, api.clock.now_us)
    grant = gate.by_id(key)
    assert grant is not None
    bounds = bind(api.world.usage_plans.get("default", "p").plan, grant).counting
    for _ in range(6):
        let_through(api.world.counts, bounds[:2], api.clock.now_us() * 1000)
    place = Counter("default", key, "api", "2xx").place()
    api.world.counts.change([place], lambda held: (added(held, 3), None))
    told = api.get(f"/keys/{key}/usage")
    assert told["usage_plan"] == "p"
    rows = [(one["limit"], one["type"], one["used"], one["left"]) for one in told["limits"]]
    assert rows == [("r", "rate", 6, 4), ("q", "quota", 6, 4), ("c", "concurrency", 0, 2)]
    quota = told["limits"][1]
    assert (quota["warning"], quota["who"], quota["size"]) == (50, f"key:{key}", 10)
    assert quota["reset_seconds"] == 22 * 86_400 - 3_600, "the month of Berlin ends at 23:00 UTC"
    assert told["use"] == [{"route": "api", "status": "2xx", "requests": 1, "events": 3}]
    assert api.get("/keys/nobody/usage", 404)["code"] == "not-found"


def test_keys_on_a_plan_keep_it_in_use(api: Api) -> None:
    api.post("/usage-plans", PLAN)
    key = key_of(api, usage_plan="p")
    assert api.get("/usage-plans/p")["keys"] == 1
    assert api.delete("/usage-plans/p", 409)["code"] == "in-use"
    api.put(f"/keys/{key}", {"name": "k", "usage_plan": ""})
    api.delete("/usage-plans/p")


def test_a_key_is_put_on_plans_that_there_are(api: Api) -> None:
    refused = api.post("/keys", {"name": "k", "scopes": ["read"], "usage_plan": "none"}, 404)
    assert (refused["code"], refused["field"]) == ("not-found", "usage_plan")
    key = key_of(api)
    assert api.put(f"/keys/{key}", {"name": "k", "usage_plan": "none"}, 404)["code"] == "not-found"


def test_limits_of_a_single_key(api: Api) -> None:
    api.post("/usage-plans", PLAN)
    key = key_of(api, usage_plan="p")
    own = {"limits": [{"type": "quota", "key": "q", "limit": 99, "window": "day"}]}
    assert api.get(f"/keys/{key}/limits") == {"limits": []}
    assert api.put(f"/keys/{key}/limits", own)["limits"][0]["limit"] == 99
    sizes = {one["limit"]: one["size"] for one in api.get(f"/keys/{key}/usage")["limits"]}
    assert sizes == {"r": 10, "q": 99, "c": 2}
    twice = {"limits": own["limits"] * 2}
    assert api.put(f"/keys/{key}/limits", twice, 400)["field"] == "limits[1].key"
    assert api.put("/keys/nobody/limits", own, 404)["code"] == "not-found"
    assert api.put(f"/keys/{key}/limits", {"limits": []}) == {"limits": []}


def test_a_key_that_is_rotated_goes_on_counting_where_it_was(api: Api) -> None:
    api.post("/usage-plans", PLAN)
    key = key_of(api, usage_plan="p")
    api.put(f"/keys/{key}/limits", {"limits": [{"type": "rate", "key": "own", "rate": 5}]})
    second = api.post(f"/keys/{key}/rotate", {})["id"]
    third = api.post(f"/keys/{second}/rotate", {})["id"]
    watch = PlanWatch(api.world.usage_plans)
    gate = Gate(api.world.keys, api.world.secret, api.clock.now_us)
    grants = [gate.by_id(one) for one in (second, third)]
    bound = [watch.binding(grant).counting for grant in grants if grant is not None]
    assert len(bound) == 2
    assert bound[0] == bound[1]
    let_through(api.world.counts, bound[0][1:2], api.clock.now_us() * 1000)
    for one in (key, second, third):
        limits = api.get(f"/keys/{one}/usage")["limits"]
        assert [(row["limit"], row["used"]) for row in limits] == [
            ("r", 0), ("q", 1), ("c", 0), ("own", 0),
        ]  # fmt: skip
    api.put(f"/keys/{third}/limits", {"limits": []})
    assert api.get(f"/keys/{second}/limits") == {"limits": []}


ENTITLED = """
[[meters]]
key = "calls"
event_type = "t"
aggregation = "SUM"
value = "$.v"

[[customers]]
key = "acme"
currency = "USD"
subjects = ["s"]
"""


def test_whether_a_customer_has_access_is_what_its_entitlement_says(api: Api) -> None:
    api.apply(ENTITLED)
    calls = {
        "customer": "acme",
        "feature": "calls",
        "type": "metered",
        "meter": "calls",
        "period": "P1M",
        "start": "2026-01-01T00:00:00Z",
        "included": "100",
    }
    api.post("/entitlements", calls)
    access = asking(api.state["checks"])
    assert access("default", "acme", "calls")
    with pytest.raises(Missing):
        access("default", "acme", "unknown")
    api.event("2026-01-09T00:00:00Z", '{"v": 100}')
    asked_anew = checks_of(api.world)
    assert not asking(asked_anew)("default", "acme", "calls"), "nothing is left"
    asked_anew.close()


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path) as made:
        settings = msgspec.structs.replace(made.world.settings, gate=GateSettings(meter_use=True))
        made.world.settings = settings
        yield made


def test_the_counters_of_a_revoked_key_are_given_up_once_they_are_reported(counted: Api) -> None:
    key = counted.post("/keys", {"name": "k", "scopes": ["read"]})["id"]
    counter, other = (Counter("default", key, "api", status) for status in ("2xx", "4xx"))
    reporter, world = UseReporter(), counted.world

    def used(one: Counter, count: int) -> None:
        for _ in range(count):
            world.counts.change([one.place()], lambda held: (added(held, 2), None))

    def minutes(count: int) -> int:
        counted.clock.now += count * 60_000_000
        return reporter.round(world)

    def shown() -> list[tuple[str, int, int]]:
        return [
            (u["status"], u["requests"], u["events"])
            for u in counted.get(f"/keys/{key}/usage")["use"]
        ]

    used(counter, 3)
    assert minutes(1) == 1
    counted.delete(f"/keys/{key}")
    week = 7 * 24 * 60
    used(other, 1)  # one that was on its way
    assert minutes(week + 1) == 1  # is reported, however late
    assert minutes(1) == 0
    assert world.counts.read([counter.place(), other.place()]) == [(0, 0, 0, 0)] * 2
    assert shown() == [("2xx", 3, 6), ("4xx", 1, 2)]
    assert {row.generation for row in world.key_use.of("default", key)} == {GIVEN_UP}
    assert minutes(1) == 0


def test_a_key_whose_expiry_is_moved_is_reported_from_zero(counted: Api) -> None:
    expires = "2026-02-01T00:00:00Z"
    body = {"name": "k", "scopes": ["read"], "expires_time": expires}
    key = counted.post("/keys", body)["id"]
    counter, reporter, world = Counter("default", key, "api", "2xx"), UseReporter(), counted.world
    world.counts.change([counter.place()], lambda held: (added(held, 0), None))
    assert reporter.round(world) == 1
    for at in ("2026-02-09", "2026-02-10"):
        counted.clock.set(f"{at}T00:00:00Z")
        assert reporter.round(world) == 0
    assert world.counts.read([counter.place()]) == [(0, 0, 0, 0)]
    counted.put(f"/keys/{key}", {"name": "k", "expires_time": "2027-01-01T00:00:00Z"})
    world.counts.change([counter.place()], lambda held: (added(held, 0), None))
    counted.clock.now += 60_000_000
    assert reporter.round(world) == 1
    (row,) = world.key_use.of("default", key)
    assert (row.requests, row.generation) == (1, world.counts.generation)
