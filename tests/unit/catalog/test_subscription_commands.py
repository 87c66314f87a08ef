"""Commands to subscriptions: what they add, what the state forbids, what a migration leaves."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tallybook.catalog.amendment import (
    Amendment,
    AnchorChange,
    Cancel,
    Pause,
    PlanChange,
    PriceChange,
    QuantityChange,
    Resume,
    Uncancel,
)
from tallybook.catalog.price import FlatPrice
from tallybook.catalog.subscription import (
    Decision,
    Skipped,
    StoredPeriod,
    Subscription,
    SubscriptionSpec,
    alignment,
    check_subscription,
    decide,
    described,
    ending,
    migration,
    open_periods,
    own_prices,
    plan_at,
    standing,
    state_at,
    subscription_spec,
    timeline,
    units,
)
from tallybook.catalog.subscription.calendar import calendar_ok
from tallybook.catalog.subscription.commands import AMENDMENTS_MAX
from tallybook.kernel.errors import Conflict, Invalid
from tallybook.kernel.timestamps import DAY_US, to_us
from tests.support.billing_world import at

MAY, JUNE = at("2026-05-01"), at("2026-06-01")
PRICE = FlatPrice(amount=Decimal(9))


def made(*amendments: Amendment, **more: object) -> Subscription:
    fields = {"key": "s", "customer": "c", "plan": "p", "start_us": MAY} | more
    return Subscription(**fields, amendments=amendments)  # type: ignore[arg-type]


def day(number: int) -> int:
    return MAY + (number - 1) * DAY_US


EVERY = [
    (PlanChange(at_us=JUNE, recorded_us=0, plan="q"), "plan q"),
    (PlanChange(at_us=JUNE, recorded_us=0, plan="q", plan_version=2), "plan q, version 2"),
    (QuantityChange(at_us=JUNE, recorded_us=0, charge="x", quantity=Decimal(3)), "3 of x"),
    (PriceChange(at_us=JUNE, recorded_us=0, charge="x", price=PRICE), "another price of x"),
    (PriceChange(at_us=JUNE, recorded_us=0, charge="x", price=None), "the plan's price of x again"),
    (AnchorChange(at_us=JUNE, recorded_us=0, anchor_us=MAY), "periods aligned to 2026-05-01"),
    (Pause(at_us=JUNE, recorded_us=MAY), "paused"),
    (Cancel(at_us=JUNE, recorded_us=MAY), "cancelled"),
    (Cancel(at_us=JUNE, recorded_us=MAY, credit=False), "cancelled without credit"),
]


@pytest.mark.parametrize(("amendment", "text"), EVERY, ids=[text for _, text in EVERY])
def test_a_command_adds_one_amendment_and_says_what(amendment: Amendment, text: str) -> None:
    before = made()
    found = decide(before, amendment)
    assert found.subscription.amendments == (amendment,)
    assert found.text.startswith(f"s: {text}")
    assert found.text.endswith("from 2026-06-01T00:00:00Z on")
    assert before.amendments == ()


def test_paused_resumed_cancelled_and_taken_back() -> None:
    one = decide(made(), Pause(at_us=day(5), recorded_us=0))
    assert one.state == "paused"
    two = decide(one.subscription, Resume(at_us=day(9), recorded_us=0))
    assert (two.state, described(two.amendment)[:7]) == ("active", "resumed")
    three = decide(two.subscription, Cancel(at_us=day(20), recorded_us=day(9)))
    assert (three.state, state_at(three.subscription, day(19))) == ("ended", "cancelled")
    later = decide(three.subscription, Cancel(at_us=day(25), recorded_us=day(10)))
    assert ending(later.subscription).at_us == day(25)
    back = decide(later.subscription, Uncancel(at_us=day(11), recorded_us=day(11)))
    assert (back.state, described(back.amendment)[:19]) == ("active", "no longer cancelled")
    assert ending(back.subscription).at_us is None


REFUSED = [
    (made(), Resume(at_us=JUNE, recorded_us=0), "active"),
    (made(), Uncancel(at_us=JUNE, recorded_us=0), "not cancelled"),
    (made(Pause(at_us=MAY, recorded_us=0)), Pause(at_us=JUNE, recorded_us=0), "paused"),
    (made(end_us=JUNE), PlanChange(at_us=JUNE, recorded_us=0, plan="q"), "ended"),
    (made(end_us=JUNE), Cancel(at_us=day(80), recorded_us=day(70)), "ended"),
    (made(start_us=JUNE), Pause(at_us=MAY, recorded_us=0), "pending"),
]


@pytest.mark.parametrize(("subscription", "amendment", "word"), REFUSED, ids=str)
def test_the_state_forbids(subscription: Subscription, amendment: Amendment, word: str) -> None:
    with pytest.raises(Conflict, match=word) as caught:
        decide(subscription, amendment)
    assert caught.value.code == "state-forbids"


def test_a_plan_that_holds_already_is_refused() -> None:
    with pytest.raises(Conflict) as caught:
        decide(made(), PlanChange(at_us=JUNE, recorded_us=0, plan="p"))
    assert caught.value.code == "no-change"


def test_amendments_are_bounded() -> None:
    many = [Pause(at_us=MAY, recorded_us=0)] * AMENDMENTS_MAX
    with pytest.raises(Conflict) as caught:
        decide(
            made(*many), QuantityChange(at_us=MAY, recorded_us=0, charge="x", quantity=Decimal(1))
        )
    assert caught.value.code == "too-many-amendments"


def test_an_add_on_starts_pauses_and_ends_with_its_base() -> None:
    base = made(
        Pause(at_us=day(5), recorded_us=0),
        Resume(at_us=day(9), recorded_us=0),
        Cancel(at_us=day(20), recorded_us=0, credit=False),
        key="base",
        start_us=day(2),
    )
    add_on = made(base="base")
    spans = [(one.start_us, one.end_us) for one in timeline(add_on, base=base)]
    assert spans == [(day(2), day(5)), (day(9), day(20))]
    found = [state_at(add_on, day(n), base) for n in (1, 3, 6, 10, 20)]
    assert found == ["cancelled", "cancelled", "paused", "cancelled", "ended"]
    assert standing(add_on, day(1), base).charging == "pending"
    assert ending(add_on, base).credit is False
    sooner = made(base="base", end_us=day(10))
    assert ending(sooner, base).at_us == day(10)


def test_an_agreed_end_comes_before_a_later_cancellation() -> None:
    subscription = made(Cancel(at_us=JUNE, recorded_us=0, credit=False), end_us=day(9))
    assert ending(subscription) == ending(made(end_us=day(9)))
    assert state_at(subscription, day(2)) == "active"


def test_a_pending_subscription_that_was_cancelled_may_be_taken_back() -> None:
    cancelled = decide(made(start_us=JUNE), Cancel(at_us=day(3), recorded_us=day(3)))
    assert timeline(cancelled.subscription) == ()
    back = decide(cancelled.subscription, Uncancel(at_us=day(4), recorded_us=day(4)))
    assert back.state == "pending"
    assert len(timeline(back.subscription)) == 1


def test_own_prices_and_units_from_an_instant_on() -> None:
    other = FlatPrice(amount=Decimal(5))
    subscription = made(
        PriceChange(at_us=day(5), recorded_us=0, charge="x", price=other),
        PriceChange(at_us=day(9), recorded_us=0, charge="y", price=None),
        QuantityChange(at_us=day(5), recorded_us=0, charge="x", quantity=Decimal(4)),
        QuantityChange(at_us=day(5), recorded_us=0, charge="x", quantity=Decimal(6)),
        prices={"y": PRICE},
        quantities={"x": Decimal(2)},
    )
    assert own_prices(subscription, day(4)) == {"y": PRICE}
    assert own_prices(subscription, day(5)) == {"x": other, "y": PRICE}
    assert own_prices(subscription, day(9)) == {"x": other}
    assert own_prices(subscription, day(9), {"z": PRICE}) == {"x": other, "z": PRICE}
    assert own_prices(made(prices={"y": PRICE}), day(1)) == {"y": PRICE}
    assert units(subscription, "x", MAY, JUNE) == ((MAY, Decimal(2)), (day(5), Decimal(6)))
    assert units(subscription, "x", day(7), JUNE) == ((day(7), Decimal(6)),)
    assert units(subscription, "y", MAY, JUNE) == ()


def test_an_anchor_from_an_instant_on() -> None:
    subscription = made(AnchorChange(at_us=JUNE, recorded_us=0, anchor_us=day(7)))
    assert alignment(subscription, MAY).anchor_us is None
    assert alignment(subscription, JUNE).anchor_us == day(7)


def test_the_plan_at_an_instant() -> None:
    subscription = made(
        PlanChange(at_us=day(9), recorded_us=0, plan="q", plan_version=3),
        Cancel(at_us=day(12), recorded_us=0),
        end_us=JUNE,
    )
    assert plan_at(subscription, 0) == ("p", None)
    assert plan_at(subscription, day(9)) == ("q", 3)
    assert plan_at(subscription, JUNE) == ("q", 3)


def test_a_migration_moves_those_that_it_can() -> None:
    there = [
        (made(key="on-one"), JUNE, 1),
        (made(key="follows"), JUNE, 2),
        (made(key="unopened"), JUNE, None),
        (made(key="pinned", plan_version=2), JUNE, 2),
        (made(key="ended", end_us=MAY + 1), JUNE, 1),
        (made(key="other", plan="q"), JUNE, 1),
    ]
    found = list(migration(there, "p", None, 2, MAY))
    moved = [one.subscription.key for one in found if isinstance(one, Decision)]
    left = [one.subscription for one in found if isinstance(one, Skipped)]
    assert (moved, left) == (["on-one", "pinned"], ["follows", "unopened", "ended"])
    found = list(migration(there, "p", 2, 2, MAY))
    moved = [one.subscription.key for one in found if isinstance(one, Decision)]
    assert moved == ["on-one", "follows", "unopened"]


SPEC = {"key": "s", "customer": "c", "plan": "p", "start": "2026-05-01"}


def test_a_specification_and_back() -> None:
    spec = SubscriptionSpec(
        **SPEC,  # type: ignore[arg-type]
        end="2027-05-01",
        anchor="start",
        plan_version=2,
        quantities={"seats": Decimal("5.0")},
        prices={"seats": {"type": "flat", "amount": "9"}},
        minimum=Decimal(100),
        thresholds=[Decimal(10), Decimal(20)],
    )
    found = check_subscription(spec, "Europe/Berlin")
    assert found.anchor_us == found.start_us == at("2026-05-01", "Europe/Berlin")
    assert found.quantities == {"seats": Decimal(5)}
    assert found.prices == {"seats": FlatPrice(amount=Decimal(9))}
    assert check_subscription(subscription_spec(found), "UTC") == found
    add_on = SubscriptionSpec(**SPEC, base="b", anchor="2026-01-15")  # type: ignore[arg-type]
    made_of = check_subscription(add_on, "UTC")
    assert (made_of.base, made_of.anchor_us) == ("b", at("2026-01-15"))
    assert check_subscription(subscription_spec(made_of), "UTC") == made_of


WRONG: list[tuple[str, dict[str, object]]] = [
    ("anchor", {"anchor": "soon"}),
    ("base", {"base": "no spaces"}),
    ("quantities.x", {"quantities": {"x": Decimal(-1)}}),
    ("quantities", {"quantities": {str(n): Decimal(1) for n in range(201)}}),
    ("prices.x", {"prices": {"x": {"type": "none"}}}),
    ("prices", {"prices": {str(n): {"type": "flat", "amount": "1"} for n in range(201)}}),
    ("minimum", {"minimum": Decimal(-1)}),
    ("thresholds", {"thresholds": [Decimal(2), Decimal(1)]}),
    ("thresholds", {"thresholds": [Decimal(0)]}),
    ("thresholds", {"thresholds": [Decimal(n + 1) for n in range(21)]}),
]


@pytest.mark.parametrize(
    ("field", "more"), WRONG, ids=[f"{n}-{field}" for n, (field, _) in enumerate(WRONG)]
)
def test_a_specification_that_is_refused_names_the_field(
    field: str, more: dict[str, object]
) -> None:
    with pytest.raises(Invalid) as caught:
        check_subscription(SubscriptionSpec(**SPEC | more), "UTC")  # type: ignore[arg-type]
    assert caught.value.field == field


def test_periods_without_end_are_bounded() -> None:
    daily = open_periods(made(start_us=0), (), at("2026-05-01"), "UTC", 1, "P1D")
    with pytest.raises(Invalid, match="too long ago"):
        list(daily)


def test_periods_that_are_stored_keep_their_whole() -> None:
    stored = StoredPeriod(
        subscription="s",
        start_us=MAY,
        end_us=day(20),
        full_start_us=MAY,
        full_end_us=day(20),
        plan="p",
        plan_version=1,
        until_us=MAY,
    )
    (following,) = open_periods(made(), (stored,), day(25), "UTC", 2)
    assert (following.start_us, following.end_us) == (day(20), JUNE)
    assert list(open_periods(made(start_us=JUNE), (), MAY, "UTC", 1)) == []


@pytest.mark.parametrize(("year", "ok"), [(1899, False), (1900, True), (2299, True), (2300, False)])
def test_dates_that_periods_are_counted_from_have_every_step(year: int, ok: bool) -> None:
    at_us = to_us(datetime(year, 7, 1, tzinfo=UTC))
    if ok:
        assert calendar_ok("start", at_us) == at_us
        return
    with pytest.raises(Invalid, match="years 1900 to 2299") as refused:
        calendar_ok("start", at_us)
    assert refused.value.field == "start"
