"""Every row of docs/algorithms/progressive.md, and who is looked at."""

from contextlib import AbstractContextManager
from decimal import Decimal

import pytest

from tallybook.invoice.flow import bill_crossed
from tallybook.invoice.ports import InvoiceTransaction
from tallybook.invoice.run.payers import payers
from tallybook.invoice.run.progressive import reached, with_thresholds
from tallybook.kernel.errors import Conflict, Corrupt
from tallybook.meter.usage import Usage, UsageQuery
from tests.support.billing_world import World, at
from tests.unit.invoice.test_pages import table

RISING = (Decimal(10), Decimal(30))

CATALOG = """
[seller]
name = "We"
grace_days = 5

[[meters]]
key = "units"
event_type = "t"
aggregation = "SUM"
value = "$.n"

[[plans]]
key = "web"
currency = "USD"
thresholds = [200]
[[plans.charges]]
key = "units"
meter = "units"
price = { type = "unit", unit_amount = "0.0002" }
[[plans.charges]]
key = "fee"
price = { type = "flat", amount = "31" }

[[customers]]
key = "acme"
currency = "USD"
subjects = ["s"]
grace_days = 0

[[customers]]
key = "graced"
currency = "USD"
subjects = ["g"]

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = 2022-12-01

[[subscriptions]]
key = "graced"
customer = "graced"
plan = "web"
start = 2022-12-01
"""


def known(text: str) -> Decimal:
    return Decimal(-1) if text == "none" else Decimal(text)


@pytest.mark.parametrize("row", table("progressive.md", "billed so far"), ids=str)
def test_what_is_reached(row: list[str]) -> None:
    billed, usage, before, now, invoice = row
    step = Decimal(100)
    assert reached(RISING, step, Decimal(billed)) == known(before)
    assert reached(RISING, step, Decimal(usage)) == known(now)
    assert (known(now) > known(before)) == (invoice == "yes")


def test_without_a_step_the_last_threshold_is_the_last() -> None:
    assert reached(RISING, None, Decimal(1000)) == 30
    assert reached((), Decimal(5), Decimal(1000)) == -1


def test_the_page_row_by_row() -> None:
    world = World()
    world.apply(CATALOG)
    rows = table("progressive.md", "when")
    events = {
        0: ("2022-12-06", 1_000_000),
        1: ("2022-12-16", 1_000_000),
        3: ("2023-01-16", 2_000_000),
    }
    for at_row, row in enumerate(rows):
        if at_row in events:
            day, units = events[at_row]
            world.event(day, data=f'{{"n": {units}}}')
            world.clock.now = at(day) + 1
            run = bill_crossed(world.billing)
        else:
            month = "2022-12" if at_row == 2 else "2023-01"
            world.clock.now = at(f"{month}-28") + 7 * 86_400_000_000
            run = world.bill(month)
        made = [] if run is None else [i.total for i in world.invoices(run)]
        assert made == ([] if row[4] == "none" else [row[4]])
        assert bill_crossed(world.billing) is None


def test_days_of_grace_do_not_count_and_who_has_not_crossed_is_left_alone() -> None:
    world = World()
    world.apply(CATALOG)
    world.event("2022-12-06", subject="g", data='{"n": 1000000}')
    world.event("2022-12-06", subject="s", data='{"n": 999000}')
    world.clock.now = at("2022-12-07")
    run = bill_crossed(world.billing)
    assert run is not None
    assert (run.customers, run.invoices, run.drafts) == (1, 1, 0)
    assert [invoice.customer_key for invoice in world.invoices()] == ["graced"]


def test_thresholds_of_a_subscription_hold_instead_of_its_plans() -> None:
    world = World()
    world.apply(
        CATALOG.replace('key = "acme"\ncustomer', 'key = "acme"\nthresholds = [500]\ncustomer')
    )
    for day, total in (("2022-12-06", 300), ("2022-12-07", 501)):
        world.event(day, data='{"n": 1500000}' if total == 300 else '{"n": 1005000}')
        world.clock.now = at(day) + 1
        run = bill_crossed(world.billing)
        assert (run is None) == (total < 500)


def test_nobody_with_thresholds_asks_nothing() -> None:
    world = World()
    world.apply(CATALOG.replace("thresholds = [200]", ""))
    world.event("2022-12-06", data='{"n": 9000000}')
    assert bill_crossed(world.billing) is None


