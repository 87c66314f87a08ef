"""Nothing is taken out of use of which something is not billed yet, unless by force."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill
from tallybook.invoice.manifest import Extra
from tallybook.invoice.ports import Bounds
from tallybook.invoice.unbilled import unbilled
from tallybook.settle.receivable.flow import put_extras
from tests.flow.test_parking import TooLarge, world_of
from tests.support.api import Api
from tests.support.billing_world import TENANT, World, at
from tests.support.settled_world import SettledWorld

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
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path, "2026-05-20T00:00:00Z") as made:
        made.apply(CATALOG)
        made.event("2026-05-17")
        yield made


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


def words(world: World, *keys: str) -> dict[str, str]:
    return unbilled(world.billing, world.billing.catalog.load(TENANT), keys)


def test_where_it_cannot_be_told_what_is_left_nothing_is_lost() -> None:
    reader = TooLarge()
    reader.subject = "nobody"
    world = world_of(reader)
    world.clock.now = at("2026-05-20")
    world.apply(CATALOG)
    world.event("2026-05-17")
    assert words(world) == {}
    assert words(world, "idle") == {}
    assert words(world, "acme") == {"acme": "USD 2.00 is not billed yet"}
    whole = world.billing
    world.billing = msgspec.structs.replace(whole, bounds=Bounds(total_minor_max=1))
    bound = words(world, "acme", "idle")
    assert bound.keys() == {"acme"}
    assert bound["acme"].startswith("what is left to bill cannot be told: ")
    world.billing = whole
    reader.subject = "s"
    assert words(world, "acme") == {"acme": "what is left to bill cannot be told: 38 digits"}
    reader.subject = "nobody"
    catalog = whole.catalog
    lost = msgspec.structs.replace(catalog.load(TENANT).subscriptions["acme"], plan="gone")
    catalog.write(TENANT, [lost])
    assert "there is no plan 'gone'" in words(world, "acme", "idle")["acme"]


def test_one_that_has_ended_owes_what_was_not_billed_until_then() -> None:
    world = World()
    world.clock.now = at("2026-05-20")
    world.apply(CATALOG.replace("start = 2026-05-01", "start = 2026-05-01\nend = 2026-05-18"))
    world.event("2026-05-17")
    world.event("2026-05-19")
    assert words(world, "acme", "idle") == {"acme": "USD 2.00 is not billed yet"}


ADD_ON = """
[[plans]]
key = "more"
kind = "add-on"
currency = "USD"
[[plans.charges]]
key = "calls"
meter = "calls"
price = { type = "unit", unit_amount = 1 }

[[subscriptions]]
key = "more"
customer = "acme"
plan = "more"
base = "acme"
start = 2026-05-01
"""


def test_what_an_add_on_stands_on_stays_with_it(api: Api) -> None:
    api.apply(CATALOG + ADD_ON)
    told = api.call("POST", "/catalog/diff?prune=true", raw=b"")[1]
    kept = {(one["kind"], one["key"]): one["details"] for one in told["kept"]}
    assert kept["subscription", "more"] == ["USD 1.00 is not billed yet"]
    assert kept.keys() >= {("plan", "more"), ("plan", "web"), ("subscription", "acme")}


def test_meters_and_taxes_that_nothing_needs_are_pruned(api: Api) -> None:
    api.apply(CATALOG + '[[taxes]]\nkey = "vat"\nname = "VAT"\nrate = 19\n')
    told = api.call("POST", "/catalog/diff?prune=true", raw=b"")[1]
    assert ("tax", "vat") in {(one["kind"], one["key"]) for one in told["changes"]}
    kept = {(one["kind"], one["key"]) for one in told["kept"]}
    assert ("meter", "calls") in kept


def test_a_one_off_charge_is_no_subscriptions() -> None:
    world = SettledWorld()
    world.clock.now = at("2026-05-20")
    world.apply(CATALOG)
    world.event("2026-05-17")
    extra = Extra(id="ext_1", name="visit", amount=Decimal(7), start_us=1, end_us=2)
    put_extras(world.settling, "acme", [extra])
    assert words(world, "acme") == {"acme": "USD 2.00 is not billed yet"}


def test_pruning_makes_what_is_new(api: Api) -> None:
    new = b'[[taxes]]\nkey = "vat"\nname = "VAT"\nrate = 19\n'
    told = api.call("POST", "/catalog/apply?prune=true", raw=new)[1]
    assert ("tax", "vat", "create") in {
        (one["kind"], one["key"], one["action"]) for one in told["changes"]
    }
    assert ("subscription", "acme") in {(one["kind"], one["key"]) for one in told["kept"]}
