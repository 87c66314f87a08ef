"""What was composed in this process leaves no thread behind when it is closed."""

import threading
from pathlib import Path

from tests.flow.test_entitlement_routes import CALLS, CATALOG
from tests.support.api import Api
from tests.support.gatehouse.house import FIRST_KEY, house

ACCESS = "/api/v1/entitlements/acme:calls/value"


def names() -> set[str]:
    return {one.name for one in threading.enumerate()}


def test_a_house_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    for folder in ("one", "two"):
        with house(tmp_path / folder) as made:
            toml = made.ask("POST", "/api/v1/catalog/apply", FIRST_KEY, CATALOG.encode())
            assert toml.status == 200, toml.body
            assert made.ask("POST", "/api/v1/entitlements", FIRST_KEY, CALLS).status == 201
            assert made.ask("GET", ACCESS, FIRST_KEY).json["hasAccess"]
            assert {"check-follower", "gate", "usage-plans", "limits"} <= names()
    assert set(threading.enumerate()) <= before


def test_the_routes_alone_leave_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with Api(tmp_path) as api:
        api.apply(CATALOG)
        api.post("/entitlements", CALLS)
        assert api.get("/entitlements/acme:calls/value")["hasAccess"]
        assert "check-follower" in names()
    assert set(threading.enumerate()) <= before
