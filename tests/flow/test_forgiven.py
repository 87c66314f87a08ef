"""Stories of credit notes and what is rated again: nothing is given back twice, in any order."""

from contextlib import suppress
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallybook.catalog.amendment import Cancel, PlanChange, QuantityChange
from tallybook.catalog.flow import put
from tallybook.invoice.audit.verify import verify
from tallybook.invoice.manifest import Billed, Extra
from tallybook.kernel.errors import Conflict, Invalid
from tallybook.settle.receivable.flow import (
    check_note,
    put_extras,
    redeem,
    take_back_note,
    void_invoice,
)
from tests.support.billing_world import TENANT, acme, at
from tests.support.settled_world import SettledWorld
from tests.unit.settle.receivable.test_pages import rows

ONE, TWO, THREE = "INV-000001", "INV-000002", "INV-000003"
NOTE = "CN-000001"
SEATS = """
[[coupons]]
key = "fifth"
percent = "20"
duration = "forever"

[[plans]]
key = "web"
currency = "USD"
[[plans.charges]]
key = "fee"
timing = "advance"
price = { type = "flat", amount = "310" }

[[customers]]
key = "acme"
currency = "USD"

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = 2026-05-01
"""


@pytest.fixture
def world(any_world: SettledWorld) -> SettledWorld:
    any_world.apply(SEATS)
    return any_world


def cancelled(world: SettledWorld, when: str) -> None:
    known = world.billing.catalog.load(TENANT).subscriptions["acme"]
    made_us = len(known.amendments)
    amendments = (*known.amendments, Cancel(at_us=at(when), recorded_us=made_us))
    put(world.billing.catalog, TENANT, [msgspec.structs.replace(known, amendments=amendments)])


def lines(world: SettledWorld, until: str) -> list[int]:
    """Bill, and return the amounts of the lines."""
    run = world.bill(until)
    assert run.parked == ()
    for invoice in world.invoices(run):
        billing = world.billing
        checked = verify(billing, invoice.number)
        assert checked.ok, checked
    return [line.amount_minor for i in world.invoices(run) for line in i.lines]


def sums(world: SettledWorld) -> list[Billed]:
    billed = world.billing.invoices.books(TENANT).billed
    return [one for groups in billed.values() for one in groups.values()]


@pytest.mark.parametrize("row", rows("credit-notes.md", "billed", 6), ids=str)
def test_the_worked_table(row: list[str]) -> None:
    billed, given_back, first, line, again, last = (int(Decimal(one) * 100) for one in row)
    before = Billed(
        group=(), amount_minor=billed, quantity="1", events=0, digest="0", until_us=0, cut=0,
        invoice="", forgiven_minor=given_back,
    )  # fmt: skip
    now = before.after(first)
    assert now - billed == line
    then = msgspec.structs.replace(before, amount_minor=now)
    assert then.after(again) - now == last


def test_what_a_note_gave_back_is_not_credited_again(world: SettledWorld) -> None:
    assert lines(world, "2026-05-01") == [31000]
    note = world.credit(ONE)
    assert note.total_minor == 31000
    cancelled(world, "2026-05-11")
    assert lines(world, "2026-05-12") == []
    assert [(one.amount_minor, one.forgiven_minor) for one in sums(world)] == [(31000, 31000)]
    assert check_note(world.settling, NOTE).ok


def test_what_a_note_left_is_credited(world: SettledWorld) -> None:
    assert lines(world, "2026-05-01") == [31000]
    world.credit(ONE, {"1": 25000})
    cancelled(world, "2026-05-11")
    assert lines(world, "2026-05-12") == [-6000]
    line = world.invoices()[-1].lines[0]
    assert line.steps[-1].text == "given back by credit notes before: 150"
    assert (line.now.amount, line.now.exact) == ("250.00", "250")
    assert [(one.amount_minor, one.forgiven_minor) for one in sums(world)] == [(25000, 25000)]
    assert lines(world, "2026-05-13") == []


