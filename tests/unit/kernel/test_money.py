"""Money: one rounding, no drift, splits that sum to the whole."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tallybook.kernel.currencies import EXPONENTS
from tallybook.kernel.errors import Invalid
from tallybook.kernel.money import allocate, exponent, from_minor, money_text, to_minor

WEIGHTS = st.lists(st.integers(0, 10**12), min_size=1, max_size=30)
MINORS = st.integers(-(10**30), 10**30)
CURRENCIES = st.sampled_from(sorted(EXPONENTS))


@given(MINORS, WEIGHTS)
def test_a_split_sums_to_the_whole(amount, weights):
    assume(sum(weights) > 0)
    assert sum(allocate(amount, weights)) == amount


@given(MINORS, WEIGHTS)
def test_a_part_is_off_its_exact_share_by_less_than_one(amount, weights):
    assume(sum(weights) > 0)
    for part, weight in zip(allocate(amount, weights), weights, strict=True):
        assert abs(part * sum(weights) - amount * weight) < sum(weights)


@given(MINORS, WEIGHTS)
def test_a_part_without_weight_is_nothing_and_signs_mirror(amount, weights):
    assume(sum(weights) > 0)
    parts = allocate(amount, weights)
    assert all(part == 0 for part, weight in zip(parts, weights, strict=True) if weight == 0)
    assert allocate(-amount, weights) == [-part for part in parts]


def test_ties_go_to_the_earlier_weight():
    assert allocate(100, [1, 1, 1]) == [34, 33, 33]
    assert allocate(-100, [1, 1, 1]) == [-34, -33, -33]
    assert allocate(2, [1, 1, 1]) == [1, 1, 0]


@pytest.mark.parametrize("weights", [[], [0], [0, 0], [1, -1], [3, -1]])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(Invalid) as caught:
        allocate(1, weights)
    assert caught.value.field == "weights"


@pytest.mark.parametrize(
    ("amount", "currency", "half_up", "half_even"),
    [
        ("0.005", "USD", 1, 0),
        ("0.015", "USD", 2, 2),
        ("-0.005", "USD", -1, 0),
        ("2.5", "JPY", 3, 2),
        ("3.5", "JPY", 4, 4),
        ("-2.5", "JPY", -3, -2),
        ("1.0005", "KWD", 1001, 1000),
        ("1.00149999999999999999", "KWD", 1001, 1001),
        ("0.00005", "CLF", 1, 0),
    ],
)
def test_rounding_is_half_away_from_zero_or_half_even(amount, currency, half_up, half_even):
    assert to_minor(Decimal(amount), currency) == half_up
    assert to_minor(Decimal(amount), currency, "half_even") == half_even


@given(MINORS, CURRENCIES)
def test_minor_units_survive_the_way_there_and_back(amount, currency):
    assert to_minor(from_minor(amount, currency), currency) == amount
    assert to_minor(Decimal(money_text(amount, currency)), currency) == amount


@given(st.decimals(-(10**20), 10**20, places=18), CURRENCIES)
def test_rounding_moves_by_at_most_half_a_unit(amount, currency):
    exact = Fraction(amount) * 10 ** exponent(currency)
    assert abs(to_minor(amount, currency) - exact) <= Fraction(1, 2)


def test_money_text_has_the_digits_of_its_currency():
    assert money_text(1234567, "USD") == "12345.67"
    assert money_text(1234567, "JPY") == "1234567"
    assert money_text(1234567, "KWD") == "1234.567"
    assert money_text(-5, "USD") == "-0.05"
    assert money_text(0, "KWD") == "0.000"


def test_amounts_past_28_digits_stay_exact():
    assert money_text(10**30 + 1, "USD") == "1" + "0" * 28 + ".01"


@pytest.mark.parametrize("code", ["", "usd", "XXX", "US", "DEM"])
def test_an_unknown_currency_is_refused(code):
    with pytest.raises(Invalid) as caught:
        exponent(code)
    assert caught.value.field == "currency"


def test_every_currency_has_three_capitals_and_up_to_four_digits():
    assert all(len(c) == 3 and c.isascii() and c.isupper() for c in EXPONENTS)
    assert set(EXPONENTS.values()) == {0, 2, 3, 4}
    assert (EXPONENTS["JPY"], EXPONENTS["EUR"], EXPONENTS["KWD"], EXPONENTS["CLF"]) == (0, 2, 3, 4)
