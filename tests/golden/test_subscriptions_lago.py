"""Lago's worked cases of subscriptions: partial periods, zones, trials, upgrades, terminations.

Their day of termination counts; ours does not, so a termination is a cancellation at the midnight
after it. Their trial is a phase without the fee.
"""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tallybook.catalog.subscription import SubscriptionSpec, check_subscription, open_periods
from tallybook.invoice.document import Invoice
from tallybook.kernel.timestamps import format_us
from tests.golden.vectors import Case, cases, identity, require
from tests.support.billing_world import at
from tests.support.subscription_story import Story, fee


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


AREAS = (
    "proration.subscription_fee", "proration.timezone", "upgrade.pay_in_advance",
    "upgrade.pay_in_arrears", "terminate.same_day", "terminate.options",
    "trial.longer_than_period", "trial.timezone", "period.anniversary_31",
    "period.anniversary_30.in_advance", "period.yearly.charges_monthly",
)  # fmt: skip
KNOWN = {case["id"]: case for case in cases("lago", *AREAS)}
REPLAYED: set[str] = set()
INTERVALS = {"weekly": "P1W", "monthly": "P1M", "quarterly": "P3M", "yearly": "P1Y"}
METER = {"key": "m", "event_type": "t", "aggregation": "SUM", "value": "$.v"}


def replays(*names: str) -> pytest.MarkDecorator:
    """Mark a test that replays these cases; where they are absent it is skipped."""
    REPLAYED.update(names)
    assert not KNOWN or all(name in KNOWN for name in names), names
    return pytest.mark.parametrize("name", names)


def midnight_after(when: str) -> str:
    """Return the day after the one of an instant, in UTC."""
    return str(date.fromisoformat(when[:10]) + timedelta(days=1))


def minor(value: object) -> int:
    return int(Decimal(str(value)) * 100)


def base_fee(plan: dict[str, Any], key: str = "fee", **more: object) -> dict[str, Any]:
    timing = "advance" if plan.get("pay_in_advance") else "arrears"
    interval = INTERVALS[plan.get("interval", "monthly")]
    return fee(key, Decimal(plan["amount_cents"]) / 100, timing=timing, interval=interval, **more)


FEES = [
    case
    for case in cases("lago", "proration.subscription_fee")
    if "adjusted" not in case["given"] and case["id"] != "SUB-09"
]
REPLAYED.update(case["id"] for case in FEES)


@pytest.mark.parametrize("case", FEES, ids=identity)
@pytest.mark.parametrize("advance", [True, False])
def test_a_fee_of_a_period(case: Case, advance: bool) -> None:
    """The first and the last day are given; the last one counts."""
    given = case["given"]
    period = given.get("period", [given.get("started_at"), given.get("terminated_at")])
    plan = given["plan"] | {"pay_in_advance": advance}
    story = Story()
    trial = [{"key": "trial", "length": f"P{plan.get('trial_days', 0)}D", "charges": []}]
    story.plan("p", base_fee(plan), phases=trial if "trial_days" in plan else [])
    anchor = "start" if given.get("billing_time") == "anniversary" else None
    story.start("p", period[0], anchor=anchor)
    end = midnight_after(period[1])
    if given.get("terminated") or "terminated_at" in given:
        story.cancel(end)
    found = story.lines(period[0] if advance else end)
    found = [line for line in found if line[0] == period[0][:10]]
    assert minor(sum(amount for *_, amount in found)) == case["expect"]["amount_cents"]


@replays("SUB-15")
def test_a_price_below_a_cent(name: str) -> None:
    case = KNOWN[name]
    units = case["given"]["adjusted"]
    story = Story()
    amount = Decimal(units["unit_precise_amount_cents"]) / 100
    story.plan("p", fee("fee", amount, quantity=str(units["units"])))
    story.start("p", "2022-03-01")
    assert minor(story.total("2022-03-01")) == case["expect"]["amount_cents"]


ZONES = cases("lago", "proration.timezone")
REPLAYED.update(case["id"] for case in ZONES)


@pytest.mark.parametrize("case", ZONES, ids=identity)
def test_days_of_the_customers_zone(case: Case) -> None:
    given = case["given"]
    story = Story(zone=given["customer_timezone"])
    story.plan("p", base_fee(given["plan"]))
    story.start("p", given["subscription_at"])
    found = story.run(given["subscription_at"])
    assert found is not None
    assert minor(found.total) == case["expect"]["total_amount_cents"]


# ---------------------------------------------------------------- trials


def charged(story: Story, model: str = "1", **more: object) -> dict[str, Any]:
    """Return a charge of usage, with its meter."""
    from tallybook.catalog.meter import MeterSpec, check_meter

    story.put(check_meter(MeterSpec(**METER)))  # type: ignore[arg-type]
    price = {"type": "unit", "unit_amount": model}
    return {"key": "usage", "meter": "m", "price": price} | more


@replays("TRL-04")
def test_a_trial_longer_than_a_period(name: str) -> None:
    case = KNOWN[name]
    given, expect = case["given"], case["expect"]
    story = Story()
    days = given["plan"]["trial_days"]
    phases = [{"key": "trial", "length": f"P{days}D", "charges": ["usage"]}]
    story.plan("p", base_fee(given["plan"]), charged(story), phases=phases)
    story.start("p", given["subscription_at"])
    story.world.event(given["usage_event"], data='{"v": 10}')
    assert minor(story.total("2024-04-01")) == expect["april_1_invoice_charge_cents"]
    end = expect["trial_end_invoice_at"]
    assert story.run(f"{end}T12:11:59") is None
    assert minor(story.total(f"{end}T12:12:00")) == expect["subscription_fee_cents"]


