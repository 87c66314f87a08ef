"""Exact decimals, and how a measured value is judged."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.kernel.decimals import (
    EXACT,
    MEASURE_MAX,
    STEP,
    divide,
    measure,
    parse_decimal,
    plain,
)

FINITE = st.decimals(allow_nan=False, allow_infinity=False)
STORED = st.decimals(-(10**20), 10**20, places=12)


@given(FINITE)
def test_a_measure_is_within_half_a_step_or_none(value):
    found, rounded = measure(str(value))
    if abs(value) >= MEASURE_MAX:
        assert (found, rounded) == (None, False)
        return
    assert found is not None
    assert found.as_tuple().exponent == -12
    assert EXACT.subtract(found, value).copy_abs() <= STEP / 2
    assert rounded == (found != value)


@given(STORED)
def test_plain_is_the_shortest_spelling_of_the_same_number(value):
    text = plain(value)
    assert Decimal(text) == value
    assert "e" not in text.lower()
    assert text != "-0"
    assert not ("." in text and text.endswith(("0", ".")))


@given(STORED, STORED.filter(bool))
def test_division_is_within_half_a_step(numerator, denominator):
    quotient = Fraction(divide(numerator, denominator))
    assert abs(quotient - Fraction(numerator) / Fraction(denominator)) <= Fraction(STEP) / 2


@pytest.mark.parametrize(
    ("text", "value", "rounded"),
    [
        ("0.0000000000005", "0", True),  # half to even
        ("0.0000000000015", "0.000000000002", True),
        ("0.0000000000025", "0.000000000002", True),
        ("1e-999999999", "0", True),
        ("1e19", "10000000000000000000", False),
        ("-99999999999999999999.5", "-99999999999999999999.5", False),
        (" 12 ", "12", False),
        ("+.5", "0.5", False),
        ("-0", "0", False),
    ],
)
def test_values_that_count(text, value, rounded):
    assert measure(text) == (Decimal(value), rounded)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x",
        "1e20",
        "-1e20",
        "1e999999999",
        "NaN",
        "sNaN",
        "Infinity",
        "-inf",
        "1_000",
        "1,5",
    ],
)
def test_values_that_do_not(text):
    assert measure(text) == (None, False)


def test_parsing_keeps_every_digit():
    text = "12345678901234567890123456789012345678.123456789012"
    assert str(parse_decimal(text)) == text


def test_plain_spells_large_exponents_out():
    assert plain(Decimal("1E+5")) == "100000"
    assert plain(Decimal("-0.00")) == "0"
    assert plain(Decimal("10.500")) == "10.5"
    assert plain(Decimal(100)) == "100"
