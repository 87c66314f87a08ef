"""Guarantee 7: everything adds up, and what does not is named."""

import msgspec

from tallybook.adapters.memory.invoices import MemoryInvoices
from tallybook.catalog.subscription import StoredPeriod
from tallybook.invoice.audit.reconcile import MeterAccount, Reconciliation, reconcile
from tests.support.billing_world import TENANT, World

CATALOG = """
[[meters]]
key = "bytes"
event_type = "t"
aggregation = "SUM"
value = "$.v"
group_by = { region = "$.region" }

[[meters]]
key = "peak"
event_type = "t"
aggregation = "MAX"
value = "$.v"

[[plans]]
key = "web"
currency = "USD"
[[plans.charges]]
key = "eu"
meter = "bytes"
where = { region = ["eu"] }
price = { type = "unit", unit_amount = "0.01" }
[[plans.charges]]
key = "all-known"
meter = "bytes"
where = { region = ["eu", "us"] }
price = { type = "unit", unit_amount = "0.02" }

[[customers]]
key = "acme"
currency = "USD"
subjects = ["s", { subject = "moving", end = 2026-05-10 }]

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = 2026-05-01
"""


def figures(account: MeterAccount) -> dict[str, str]:
    names = ("in_scope", "billed", "not_yet_billed", "unmapped", "not_charged")
    return {name: str(getattr(account, name)).replace(" events, quantity ", ":") for name in names}


def done(world: World) -> Reconciliation:
    return reconcile(world.billing, world.usage)


def test_every_event_has_its_place() -> None:
    world = World()
    world.apply(CATALOG)
    eu, us, cn = ('{"v":%d,"region":"%s"}' % pair for pair in ((1, "eu"), (10, "us"), (100, "cn")))  # noqa: UP031
    world.event("2026-05-02", data=eu)
    world.event("2026-05-02", data=us)
    world.event("2026-05-02", data=cn)
    world.event("2026-04-30", data=eu)
    world.event("2026-05-02", data=us, subject="stranger")
    world.event("2026-05-09", data=eu, subject="moving")
    world.event("2026-05-11", data=eu, subject="moving")
    world.event("2026-05-12", data='{"v":"?","region":"eu"}')
    world.bill("2026-05")
    world.event("2026-05-03", data=us)
    world.event("2026-06-03", data=eu)
    world.usage.duplicates = 2
    found = done(world)
    assert found.differences == ()
    assert found.ok
    assert (found.received, found.accepted, found.duplicate) == (12, 10, 2)
    by_key = {account.meter: account for account in found.meters}
    assert figures(by_key["bytes"]) == {
        "in_scope": "10:135",
        "billed": "4:12",
        "not_yet_billed": "2:11",
        "unmapped": "2:11",
        "not_charged": "2:101",
    }
    assert str(by_key["peak"].not_charged) == "8 events"
    world.bill("2026-06")
    after = done(world)
    assert after.ok
    assert figures(after.meters[0])["not_yet_billed"] == "0:0"


def test_a_lost_row_is_named() -> None:
    world = World()
    world.apply(CATALOG)
    world.event("2026-05-02", data='{"v":1,"region":"eu"}')
    world.event("2026-05-02", data='{"v":2,"region":"eu"}')
    world.bill("2026-05")
    assert done(world).ok
    lost = world.usage._events[TENANT].pop()
    found = done(world)
    assert not found.ok
    assert any("invoices say 3, events say 1" in difference for difference in found.differences)
    world.usage.add(TENANT, [lost])
    assert done(world).ok


def test_an_invoice_that_was_not_stored_is_named() -> None:
    world = World()
    world.apply(CATALOG)
    world.event("2026-05-02", data='{"v":1,"region":"eu"}')
    world.bill("2026-05")
    store = world.billing.invoices
    assert isinstance(store, MemoryInvoices)
    store._state(TENANT).billed.clear()
    assert any("invoices say 0, events say 1" in text for text in done(world).differences)


def test_a_moved_subject_is_named_until_the_next_run_adjusts() -> None:
    world = World()
    world.apply(CATALOG)
    world.event("2026-05-02", data='{"v":1,"region":"eu"}')
    world.bill("2026-05")
    world.apply(CATALOG.replace('"s", ', ""))
    assert not done(world).ok
    world.bill("2026-05")
    assert done(world).ok


def test_a_stored_period_is_plain_data() -> None:
    """Books survive the trip through JSON that every store makes."""
    world = World()
    world.apply(CATALOG)
    world.event("2026-05-02", data='{"v":1,"region":"eu"}')
    world.bill("2026-05")
    for period in world.billing.invoices.books(TENANT).periods["acme"]:
        assert msgspec.json.decode(msgspec.json.encode(period), type=StoredPeriod) == period


def test_a_late_level_before_a_closed_period_is_adjusted_and_then_adds_up() -> None:
    """It changes how much was held within the period, but none of the period's own events."""
    world = World()
    price = 'price = { type = "unit", unit_amount = 1 }\n'
    plan = '[[plans]]\nkey = "web"\ncurrency = "USD"\n[[plans.charges]]\nkey = "held"\n'
    meter = '[[meters]]\nkey = "held"\nevent_type = "t"\naggregation = "TIME_WEIGHTED"\n'
    customer = CATALOG[CATALOG.index("[[customers]]") :]
    world.apply(f'{meter}value = "$.v"\n{plan}meter = "held"\n{price}{customer}')
    world.event("2026-04-30T23:00:00Z", data='{"v":1}')
    world.event("2026-05-01T01:00:00Z", data='{"v":0}')
    world.bill("2026-05")
    world.event("2026-04-30T23:30:00Z", data='{"v":5}')
    assert done(world).ok, "what was billed is what its cut gave"
    world.bill("2026-06")
    assert [invoice.total for invoice in world.invoices()] == ["1.00", "4.00"]
    assert done(world).differences == ()
