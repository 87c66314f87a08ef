"""Entitlements over HTTP: made, granted, used, checked, reset, asked about the past."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api

CATALOG = """
[[meters]]
key = "calls"
event_type = "t"
aggregation = "SUM"
value = "$.v"

[[meters]]
key = "level"
event_type = "t"
aggregation = "TIME_WEIGHTED"
value = "$.v"

[[customers]]
key = "acme"
currency = "USD"
zone = "Europe/Berlin"
subjects = ["s"]

[[entitlements]]
customer = "acme"
feature = "sso"
type = "boolean"
start = "2026-01-01"

[[entitlements]]
customer = "acme"
feature = "seats"
type = "static"
config = '{"seats": 5}'
start = "2026-01-01"
"""
CALLS = {
    "customer": "acme",
    "feature": "calls",
    "type": "metered",
    "meter": "calls",
    "period": "P1M",
    "start": "2026-01-01T00:00:00Z",
    "included": "100",
}
AT = "/entitlements/acme:calls"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path) as made:
        made.apply(CATALOG)
        made.post("/entitlements", CALLS)
        yield made


def told(api: Api, query: str = "") -> list[Any]:
    found = api.get(f"{AT}/value{query}")
    return [found["hasAccess"], found["balance"], found["usage"], found["overage"]]


def follow(api: Api) -> None:
    """Do what the thread that follows the lake does."""
    checks = api.state["checks"]
    checks.follow()


def test_one_is_made_shown_changed_and_taken_out_of_use(api: Api) -> None:
    assert api.post("/entitlements", CALLS, 409)["code"] == "exists"
    shown = api.get(AT)
    assert shown["key"] == "acme:calls"
    assert (shown["period"], shown["included"], shown["archived"]) == ("P1M", "100", False)
    assert [one["key"] for one in api.get("/entitlements?customer=acme")["items"]] == [
        "acme:calls",
        "acme:seats",
        "acme:sso",
    ]
    assert api.get("/entitlements?customer=bolt")["items"] == []
    assert api.put(AT, {**CALLS, "included": "7"})["included"] == "7"
    assert told(api) == [True, 7, 0, 0]
    assert api.put(AT, {**CALLS, "feature": "other"}, 400)["field"] == "key"
    api.delete(AT)
    assert api.get(f"{AT}/value", 404)["code"] == "not-found"
    assert api.get("/entitlements/acme:none", 404)["field"] == "key"


def test_use_is_seen_as_of_a_snapshot(api: Api) -> None:
    assert told(api) == [True, 100, 0, 0]
    api.event("2026-01-09", '{"v": 99.5}')
    follow(api)
    found = api.get(f"{AT}/value")
    assert (found["balance"], found["usage"], found["cut"]) == (0.5, 99.5, 1)
    assert found["totalAvailableGrantAmount"] == 100
    assert found["period"] == {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
    assert told(api, "?amount=0.5")[0] is True
    assert told(api, "?amount=0.6")[0] is False
    api.event("2026-01-09", '{"v": 3}')
    follow(api)
    assert told(api) == [False, 0, 102.5, 2.5]


@pytest.mark.parametrize("amount", ["many", "-1", "nan"])
def test_an_amount_is_a_number(api: Api, amount: str) -> None:
    assert api.get(f"{AT}/value?amount={amount}", 400)["field"] == "amount"


def test_usage_that_comes_late_or_lies_ahead_counts_in_its_time(api: Api) -> None:
    told(api)
    api.event("2026-01-02", '{"v": 10}')
    api.event("2026-01-10T01:00:00Z", '{"v": 5}')
    follow(api)
    assert told(api) == [True, 90, 10, 0]
    api.clock.set("2026-01-10T02:00:00Z")
    assert told(api) == [True, 85, 15, 0]
    api.clock.set("2026-02-01T00:00:00Z")
    assert told(api) == [True, 100, 0, 0]
    assert told(api, "?at=2026-01-10T01:00:00Z") == [True, 90, 10, 0]


def test_grants_count_at_once_and_can_be_taken_back(api: Api) -> None:
    api.event("2026-01-09", '{"v": 120}')
    assert told(api) == [False, 0, 120, 20]
    made = api.post(
        f"{AT}/grants",
        {
            "key": "more",
            "amount": "50",
            "effective": "2026-01-09T23:00:00Z",
            "every": "P1W",
            "rollover_max": "10",
        },
    )
    assert (made["every"], made["left"]) == ("P7D", None)
    assert told(api) == [True, 30, 120, 0]
    listed = api.get(f"{AT}/grants")["items"]
    assert [(one["key"], one["left"]) for one in listed] == [("more", 30)]
    api.post(f"{AT}/grants", {"key": "more", "amount": "1", "effective": "2026-01-09"}, 409)
    assert api.post(f"{AT}/grants/none/void", {}, 404)["field"] == "grant"
    assert api.post(f"{AT}/grants/more/void", {}, 200)["voided"] == "2026-01-10T00:00:00Z"
    api.clock.set("2026-01-11")
    assert api.post(f"{AT}/grants/more/void", {}, 200)["voided"] == "2026-01-10T00:00:00Z"
    assert told(api) == [False, 0, 120, 0]


def test_a_reset_begins_a_period(api: Api) -> None:
    api.event("2026-01-09", '{"v": 120}')
    assert told(api) == [False, 0, 120, 20]
    found = api.post(f"{AT}/reset", {"keep_anchor": True}, 200)
    assert (found["usage"], found["balance"]) == (0, 100)
    assert found["period"]["to"] == "2026-02-01T00:00:00Z"
    assert api.post(f"{AT}/reset", {"at": "2026-01-05"}, 409)["field"] == "at"
    assert api.post(f"{AT}/reset", {"at": "2027-01-05"}, 400)["field"] == "at"


def test_only_a_metered_one_has_grants(api: Api) -> None:
    grant = {"key": "more", "amount": "50", "effective": "2026-01-09"}
    for path, body in (("grants", grant), ("reset", {})):
        assert api.post(f"/entitlements/acme:sso/{path}", body, 400)["field"] == "key"
    assert api.get("/entitlements/acme:sso/grants")["items"] == []


def test_history_by_windows_of_the_customers_zone(api: Api) -> None:
    api.event("2026-01-08T22:30:00Z", '{"v": 1}')
    api.event("2026-01-08T23:30:00Z", '{"v": 2}')
    found = api.get(f"{AT}/history?from=2026-01-08&to=2026-01-10&window=DAY")
    assert [(w["from"], w["balance"], w["usage"]) for w in found["windows"]] == [
        ("2026-01-07T23:00:00Z", 100, 1),
        ("2026-01-08T23:00:00Z", 99, 2),
    ]
    assert found["cut"] == 2
    until_now = api.get(f"{AT}/history?from=2026-01-09T00:00:00Z&window=HOUR")
    assert len(until_now["windows"]) == 24


def test_all_features_of_a_customer_at_once(api: Api) -> None:
    api.post("/entitlements", {**CALLS, "feature": "held", "meter": "level"})
    found = api.get("/customers/acme/access")
    assert found["customer"] == "acme"
    access = {name: value["hasAccess"] for name, value in found["features"].items()}
    assert access == {"calls": True, "held": True, "seats": True, "sso": True}
    assert found["features"]["seats"]["config"] == '{"seats": 5}'
    past = api.get("/customers/acme/access?at=2025-12-01")["features"]
    assert not any(value["hasAccess"] for value in past.values())
    assert api.get("/customers/none/access", 404)["field"] == "customer"


def test_before_measuring_begins_there_is_nothing(api: Api) -> None:
    later = {**CALLS, "feature": "later", "measure_from": "2026-02-01T00:00:00Z"}
    api.post("/entitlements", later)
    assert api.get("/entitlements/acme:later/value")["hasAccess"] is False