def test_who_cannot_be_priced_is_left_to_the_next_run() -> None:
    world = World()
    unpriced = """
[[plans]]
key = "odd"
currency = "USD"
thresholds = [1]
[[plans.charges]]
key = "units"
meter = "cells"
[plans.charges.price]
type = "matrix"
dimensions = ["region"]
cells = [{ match = { region = "eu" }, unit_amount = 1 }]

[[meters]]
key = "cells"
event_type = "t"
aggregation = "SUM"
value = "$.n"
group_by = { region = "$.region" }

[[customers]]
key = "odd"
currency = "USD"
subjects = ["o"]

[[subscriptions]]
key = "odd"
customer = "odd"
plan = "odd"
start = 2022-12-01
"""
    world.apply(CATALOG + unpriced)
    world.event("2022-12-06", subject="o", data='{"n": 5, "region": "us"}')
    world.event("2022-12-06", data='{"n": 1000000}')
    world.clock.now = at("2022-12-07")
    run = bill_crossed(world.billing)
    assert run is not None
    assert [invoice.customer_key for invoice in world.invoices()] == ["acme"]
    assert [one.customer for one in world.bill("2022-12-07").parked] == ["odd"]


def test_who_cannot_be_asked_about_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither when it is seen who has crossed, nor when a batch is stored payer by payer."""
    world = World()
    world.apply(CATALOG)
    for subject in ("s", "g"):
        world.event("2022-12-06", subject=subject, data='{"n": 1000000}')
    world.clock.now = at("2022-12-07")
    usage, opened = world.usage.usage, world.billing.invoices.transaction
    refusals = [True, False]  # the run begins, the batch is refused

    def ask(query: UsageQuery) -> list[Usage]:
        if any(owner.subject == "g" for owner in query.owners or ()):
            raise Corrupt("a file is gone")
        return list(usage(query))

    def refusing(tenant: str) -> AbstractContextManager[InvoiceTransaction]:
        if refusals and refusals.pop():
            raise Conflict("somebody was faster", code="books-moved")
        return opened(tenant)

    monkeypatch.setattr(world.usage, "usage", ask)
    run = bill_crossed(world.billing)
    assert run is not None
    assert [invoice.customer_key for invoice in world.invoices(run)] == ["acme"]
    world.event("2022-12-07", data='{"n": 1000}')
    world.clock.now = at("2023-01-01")
    monkeypatch.setattr(world.billing.invoices, "transaction", refusing)
    run = world.bill("2022-12")
    assert [one.customer for one in run.parked] == ["graced"]
    assert [invoice.customer_key for invoice in world.invoices(run)] == ["acme"]
    assert refusals == []


def test_who_has_a_threshold_on_one_of_two_subscriptions_is_looked_at() -> None:
    world = World()
    plain = """
[[plans]]
key = "plain"
currency = "USD"
[[plans.charges]]
key = "fee"
price = { type = "flat", amount = "1" }

[[customers]]
key = "calm"
currency = "USD"

[[subscriptions]]
key = "calm"
customer = "calm"
plan = "plain"
start = 2022-12-01

[[subscriptions]]
key = "acme-plain"
customer = "acme"
plan = "plain"
start = 2022-12-01
"""
    world.apply(CATALOG + plain)
    catalog = world.billing.catalog.load("default")
    everybody = list(payers(catalog).values())
    found = {one.key for one in with_thresholds(catalog, everybody)}
    assert "acme" in found
    assert "calm" not in found


def test_fees_count_towards_no_threshold() -> None:
    world = World()
    fee = 'price = { type = "flat", amount = "31" }'
    world.apply(CATALOG.replace(fee, 'timing = "advance"\nprice = { type = "flat", amount = 250 }'))
    world.clock.now = at("2022-12-02")
    assert world.bill("2022-12-01T00:00:01Z").invoices == 1
    assert bill_crossed(world.billing) is None
    world.event("2022-12-06", data='{"n": 1000000}')
    world.clock.now = at("2022-12-06") + 1
    run = bill_crossed(world.billing)
    assert run is not None
    assert [invoice.total for invoice in world.invoices(run)] == ["200.00"]
