"""Entitlements at an instant: answers of every kind, resets that may be made, history."""

from decimal import Decimal

import pytest

from tallybook.catalog.entitlement import (
    Access,
    Boolean,
    Entitlement,
    Interval,
    Metered,
    Recurrence,
    Static,
    TopUp,
    Wallet,
)
from tallybook.kernel.errors import Conflict, Invalid
from tallybook.kernel.period import Period
from tallybook.settle.balance import Usage
from tallybook.settle.entitlement import (
    HandReset,
    Value,
    check_reset,
    facts,
    history,
    periods,
    state_at,
    value,
)
from tallybook.settle.wallet import Draw, wallet_at

METERED = Metered(
    meter="m",
    period=Recurrence(interval=Interval(exact_us=100), anchor_us=0),
    measure_from_us=10,
    included=Decimal(5),
)


def entitlement(access: Access) -> Entitlement:
    return Entitlement(customer="c", feature="f", access=access, start_us=0, end_us=500)


def test_a_boolean_one_is_there_while_it_is_in_force():
    assert value(entitlement(Boolean()), None, 0) == Value(access=True)
    assert value(entitlement(Boolean()), None, 500) == Value(access=False)


def test_a_static_one_hands_back_its_settings():
    static = entitlement(Static('{"seats":5}'))
    assert value(static, None, 499) == Value(access=True, config='{"seats":5}')
    assert value(static, None, 500) == Value(access=False)


def test_before_measuring_only_a_soft_limit_gives_access():
    assert not value(entitlement(METERED), None, 5).access
    soft = Metered(meter="m", period=METERED.period, measure_from_us=10, soft=True)
    assert value(entitlement(soft), None, 5).access


def test_out_of_force_a_soft_limit_gives_none():
    soft = Metered(meter="m", period=METERED.period, measure_from_us=10, soft=True)
    assert not value(
        entitlement(soft), state_at(soft, facts(soft, [], [], [], 500), 500), 500
    ).access


def test_the_answer_names_the_period():
    state = state_at(METERED, facts(METERED, [], [Usage(20, Decimal(2))], [], 50), 50)
    answer = value(entitlement(METERED), state, 50, period=Period(10, 100))
    assert answer == Value(
        access=True,
        balance=Decimal(3),
        usage=Decimal(2),
        available=Decimal(5),
        period=Period(10, 100),
    )


def test_usage_periods_ignore_resets_outside():
    by_hand = [HandReset(5), HandReset(130, keep_anchor=True), HandReset(900)]
    assert periods(METERED, by_hand, 250) == [
        Period(10, 100),
        Period(100, 130),
        Period(130, 200),
        Period(200, 300),
    ]


def test_a_reset_at_the_end_of_a_period_is_one_reset():
    assert periods(METERED, [HandReset(100)], 150) == [Period(10, 100), Period(100, 200)]


@pytest.mark.parametrize(("keep", "left"), [(None, 5), (False, 5), (True, 2)])
def test_a_reset_by_hand_may_keep_overage(keep, left):
    by_hand = [HandReset(50, keep_overage=keep)]
    made_of = facts(METERED, [], [Usage(20, Decimal(8))], by_hand, 60)
    assert state_at(METERED, made_of, 60).balance == left


@pytest.mark.parametrize(
    ("at_us", "kind"), [(10, Invalid), (251, Invalid), (130, Conflict), (120, Conflict)]
)
def test_resets_that_are_refused(at_us, kind):
    with pytest.raises(kind) as refusal:
        check_reset(METERED, [HandReset(130, keep_anchor=True)], HandReset(at_us), 250)
    assert refusal.value.field == "at"


def test_a_reset_before_the_present_usage_period_is_refused():
    with pytest.raises(Conflict, match="present usage period"):
        check_reset(METERED, [], HandReset(150), 250)
    assert check_reset(METERED, [], HandReset(200), 250) == HandReset(200)


def test_history_over_a_reset():
    made_of = facts(METERED, [], [Usage(20, Decimal(7)), Usage(120, Decimal(1))], [], 200)
    windows = history(METERED, made_of, (10, 50, 110, 200))
    told = [(window.start_us, window.balance, window.overage, window.usage) for window in windows]
    assert told == [(10, 5, 0, 7), (50, 0, 2, 0), (110, 5, 0, 1)]


def test_many_months_are_counted_right():
    monthly = Recurrence(interval=Interval(months=1), anchor_us=0)
    for months in (-1300, -700, 700, 1300):
        step = monthly.step(months)
        assert (monthly.number_at(step), monthly.number_at(step - 1)) == (months, months - 1)


def test_a_top_up_voided_before_it_begins_is_none():
    up = TopUp(key="t", amount=Decimal(5), at_us=10, voided_us=10)
    state = wallet_at(Wallet(key="w", customer="c", currency="USD"), [up], [], 20)
    assert (state.pots, state.balance, state.lapsed) == ({}, 0, 0)


def test_more_than_was_taken_is_not_given_back():
    up = TopUp(key="t", amount=Decimal(5), at_us=0)
    drawn = [Draw(1, "d", Decimal(2)), Draw(2, "d", Decimal(-4)), Draw(3, "other", Decimal(-1))]
    state = wallet_at(Wallet(key="w", customer="c", currency="USD"), [up], drawn, 5)
    assert (state.balance, state.taken) == (5, {"d": ()})
