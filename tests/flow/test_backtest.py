"""docs/algorithms/backtest.md: history priced with a proposed catalog, beside the present one."""

from datetime import date, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallybook.catalog.document import parse_document
from tallybook.invoice.backtest import Backtest, Compared, backtest, check_span
from tallybook.kernel.errors import Conflict, Invalid
from tests.support.billing_world import TENANT, World, at

PAGE = Path(__file__).resolve().parents[2] / "docs" / "algorithms" / "backtest.md"

CATALOG = """
[[meters]]
key = "calls"
event_type = "t"
aggregation = "COUNT"

[[plans]]
key = "p"
currency = "USD"

  [[plans.charges]]
  key = "fee"
  timing = "advance"
  price = { type = "flat", amount = "10" }

  [[plans.charges]]
  key = "calls"
  meter = "calls"
  price = { type = "graduated", tiers = [
    { up_to = 100, unit_amount = 0 }, { up_to = 200, unit_amount = 1 }, { unit_amount = 1 }] }

[[customers]]
key = "c"
name = "Acme"
currency = "USD"
subjects = ["s"]

[[subscriptions]]
key = "s"
customer = "c"
plan = "p"
start = 2026-03-01
"""
PROPOSED = CATALOG.replace("{ unit_amount = 1 }]", "{ unit_amount = 2 }]")


