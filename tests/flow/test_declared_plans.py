"""Usage plans of `catalog.toml`: shown as a difference, applied, applied again, pruned."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tallybook.kernel.errors import Conflict
from tests.support.api import Api

FILE = """
[[meters]]
key = "calls"
event_type = "api.call"
aggregation = "COUNT"

[[usage_plans]]
key = "standard"
zone = "Europe/Berlin"
default = true

[[usage_plans.limits]]
type = "rate"
key = "pace"
rate = 50
"""
EMPTY = "usage_plans = []\n"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path) as made:
        yield made


def send(api: Api, action: str, toml: str, status: int = 200) -> Any:
    got, told = api.call("POST", f"/catalog/{action}", raw=toml.encode())
    assert got == status, told
    return told


def done(told: Any) -> list[tuple[str, str, str]]:
    return [(one["action"], one["kind"], one["key"]) for one in told["changes"]]


def test_a_file_declares_plans_beside_the_catalog(api: Api) -> None:
    both = [("create", "meter", "calls"), ("create", "usage-plan", "standard")]
    assert done(send(api, "diff", FILE)) == both
    assert api.get("/usage-plans")["items"] == []
    assert done(send(api, "apply", FILE)) == both
    (plan,) = api.get("/usage-plans")["items"]
    assert (plan["key"], plan["zone"], plan["default"]) == ("standard", "Europe/Berlin", True)
    assert send(api, "apply", FILE) == {"changes": [], "kept": []}
    assert api.get("/usage-plans/standard")["version"] == 1
    (change,) = send(api, "diff", FILE.replace("50", "60"))["changes"]
    assert "limits: " in change["details"][0]
    assert '"rate":60' in change["details"][0]
    rows = api.get("/audit?kind=usage-plan")["items"]
    assert [(row["action"], row["subject"]) for row in rows] == [("create", "standard")]
    assert rows[0]["after"]["key"] == "standard"


def test_absence_changes_nothing_and_pruning_only_what_the_file_is_about(api: Api) -> None:
    send(api, "apply", FILE)
    meter = FILE.partition("[[usage_plans]]")[0]
    assert done(send(api, "apply?prune=true", meter)) == []
    assert done(send(api, "apply", EMPTY)) == []
    key = api.post("/keys", {"name": "k", "scopes": ["read"], "usage_plan": "standard"})
    kept = send(api, "apply?prune=true", EMPTY + meter)
    assert done(kept) == []
    assert [(one["key"], one["details"]) for one in kept["kept"]] == [
        ("standard", ["1 keys are on it"])
    ]
    api.delete(f"/keys/{key['id']}")
    assert done(send(api, "apply?prune=true", EMPTY + meter)) == [
        ("archive", "usage-plan", "standard")
    ]
    assert api.get("/usage-plans")["items"] == []


def test_a_plan_that_cannot_be_changes_nothing(api: Api) -> None:
    refused = send(api, "apply", FILE.replace("rate = 50", "rate = 0"), 400)
    assert refused["field"] == "usage_plans.limits[0].rate"
    assert "'standard'" in refused["detail"]
    assert api.get("/meters")["items"] == []
    assert "$[0].limits[0].rate" in send(api, "diff", FILE.replace("50", "1.5"), 400)["detail"]


def test_without_admin_plans_are_looked_at_only(api: Api) -> None:
    api.key = api.post("/keys", {"name": "b", "scopes": ["billing"]})["key"]
    api.app.state.gate.refresh()
    assert len(done(send(api, "diff", FILE))) == 2
    assert send(api, "apply", FILE, 403)["code"] == "forbidden"
    assert api.get("/meters")["items"] == []
    assert done(send(api, "apply", FILE.partition("[[usage_plans]]")[0])) == [
        ("create", "meter", "calls")
    ]


def test_who_was_faster_wins(api: Api) -> None:
    send(api, "apply", FILE)
    plans = api.world.usage_plans
    with pytest.raises(Conflict, match="changed meanwhile"):
        plans.apply("default", {"standard": None}, 0, {})
    api.post("/keys", {"name": "k", "scopes": ["read"], "usage_plan": "standard"})
    with pytest.raises(Conflict, match="1 keys are on"):
        plans.apply("default", {"standard": None}, 0, {"standard": 1})
