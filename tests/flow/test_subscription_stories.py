"""Stories of subscriptions: commands through the books, declared plans, versions, own terms."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tallybook.catalog.amendment import Cancel, Pause, PlanChange, PriceChange, QuantityChange
from tallybook.catalog.price import FlatPrice
from tallybook.catalog.subscription import Decision, Skipped
from tallybook.invoice.amend import amend, migrate, outlook
from tallybook.invoice.due import BillRequest, due, horizon
from tallybook.kernel.errors import Conflict, Missing
from tests.support.billing_world import TENANT, at
from tests.support.subscription_story import Story, fee


def begun(**more: Any) -> Story:
    story = Story()
    story.plan("old", fee("seat", 31))
    story.plan("new", fee("seat", 62))
    story.start("old", "2026-05-01", **more)
    story.world.clock.now = at("2026-05-10")
    return story


def cancel(at_us: int, now: int) -> Cancel:
    return Cancel(at_us=at_us, recorded_us=now)


def test_period_end_is_the_end_of_the_stored_period() -> None:
    story = begun()
    billing = story.world.billing
    decision = amend(billing, "s", cancel, "period-end", dry=True)
    assert decision.amendment.at_us == at("2026-06-01")
    assert billing.catalog.load(TENANT).subscriptions["s"].amendments == ()
    amend(billing, "s", cancel, "2026-05-20")
    again = amend(billing, "s", cancel, "period-end")
    assert again.amendment.at_us == at("2026-06-01"), "whatever cancels it before"
    with pytest.raises(Missing):
        amend(billing, "nobody", cancel)


def test_an_outlook_before_during_a_pause_and_after() -> None:
    story = begun(quantities={"seat": "2"})
    billing = story.world.billing
    story.decide(
        QuantityChange(at_us=at("2026-05-03"), recorded_us=0, charge="seat", quantity=Decimal(4))
    )
    catalog = billing.catalog.load(TENANT)
    found = outlook(billing, catalog, catalog.subscriptions["s"])
    assert (found.state, found.quantities, len(found.periods)) == (
        "active",
        {"seat": Decimal(4)},
        2,
    )
    story.pause("2026-05-05")
    catalog = billing.catalog.load(TENANT)
    found = outlook(billing, catalog, catalog.subscriptions["s"])
    assert (found.state, found.periods) == ("paused", ())
    decision = amend(billing, "s", cancel, "period-end", dry=True)
    assert decision.amendment.at_us == at("2026-06-01"), "the calendar's"
    story.run("2026-05-10")
    story.resume("2026-05-06")
    story.cancel("2026-06-01")
    catalog = billing.catalog.load(TENANT)
    found = outlook(billing, catalog, catalog.subscriptions["s"])
    assert (found.state, len(found.periods), found.end_us) == ("cancelled", 1, at("2026-06-01"))


def test_a_migration_is_shown_then_written_then_has_nothing_left() -> None:
    story = begun()
    story.run("2026-05-10")
    story.plan("old", fee("seat", 93))
    billing = story.world.billing
    shown = migrate(billing, "old", 2, dry=True)
    assert [type(one) for one in shown] == [Decision]
    assert story.world.billing.catalog.load(TENANT).subscriptions["s"].amendments == ()
    migrate(billing, "old", 2)
    assert [type(one) for one in migrate(billing, "old", 2)] == [Skipped]
    assert migrate(billing, "new") == []
    assert story.lines("2026-05-11") == [
        ("2026-05-01", "2026-05-10", Decimal("-22.00")),
        ("2026-05-10", "2026-06-01", Decimal("66.00")),
    ]


def test_a_version_put_in_place_of_the_one_that_was_billed() -> None:
    story = begun()
    story.run("2026-05-10")
    story.plan("old", fee("seat", 93))
    start = at("2026-05-01")
    story.decide(PlanChange(at_us=start, recorded_us=0, plan="old", plan_version=1))
    assert story.run("2026-05-11") is None
    story.decide(PlanChange(at_us=start, recorded_us=0, plan="old"))
    assert story.run("2026-05-11") is None, "not pinned: as it was opened"
    story.decide(PlanChange(at_us=start, recorded_us=0, plan="old", plan_version=2))
    assert story.total("2026-05-11") == 62


def test_a_plan_with_phases_put_in_place_of_the_one_that_was_billed() -> None:
    story = begun()
    first = story.run("2026-05-10")
    assert first is not None
    phases = [{"key": "trial", "length": "P1M", "charges": ["setup"]}, {"key": "later"}]
    story.plan("ramp", fee("seat", 93), fee("setup", 1), phases=phases)
    story.decide(PlanChange(at_us=at("2026-05-01"), recorded_us=0, plan="ramp"))
    assert story.total("2026-05-11") == 1 - Decimal(first.total)
    (period,) = story.world.billing.invoices.books(TENANT).periods["s"]
    assert (period.plan, period.phase) == ("ramp", "trial")
    assert story.total("2026-06-01") == 94


def test_a_plan_declared_otherwise_begins_with_the_next_period() -> None:
    story = begun()
    story.run("2026-05-10")
    story.start("new", "2026-05-01")
    assert story.run("2026-05-11") is None
    assert story.lines("2026-06-01") == [("2026-06-01", "2026-07-01", Decimal("62.00"))]
    story.start("old", "2026-05-01")
    assert story.lines("2026-07-01") == [("2026-07-01", "2026-08-01", Decimal("31.00"))]
    story.pause("2026-05-16")
    assert story.total("2026-07-01") == -(16 + 62 + 31)


def test_own_prices_of_a_closed_period_and_a_new_yearly_charge() -> None:
    story = begun()
    story.run("2026-06-02")
    price = FlatPrice(amount=Decimal(10))
    story.decide(PriceChange(at_us=at("2026-05-01"), recorded_us=0, charge="seat", price=price))
    assert story.total("2026-06-02") == -42
    story.plan("old", fee("seat", 31), fee("year", 365, interval="P1Y"))
    found = story.lines("2026-07-01")
    assert found == [
        ("2026-07-01", "2026-08-01", Decimal("10.00")),
        ("2026-07-01", "2027-01-01", Decimal("184.00")),
    ], "from the next period on, not for the past"


def test_a_new_yearly_charge_of_what_ends_before_the_next_period() -> None:
    story = begun()
    story.run("2026-05-10")
    story.plan("old", fee("seat", 31), fee("yearly", 1000, interval="P1Y"))
    story.cancel("2026-06-01")
    assert story.run("2026-06-02") is None
    periods = story.world.billing.invoices.books(TENANT).periods["s"]
    assert {period.interval for period in periods} == {"P1M"}


def test_a_commitment_of_its_own_and_one_that_ends() -> None:
    story = Story()
    story.plan("p", fee("seat", 31, interval="P1Y"), minimum={"amount": "50"})
    story.plan("q", fee("seat", 31, interval="P1Y"))
    story.start("p", "2026-05-01", minimum="80", anchor="start")
    assert story.total("2026-06-01") == 31 + 80
    story.change("2026-05-01", "q")
    catalog = story.world.billing.catalog.load(TENANT)
    own = catalog.subscriptions["s"]
    story.put(msgspec.structs.replace(own, minimum=None))
    assert story.total("2026-06-01") == -80


def test_quiet_closed_periods_are_not_asked_again() -> None:
    story = Story()
    story.meter("calls")
    calls = {"key": "calls", "meter": "calls", "price": {"type": "unit", "unit_amount": "1"}}
    story.plan("p", calls)
    story.start("p", "2026-05-01")
    story.world.event("2026-05-02")
    story.run("2026-07-01")
    billing = story.world.billing
    catalog, books = billing.catalog.load(TENANT), billing.invoices.books(TENANT)
    seen = horizon(BillRequest(until_us=at("2026-07-02")), "UTC", at("2026-07-02"))
    args = (catalog.subscriptions["s"], books.periods["s"], books.billed, catalog)
    starts = [item.position.start_us for item in due(*args, seen, 9).items]
    assert starts == [at("2026-05-01"), at("2026-06-01"), at("2026-07-01")]
    quiet = msgspec.structs.replace(seen, quiet_us=at("2026-06-01"))
    starts = [item.position.start_us for item in due(*args, quiet, 9).items]
    assert starts == [at("2026-06-01"), at("2026-07-01")]


def test_a_conflict_with_the_catalog_is_found_in_a_dry_run() -> None:
    story = begun()

    def change(at_us: int, now: int) -> PlanChange:
        return PlanChange(at_us=at_us, recorded_us=now, plan="none")

    with pytest.raises(Conflict):
        amend(story.world.billing, "s", change, dry=True)
    paused = amend(story.world.billing, "s", lambda a, n: Pause(at_us=a, recorded_us=n), "")
    assert paused.state == "paused"


def test_a_pinned_version_is_what_periods_are_opened_with() -> None:
    story = begun(plan_version=1)
    story.plan("old", fee("seat", 93))
    assert story.total("2026-05-10") == 31
    story.decide(
        PlanChange(at_us=at("2026-05-01"), recorded_us=0, plan="new", plan_version=1),
    )
    assert story.total("2026-05-10") == 31


def test_a_declared_plan_that_an_amendment_ends_within_a_billed_period() -> None:
    story = begun()
    story.run("2026-05-10")
    story.start("new", "2026-05-01")
    story.change("2026-05-12", "new")
    assert story.total("2026-05-12") == -20 + 40


def test_a_commitment_in_periods_that_no_charge_has() -> None:
    story = Story()
    story.plan("p", fee("year", 365, interval="P1Y"))
    story.start("p", "2026-01-01", minimum="10")
    assert story.total("2026-02-01") == 365 + 10


def test_what_is_billed_keeps_its_start() -> None:
    story = begun()
    story.run("2026-05-10")
    story.start("old", "2026-04-30T10:00:00Z")
    assert story.run("2026-05-11") is None, "a date is another instant in another zone"


def test_a_start_that_is_corrected_is_billed_as_if_it_had_always_been() -> None:
    story = Story()
    story.plan("old", fee("f", 31))
    story.start("old", "2026-05-01")
    assert story.total("2026-05-20") == 31
    story.start("old", "2026-05-16")
    assert story.total("2026-05-21") == -15
    assert story.run("2026-05-22") is None
    story.start("old", "2026-04-21")
    assert story.total("2026-06-01") == 15 + Decimal("10.33") + 31
    assert story.run("2026-06-02") is None