def test_what_was_credited_is_not_given_back_by_a_note(world: SettledWorld) -> None:
    assert lines(world, "2026-05-01") == [31000]
    cancelled(world, "2026-05-11")
    assert lines(world, "2026-05-12") == [-21000]
    with pytest.raises(Invalid, match=r"of line 1 at most 100\.00 USD"):
        world.credit(ONE, {"1": 10001})
    assert world.credit(ONE).total_minor == 10000
    with pytest.raises(Conflict, match="nothing is left"):
        world.credit(ONE)
    cancelled(world, "2026-05-01")
    assert lines(world, "2026-05-13") == [0]
    assert world.invoices()[-1].lines[0].quantity == "-1"


@pytest.mark.parametrize("end", ["2026-05-11", "2026-05-01"])
def test_a_voided_note_leaves_the_credit_to_the_next_run(world: SettledWorld, end: str) -> None:
    assert lines(world, "2026-05-01") == [31000]
    world.credit(ONE)
    cancelled(world, end)
    assert sum(lines(world, "2026-05-12")) == 0
    take_back_note(world.settling, NOTE)
    assert sums(world)[0].forgiven_minor == 0
    left = {"2026-05-11": -21000, "2026-05-01": -31000}[end]
    assert lines(world, "2026-05-13") == [left]
    assert not any(p.again for p in world.billing.invoices.books(TENANT).periods["acme"])
    assert lines(world, "2026-05-14") == []


def test_a_voided_invoice_leaves_what_notes_of_others_gave_back(world: SettledWorld) -> None:
    assert lines(world, "2026-05-01") == [31000]
    world.credit(ONE, {"1": 1000})
    cancelled(world, "2026-05-11")
    assert lines(world, "2026-05-12") == [-21000]
    void_invoice(world.settling, TWO)
    assert [(one.amount_minor, one.forgiven_minor) for one in sums(world)] == [(31000, 1000)]


def test_a_credit_that_a_note_takes_back_is_left_alone(world: SettledWorld) -> None:
    assert lines(world, "2026-05-01") == [31000]
    cancelled(world, "2026-05-11")
    put(world.billing.catalog, TENANT, [_two_of(world)])
    assert lines(world, "2026-05-12") == [-21000, 50000]
    world.credit(TWO, {"1": -100, "2": 500})
    assert [one.forgiven_minor for one in sums(world)] == [-100, 500]
    assert lines(world, "2026-05-13") == []


def _two_of(world: SettledWorld) -> object:
    """Return another subscription of the customer, of a plan that costs 500.00."""
    world.apply(
        '[[plans]]\nkey = "more"\ncurrency = "USD"\n[[plans.charges]]\nkey = "fee"\n'
        'timing = "advance"\nproration = "none"\nprice = { type = "flat", amount = "500" }\n'
    )
    known = world.billing.catalog.load(TENANT).subscriptions["acme"]
    return msgspec.structs.replace(known, key="more", plan="more", amendments=())


def test_with_a_coupon_the_amount_before_it_counts(world: SettledWorld) -> None:
    redeem(world.settling, "fifth", "acme")
    assert lines(world, "2026-05-01") == [31000]
    assert world.credit(ONE, {"1": 12400}).total_minor == 12400
    assert sums(world)[0].forgiven_minor == 15500
    cancelled(world, "2026-05-01")
    assert lines(world, "2026-05-12") == [-15500]
    assert world.invoices()[-1].total_minor == -12400
    with pytest.raises(Conflict, match="nothing is left"):
        world.credit(ONE)
    take_back_note(world.settling, NOTE)
    assert sums(world)[0].forgiven_minor == 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("note"), st.integers(1, 31000)),
        st.tuples(st.just("end"), st.integers(1, 31)),
        st.tuples(st.just("units"), st.integers(0, 3)),
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_a_customer_never_gets_back_more_than_was_billed(steps: list[tuple[str, int]]) -> None:
    world = SettledWorld()
    world.apply(SEATS)
    assert lines(world, "2026-05-01") == [31000]
    for day, (what, value) in enumerate(steps, 2):
        world.clock.now = at(f"2026-05-{day:02d}")
        if what == "end":
            cancelled(world, f"2026-05-{value:02d}")
        elif what == "units":
            known = world.billing.catalog.load(TENANT).subscriptions["acme"]
            change = QuantityChange(
                at_us=at("2026-05-01"), recorded_us=day, charge="fee", quantity=Decimal(value)
            )
            amendments = (*known.amendments, change)
            changed = msgspec.structs.replace(known, amendments=amendments)
            put(world.billing.catalog, TENANT, [changed])
        else:
            _credited(world, value)
        lines(world, f"2026-05-{day:02d}")
        for one in sums(world):
            assert one.amount_minor >= one.forgiven_minor >= 0
    assert world.billing.invoices.books(TENANT).billed
    given_back = sum(-minor for name, minor in world.balances().items() if name == "revenue:acme")
    assert given_back >= 0