def table() -> list[list[str]]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index("| from | to | present | proposed | difference |")
    rows = [line for line in lines[start + 2 :] if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@pytest.fixture(scope="module")
def world() -> World:
    world = World()
    world.apply(CATALOG)
    for day, calls in (("2026-05-10", 120), ("2026-05-20", 100), ("2026-06-05", 50)):
        for _ in range(calls):
            world.event(day)
    return world


def run(world: World, text: str, start: str, end: str, *, prune: bool = False) -> Backtest:
    span = check_span(at(start), at(end), world.clock.now)
    return backtest(world.billing, parse_document(text), span, prune=prune)


def amounts(one: Compared) -> list[str]:
    return [one.present, one.proposed, one.difference]


@pytest.mark.parametrize("row", table(), ids=str)
def test_the_page(world: World, row: list[str]) -> None:
    start, end, *expected = row
    found = run(world, PROPOSED, start, end)
    (customer,) = found.customers
    assert amounts(customer) == expected
    assert [amounts(total) for total in found.totals] == [expected]
    assert found.failed == ()


def test_it_tells_the_change_and_each_charge(world: World) -> None:
    found = run(world, PROPOSED, "2026-05-01", "2026-06-01")
    assert found.changes[0].startswith("new-version plan p")
    assert (found.start, found.end) == ("2026-05-01T00:00:00Z", "2026-06-01T00:00:00Z")
    (customer,) = found.customers
    assert (customer.customer, customer.name, customer.currency) == ("c", "Acme", "USD")
    calls, fee = customer.charges
    assert (calls.subscription, calls.charge, calls.plan, calls.name) == (
        "s",
        "calls",
        "p",
        "calls",
    )
    assert (calls.present, calls.proposed, calls.difference) == ("120.00", "140.00", "20.00")
    assert (calls.present_quantity, calls.proposed_quantity) == ("220", "220")
    assert fee.difference_minor == 0
    assert msgspec.json.decode(msgspec.json.encode(found), type=Backtest) == found


def test_it_writes_nothing_and_looks_at_nothing_that_was_billed(world: World) -> None:
    before = run(world, PROPOSED, "2026-05-01", "2026-06-01")
    version = world.billing.catalog.version()
    world.bill("2026-05")
    invoices = len(world.invoices())
    after = run(world, PROPOSED, "2026-05-01", "2026-06-01")
    assert after == before
    assert world.billing.catalog.version() == version
    assert len(world.invoices()) == invoices
    same = run(world, CATALOG, "2026-05-01", "2026-06-01")
    assert same.changes == ()
    assert amounts(same.totals[0]) == ["130.00", "130.00", "0.00"]


def test_the_present_side_is_what_a_run_bills() -> None:
    world = World()
    world.apply(CATALOG)
    for _ in range(130):
        world.event("2026-05-10")
    found = run(world, PROPOSED, "2026-05-01", "2026-06-01")
    world.bill("2026-04")
    world.bill("2026-05")
    lines = [line for made in world.invoices() for line in made.lines]
    may = [line for line in lines if line.period_start.startswith("2026-05")]
    assert found.totals[0].present_minor == sum(line.amount_minor for line in may) == 4000


def test_a_proposed_effective_date_does_not_keep_it_from_history(world: World) -> None:
    later = PROPOSED.replace('currency = "USD"\n', 'currency = "USD"\neffective = 2030-01-01\n', 1)
    found = run(world, later, "2026-05-01", "2026-06-01")
    assert amounts(found.totals[0]) == ["130.00", "150.00", "20.00"]


def test_a_pinned_subscription_stays_where_it_is(world: World) -> None:
    pinned = PROPOSED + "plan_version = 1\n"
    found = run(world, pinned, "2026-05-01", "2026-06-01")
    assert amounts(found.totals[0]) == ["130.00", "130.00", "0.00"]


RULE = """
[[customer_rules]]
key = "all"
event_type = "t"
plan = "p"
currency = "USD"
start = "2026-05-01"
"""


def test_a_proposed_customer_a_new_meter_and_an_archived_plan_are_priced() -> None:
    world = World()
    world.apply(CATALOG)
    for _ in range(101):
        world.event("2026-05-10", "newcomer")
    found = run(world, CATALOG + RULE, "2026-05-01", "2026-06-01")
    assert [one.customer for one in found.customers] == ["c", "newcomer"]
    assert amounts(found.customers[1]) == ["0.00", "11.00", "11.00"]
    assert world.billing.catalog.load(TENANT).customers.keys() == {"c"}
    summed = CATALOG.replace('"COUNT"', '"SUM"\nvalue = "$.n"')
    assert amounts(run(world, summed, "2026-05-01", "2026-06-01").totals[0])[1] == "10.00"
    gone = run(world, "", "2026-05-01", "2026-06-01", prune=True)
    assert amounts(gone.totals[0]) == ["10.00", "0.00", "-10.00"]
    (fee,) = gone.customers[0].charges
    assert (fee.name, fee.plan, fee.proposed_quantity) == ("fee", "p", "0")


def test_a_child_is_shown_by_itself() -> None:
    child = '[[customers]]\nkey = "d"\ncurrency = "USD"\nparent = "c"\nsubjects = ["d"]\n'
    its = '[[subscriptions]]\nkey = "d"\ncustomer = "d"\nplan = "p"\nstart = 2026-05-01\n'
    world = World()
    world.apply(CATALOG + child + its)
    for _ in range(250):
        world.event("2026-05-10", "d")
    found = run(world, PROPOSED, "2026-05-01", "2026-06-01")
    assert [(one.customer, one.difference) for one in found.customers] == [
        ("c", "0.00"),
        ("d", "50.00"),
    ]


def test_who_cannot_be_priced_is_named_and_the_rest_goes_on(world: World) -> None:
    matrix = """{ type = "matrix", dimensions = ["region"], cells = [
      { match = { region = "eu" }, unit_amount = 1 }] }"""
    start = PROPOSED.index('{ type = "graduated"')
    end = PROPOSED.index("}] }") + 4
    broken = PROPOSED[:start] + matrix + PROPOSED[end:]
    broken = broken.replace('"COUNT"', '"COUNT"\ngroup_by = { region = "$.region" }')
    found = run(world, broken, "2026-05-01", "2026-06-01")
    (failed,) = found.failed
    assert (failed.customer, failed.side, failed.code) == ("c", "proposed", "invalid")
    assert amounts(found.totals[0])[0] == "130.00"


def test_a_history_too_long_to_follow_is_named_and_nothing_to_charge_is_not_shown() -> None:
    others = """
[[plans]]
key = "daily"
interval = "P1D"
currency = "USD"
charges = [{ key = "fee", price = { type = "flat", amount = 1 } }]

[[customers]]
key = "old"
currency = "USD"

[[customers]]
key = "later"
currency = "USD"

[[subscriptions]]
key = "old"
customer = "old"
plan = "daily"
start = 1970-01-01

[[subscriptions]]
key = "later"
customer = "later"
plan = "daily"
start = 2026-12-01
"""
    world = World()
    world.apply(CATALOG + others)
    found = run(world, PROPOSED, "2026-05-01", "2026-06-01")
    assert [one.customer for one in found.customers] == ["c"]
    assert [(one.customer, one.side) for one in found.failed] == [
        ("old", "present"),
        ("old", "proposed"),
    ]


def test_currencies_are_not_added() -> None:
    euro = """
[[plans]]
key = "e"
currency = "EUR"
charges = [{ key = "fee", timing = "advance", price = { type = "flat", amount = 7 } }]

[[customers]]
key = "e"
currency = "EUR"

[[subscriptions]]
key = "e"
customer = "e"
plan = "e"
start = 2026-05-01
"""
    world = World()
    world.apply(CATALOG + euro)
    found = run(world, CATALOG + euro.replace("7 }", "8 }"), "2026-05-01", "2026-06-01")
    assert [(one.currency, one.difference) for one in found.totals] == [
        ("EUR", "1.00"),
        ("USD", "0.00"),
    ]


def test_a_span_is_of_the_past_and_not_empty(world: World) -> None:
    with pytest.raises(Invalid, match="to must be after from"):
        run(world, CATALOG, "2026-05-01", "2026-05-01")
    with pytest.raises(Invalid, match="lies in the future"):
        run(world, CATALOG, "2026-05-01", "2031-05-01")
    with pytest.raises(Conflict, match="meter 'other', which is not there"):
        run(
            world, CATALOG.replace('meter = "calls"', 'meter = "other"'), "2026-05-01", "2026-06-01"
        )


COMMITTED = CATALOG.replace(
    "[[customers]]", '[plans.minimum]\namount = 75\ncharges = ["calls"]\n\n[[customers]]'
).replace('timing = "advance"', 'timing = "arrears"')


def test_a_fee_in_arrears_and_a_commitment_count_where_their_period_ends(world: World) -> None:
    proposed = COMMITTED.replace("amount = 75", "amount = 300")
    charges = {}
    for end in ("2026-05-31", "2026-06-01", "2026-06-15"):
        (customer,) = run(world, proposed, "2026-05-15", end).customers
        charges[end] = {one.charge: one.proposed for one in customer.charges if one.proposed_minor}
    assert charges["2026-05-31"] == {"calls": "100.00"}
    assert charges["2026-06-01"] == {"@minimum": "180.00", "calls": "100.00", "fee": "10.00"}
    assert charges["2026-06-15"] == charges["2026-06-01"]


YEARLY = """
[[meters]]
key = "calls"
event_type = "t"
aggregation = "COUNT"

[[plans]]
key = "p"
currency = "USD"
interval = "P1Y"
minimum = { amount = 100 }

  [[plans.charges]]
  key = "calls"
  meter = "calls"
  interval = "P1M"
  price = { type = "unit", unit_amount = 1 }

[[customers]]
key = "c"
currency = "USD"
subjects = ["s"]

[[subscriptions]]
key = "s"
customer = "c"
plan = "p"
start = 2025-01-01
"""


def test_a_commitment_of_a_year_counts_the_months_before_the_span() -> None:
    world = World()
    world.apply(YEARLY)
    for day in ("2025-03-10", "2025-06-10", "2025-12-10"):
        for _ in range(20):
            world.event(day)
    dearer = YEARLY.replace("unit_amount = 1", "unit_amount = 1.5")
    december = run(world, dearer, "2025-12-01", "2026-01-01")
    (customer,) = december.customers
    found = {one.charge: (one.present, one.proposed) for one in customer.charges}
    assert found == {"calls": ("20.00", "30.00"), "@minimum": ("40.00", "10.00")}
    year = run(world, dearer, "2025-01-01", "2026-01-01")
    assert amounts(year.totals[0]) == ["100.00", "100.00", "0.00"]


days = st.integers(0, 91)


@given(
    st.lists(days, max_size=30), st.tuples(days, days, days), st.sampled_from([CATALOG, COMMITTED])
)
@settings(max_examples=25, deadline=None)
def test_spans_that_follow_each_other_add_up(
    events: list[int], borders: tuple[int, int, int], text: str
) -> None:
    world = World()
    world.apply(text)
    first = date(2026, 4, 1)
    for offset in events:
        for _ in range(9):
            world.event(str(first + timedelta(days=offset)))
    a, b, c = (str(first + timedelta(days=one)) for one in sorted(borders))
    cheaper = text.replace("unit_amount = 1 }", "unit_amount = 0.37 }")

    def priced(start: str, end: str) -> tuple[int, int]:
        if start == end:
            return 0, 0
        found = run(world, cheaper, start, end).totals
        return (found[0].present_minor, found[0].proposed_minor) if found else (0, 0)

    parts, whole = (priced(a, b), priced(b, c)), priced(a, c)
    assert tuple(map(sum, zip(*parts, strict=True))) == whole
