"""The intermediate form: how a merged partial becomes a value."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.catalog.meter import AGGREGATIONS, MeterSpec, check_meter
from tallybook.kernel.timestamps import HOUR_US
from tallybook.meter.partial import FRACTION, Merged, finish, rolls_up, value_columns

VALUES = st.decimals(-(10**19), 10**19, places=12)


def meter(aggregation):
    value = None if aggregation == "COUNT" else "$.v"
    return check_meter(MeterSpec(key="m", event_type="t", aggregation=aggregation, value=value))


@pytest.mark.parametrize("aggregation", sorted(set(AGGREGATIONS) - {"COUNT"}))
def test_without_a_usable_value_there_is_none(aggregation):
    assert finish(meter(aggregation), Merged(n=3, nv=0, uniques=0)) is None


def test_a_count_needs_no_value():
    assert finish(meter("COUNT"), Merged(n=3, nv=3)) == 3


@given(VALUES, st.integers(1, 10**9))
def test_each_value_has_its_place(value, count):
    fields = {"SUM": "s", "MIN": "mn", "MAX": "mx", "LATEST": "latest"}
    for aggregation, name in fields.items():
        assert value_columns(meter(aggregation)) == (name,)
        assert finish(meter(aggregation), Merged(n=count, nv=count, **{name: value})) == value
    assert finish(meter("UNIQUE_COUNT"), Merged(n=count, nv=1, uniques=count)) == count


@given(VALUES, st.integers(1, 10**9))
def test_an_average_is_within_half_a_step(total, count):
    found = finish(meter("AVG"), Merged(n=count, nv=count, s=total))
    assert found is not None
    assert abs(Fraction(found) - Fraction(total) / count) <= Fraction(1, 2 * 10**12)


@given(
    st.integers(0, 10**19), st.integers(0, FRACTION - 1), st.integers(0, 10 * 366 * 24 * HOUR_US)
)
def test_a_level_held_is_its_hours(whole, fraction, held_us):
    merged = Merged(n=1, nv=1, whole=whole * held_us, fraction=fraction * held_us)
    found = finish(meter("TIME_WEIGHTED"), merged)
    assert found is not None
    exact = (whole + Fraction(fraction, FRACTION)) * held_us / HOUR_US
    assert abs(Fraction(found) - exact) <= Fraction(1, 2 * 10**12)


def test_only_levels_do_not_roll_up():
    assert [a for a in AGGREGATIONS if not rolls_up(meter(a))] == ["TIME_WEIGHTED"]