def _credited(world: SettledWorld, minor: int) -> None:
    with suppress(Invalid):
        world.credit(ONE, {"1": minor})


USAGE = """
[[meters]]
key = "calls"
event_type = "t"
aggregation = "COUNT"
group_by = { region = "$.region" }

[[plans]]
key = "calls"
currency = "USD"
[[plans.charges]]
key = "calls"
meter = "calls"
split_by = ["region"]
price = { type = "unit", unit_amount = 10 }
""" + acme("calls")


def test_each_dimension_value_and_one_off_has_a_sum_of_its_own() -> None:
    world = SettledWorld()
    world.apply(USAGE)
    for region in ("eu", "us", "us"):
        world.event("2026-05-02T12:00:00Z", data=f'{{"region":"{region}"}}')
    day = at("2026-05-03")
    extra = Extra(id="x1", name="Visit", amount=Decimal(30), start_us=day, end_us=day)
    put_extras(world.settling, "acme", [extra])
    assert lines(world, "2026-05-10") == [1000, 2000, 3000]
    world.credit(ONE, {"2": 500, "3": 3000})
    forgiven = {one.group: one.forgiven_minor for one in sums(world)}
    assert forgiven[("us",)] == 500
    assert forgiven[("eu",)] == 0
    take_back_note(world.settling, NOTE)
    assert not any(one.forgiven_minor for one in sums(world))


PLANS = SEATS + "".join(
    f"""
[[plans]]
key = "{key}"
currency = "USD"
[[plans.charges]]
key = "{charge}"
timing = "{timing}"
price = {{ type = "flat", amount = "{amount}" }}
"""
    for key, charge, timing, amount in (
        ("pro", "base", "advance", 62),
        ("max", "top", "advance", 93),
        ("late", "after", "arrears", 155),
        ("later", "behind", "arrears", 31),
    )
)


def moved_to(world: SettledWorld, plan: str, when: str) -> None:
    known = world.billing.catalog.load(TENANT).subscriptions["acme"]
    change = PlanChange(at_us=at(when), recorded_us=len(known.amendments), plan=plan)
    amendments = (*known.amendments, change)
    put(world.billing.catalog, TENANT, [msgspec.structs.replace(known, amendments=amendments)])


@pytest.mark.parametrize("given", [None, 25000])
@pytest.mark.parametrize("plans", [["pro"], ["pro", "max"]])
def test_a_plan_that_was_replaced_from_its_start_is_given_back_when_its_note_is_voided(
    world: SettledWorld, given: int | None, plans: list[str]
) -> None:
    world.apply(PLANS)
    assert lines(world, "2026-05-01") == [31000]
    world.credit(ONE, None if given is None else {"1": given})
    for day, plan in enumerate(plans, 2):
        moved_to(world, plan, "2026-05-01")
        lines(world, f"2026-05-{day:02d}")
    take_back_note(world.settling, NOTE)
    assert lines(world, "2026-05-10") == [-(given or 31000)]
    assert lines(world, "2026-05-11") == []
    left = {"pro": 6200, "max": 9300}[plans[-1]]
    assert sum(one.amount_minor for one in sums(world)) == left
    assert world.balances()["revenue:acme"] == -left


def test_the_same_of_a_closed_period(world: SettledWorld) -> None:
    world.apply(PLANS.replace('plan = "web"', 'plan = "late"'))
    assert lines(world, "2026-05") == [15500]
    world.credit(ONE)
    moved_to(world, "later", "2026-05-01")
    assert lines(world, "2026-06") in ([0, 3100, 3100], [3100, 3100], [3100, 0, 3100])
    take_back_note(world.settling, NOTE)
    assert lines(world, "2026-07") == [-15500, 3100]
    assert lines(world, "2026-08") == [3100]
    assert sum(one.amount_minor for one in sums(world)) == 4 * 3100
