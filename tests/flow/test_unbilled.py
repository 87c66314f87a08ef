"""Nothing is taken out of use of which something is not billed yet, unless by force."""

from pathlib import Path

import pytest

from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill
from tests.support.api import Api

METER = """
[[meters]]
key = "calls"
event_type = "t"
aggregation = "COUNT"
"""
CATALOG = (
    METER
    + """
[[plans]]
key = "web"
currency = "USD"
[[plans.charges]]
key = "calls"
meter = "calls"
price = { type = "unit", unit_amount = 2 }

[[plans]]
key = "other"
currency = "USD"
[[plans.charges]]
key = "fee"
price = { type = "flat", amount = 1 }

[[customers]]
key = "acme"
currency = "USD"
subjects = ["s"]

[[customers]]
key = "idle"
currency = "USD"
subjects = ["i"]

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = 2026-05-01

[[subscriptions]]
key = "idle"
customer = "idle"
plan = "web"
start = 2026-05-01
"""
)


@pytest.fixture
def api(tmp_path: Path) -> Api:
    made = Api(tmp_path, "2026-05-20T00:00:00Z")
    made.apply(CATALOG)
    made.event("2026-05-17")
    return made


def test_a_subscription_with_unbilled_usage_is_archived_after_it_is_billed(api: Api) -> None:
    refused = api.delete("/subscriptions/acme", 409)
    assert (refused["code"], refused["field"]) == ("unbilled", "key")
    assert "USD 2.00 is not billed yet" in refused["detail"]
    api.delete("/subscriptions/idle")
    api.delete("/subscriptions/idle", 404)
    api.post("/subscriptions/acme/cancel", {"at": "now"}, 200)
    api.clock.set("2026-05-21T00:00:00Z")
    assert api.delete("/subscriptions/acme", 409)["code"] == "unbilled"
    bill(api.world.billing("default"), BillRequest(until_us=api.clock.now))
    assert len(api.get("/invoices")["items"]) == 1
    api.delete("/subscriptions/acme")


def test_unbilled_usage_is_lost_by_force(api: Api) -> None:
    api.delete("/subscriptions/acme?force=true")
    bill(api.world.billing("default"), BillRequest(until_us=api.clock.now))
    assert api.get("/invoices")["items"] == []


def test_a_customer_is_archived_with_its_subscriptions_by_force_alone(api: Api) -> None:
    refused = api.delete("/customers/idle", 409)
    assert (refused["code"], refused["field"]) == ("unbilled", "key")
    api.delete("/customers/idle?force=true")
    assert api.get("/subscriptions/idle")["archived"]
    api.delete("/customers/idle", 404)


def test_a_customer_whose_charge_waits_is_not_archived(api: Api) -> None:
    api.delete("/subscriptions/idle")
    line = {"name": "x", "amount": "1"}
    made = api.post("/invoices", {"customer": "idle", "lines": [line], "later": True})
    assert api.delete("/customers/idle", 409)["code"] == "unbilled"
    told = api.call("POST", "/catalog/apply?prune=true", raw=METER.encode())[1]
    kept = {(one["kind"], one["key"]): one["details"] for one in told["kept"]}
    assert kept["customer", "idle"] == ["a one-off charge waits"]
    api.delete(f"/customers/idle/charges/{made['charges'][0]}")
    api.delete("/customers/idle")


def test_pruning_keeps_what_is_not_billed_and_what_it_needs(api: Api) -> None:
    for action in ("diff", "apply"):
        status, told = api.call("POST", f"/catalog/{action}?prune=true", raw=b"")
        assert status == 200, told
        gone = {(one["kind"], one["key"]) for one in told["changes"]}
        assert gone == {("customer", "idle"), ("subscription", "idle"), ("plan", "other")}
        kept = {(one["kind"], one["key"]): one["details"] for one in told["kept"]}
        assert kept["subscription", "acme"] == ["USD 2.00 is not billed yet"]
        assert kept["plan", "web"] == ["subscription acme stays in use"]
        assert kept["customer", "acme"] == ["subscription acme stays in use"]
        assert kept.keys() >= {("meter", "calls")}
        assert len(kept) == 4
    assert api.call("POST", "/catalog/apply?prune=true", raw=b"")[1]["changes"] == []
