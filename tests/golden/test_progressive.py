"""Progressive billing of others, replayed: events, thresholds and months in; invoices out."""

from decimal import Decimal

import msgspec
import pytest

from tallybook.catalog.amendment import PlanChange
from tallybook.catalog.catalog import Entry
from tallybook.invoice.flow import bill_crossed
from tests.golden.vectors import Case, cases, identity, require
from tests.support.billing_world import TENANT, World, at

AREAS = ("progressive_billing",)
CASES = cases("lago", *AREAS)
REPLAYED = {case["id"] for case in CASES}

CATALOG = """
[[meters]]
key = "units"
event_type = "t"
aggregation = "SUM"
value = "$.units"

[[plans]]
key = "plan"
currency = "USD"
thresholds = [{thresholds}]
[[plans.charges]]
key = "units"
meter = "units"
price = {{ type = "unit", unit_amount = "{amount}" }}
[[plans.charges]]
key = "fee"
timing = "{timing}"
price = {{ type = "flat", amount = "{fee}" }}

[[plans]]
key = "next"
currency = "USD"
[[plans.charges]]
key = "fee"
price = {{ type = "flat", amount = "1000" }}

[[customers]]
key = "c"
currency = "USD"
subjects = ["s"]

[[subscriptions]]
key = "c"
customer = "c"
plan = "plan"
start = {start}
"""


def world_of(given: Case) -> World:
    world = World()
    in_advance = given["plan"]["pay_in_advance"]
    world.apply(
        CATALOG.format(
            thresholds=", ".join(f'"{Decimal(c) / 100}"' for c in given["thresholds_cents"]),
            amount=given["charge"]["amount"],
            fee=Decimal(given["plan"]["amount_cents"]) / 100,
            timing="advance" if in_advance else "arrears",
            start=given["subscription_at"],
        )
    )
    return world


def months_between(first: str, last: str) -> list[str]:
    """Return the months from that of one date to that of another."""
    year, month = int(first[:4]), int(first[5:7])
    found = [f"{year:04d}-{month:02d}"]
    while found[-1] < last[:7]:
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        found.append(f"{year:04d}-{month:02d}")
    return found


def upgrade(world: World, when: str) -> None:
    catalog = world.billing.catalog.load(TENANT)
    change = PlanChange(at_us=at(when), recorded_us=at(when), plan="next")
    amended: Entry = msgspec.structs.replace(catalog.subscriptions["c"], amendments=(change,))
    world.billing.catalog.write(TENANT, [amended])


def replay(given: Case) -> tuple[list[int], list[int]]:
    """Return the totals of the progressive invoices and of those of the periods."""
    world = world_of(given)
    progressive: list[int] = []
    periods: list[int] = []
    events = sorted(given["events"], key=lambda event: event["at"])
    until = given.get("upgraded_at") or events[-1]["at"]
    for month in months_between(given["subscription_at"], until):
        for event in events:
            if event["at"].startswith(month):
                world.event(event["at"], data=f'{{"units": {event["units"]}}}')
                world.clock.now = at(event["at"]) + 1
                for _ in range(2):
                    run = bill_crossed(world.billing)
                    if run is not None:
                        progressive += [invoice.total_minor for invoice in world.invoices(run)]
        if given.get("upgraded_at", "").startswith(month):
            upgrade(world, until)
            world.clock.now = at(until)
            run = world.bill(until)
        else:
            world.clock.now = at(f"{month}-28") + 10 * 86_400_000_000
            run = world.bill(month)
        periods += [invoice.total_minor for invoice in world.invoices(run)]
    return progressive, periods


@pytest.mark.parametrize("case", CASES, ids=identity)
def test_progressive_invoices_and_what_is_left_for_the_period(case: Case) -> None:
    progressive, periods = replay(case["given"])
    expected = case["expect"]
    known = {"progressive_invoices_cents", "period_invoice", "termination_invoice"}
    assert set(expected) <= {*known, "period_invoices_total_cents"}, "every figure is compared"
    if "progressive_invoices_cents" in expected:
        assert progressive == expected["progressive_invoices_cents"]
    if "period_invoices_total_cents" in expected:
        assert periods == expected["period_invoices_total_cents"]
    last = expected.get("period_invoice") or expected.get("termination_invoice")
    if last is not None:
        assert periods[-1] == last["total_amount_cents"]
        assert sum(progressive) == last["progressive_billing_credit_amount_cents"]
        assert sum(progressive) + periods[-1] == last["fees_amount_cents"]


def test_the_cases_are_there() -> None:
    require()
    assert len(REPLAYED) >= 3