@replays("TRL-06")
def test_a_trial_in_a_zone(name: str) -> None:
    case = KNOWN[name]
    given, expect = case["given"], case["expect"]
    story = Story(zone=given["customer_timezone"])
    phases = [{"key": "trial", "length": f"P{given['plan']['trial_days']}D", "charges": []}]
    story.plan("p", base_fee(given["plan"]), phases=phases)
    story.start("p", given["subscription_at"])
    assert story.run("2024-04-01T18:11:59Z") is None
    assert minor(story.total(expect["invoice_at"])) == expect["subscription_fee_cents"]


# ---------------------------------------------------------------- upgrades


def upgraded(case: Case) -> Story:
    """Return the story of a plan with recurring usage, and the one that it becomes."""
    given = case["given"]
    story = Story()
    usage = charged(story, given["charge"]["amount"], recurring=True)
    for key in ("old", "new"):
        story.plan(key, base_fee(given[f"{key}_plan"], key), usage)
    story.start("old", given["subscription_at"])
    event = given["event"]
    story.world.event(event["at"], data=f'{{"v": {event["amount"]}}}')
    return story


@replays("UPG-01")
def test_an_upgrade_in_advance(name: str) -> None:
    case = KNOWN[name]
    given, expect = case["given"], case["expect"]
    story = upgraded(case)
    story.run(given["billed_at"])
    story.change(given["upgraded_at"], "new")
    found = story.run(given["upgraded_at"])
    assert found is not None
    credit = [line for line in found.lines if line.charge == "old"]
    assert [-line.amount_minor for line in credit] == [expect["credit_note_cents"]]
    assert minor(found.total) == expect["upgrade_invoice_total_cents"]


@replays("UPG-02")
def test_an_upgrade_in_arrears(name: str) -> None:
    case = KNOWN[name]
    given, expect = case["given"], case["expect"]
    story = upgraded(case)
    story.run("2024-02-01")
    story.change(given["upgraded_at"], "new")
    assert minor(story.total(given["upgraded_at"])) == expect["termination_invoice_cents"]
    assert minor(story.total(given["next_billing"])) == expect["next_invoice_cents"]


# ---------------------------------------------------------------- terminations


def terminated(case: Case) -> tuple[Invoice | None, Invoice]:
    """Return the first invoice, and the one after the termination."""
    given = case["given"]
    story = Story()
    story.tax("vat", given["tax_rate"])
    usage = charged(story, "0.01")
    story.plan("p", base_fee(given["plan"]), usage, taxes=["vat"])
    story.start("p", given["subscription_at"])
    first = story.run(given["subscription_at"])
    story.world.event(given["subscription_at"], data=f'{{"v": {given["usage_cents"]}}}')
    end = midnight_after(given["terminated_at"])
    credit = given.get("on_termination_credit_note") != "skip"
    story.cancel(end, credit=credit)
    last = story.run(end)
    assert last is not None
    return first, last


@replays("TRM-05", "TRM-07", "TRM-09")
def test_a_termination_with_and_without_credit(name: str) -> None:
    """Their invoice and credit note are one invoice here; below zero it becomes credit."""
    case = KNOWN[name]
    expect = case["expect"]
    first, last = terminated(case)
    if "first_invoice" in expect:
        assert first is not None
        assert minor(first.total) == expect["first_invoice"]["total_amount_cents"]
    assert last.payable_minor == expect["termination_invoice"]["total_amount_cents"]
    assert last.total_minor == last.payable_minor - expect.get("credit_note_balance_cents", 0)
    credit = -sum(line.amount_minor for line in last.lines if line.charge == "fee")
    note = expect.get("credit_note", {}).get("sub_total_excluding_taxes_amount_cents")
    assert note in {None, credit}


# ---------------------------------------------------------------- periods


def boundaries(given: Case, until: str, interval: str) -> list[tuple[str, str]]:
    """Return the local days of an anniversary subscription's periods, the last day included."""
    spec = SubscriptionSpec(
        key="s", customer="c", plan="p", start=given["subscription_at"], anchor="start"
    )
    found = open_periods(check_subscription(spec, "UTC"), (), at(until), "UTC", 1, interval)
    return [(format_us(one.start_us)[:10], format_us(one.end_us - 86_400_000_000)[:10])
            for one in found]  # fmt: skip


@replays("BND-01", "BND-02")
def test_anniversaries(name: str) -> None:
    case = KNOWN[name]
    given, expect = case["given"], case["expect"]["periods"]
    found = boundaries(given, expect[-1]["from"][:10] + "T12:00:00", INTERVALS[given["interval"]])
    assert found[: len(expect)] == [(one["from"][:10], one["to"][:10]) for one in expect]


@replays("BND-04")
def test_months_within_a_year(name: str) -> None:
    case = KNOWN[name]
    spans = [(start[:10], end[:10]) for start, end in case["expect"]["charge_periods"]]
    found = boundaries(case["given"], "2025-01-01", "P1M")
    assert [found[n] for n in (0, 1, 2, 11)] == spans
