"""Ids, quantities, errors, problems, events: the small nouns."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.kernel import errors
from tallybook.kernel.errors import (
    Conflict,
    Corrupt,
    Forbidden,
    Invalid,
    Missing,
    Refused,
    TallybookError,
    Throttled,
    Timeout,
    Unavailable,
)
from tallybook.kernel.event import UsageEvent
from tallybook.kernel.ids import base32, derived_id, uuid7_id
from tallybook.kernel.problem import Problem
from tallybook.kernel.quantity import Quantity

MILLIS = st.integers(0, (1 << 48) - 1)
RANDOM = st.binary(min_size=10, max_size=16)
PARTS = st.lists(st.text(max_size=5), max_size=4)
VALUES = st.decimals(-(10**25), 10**25, places=12)


@given(MILLIS, MILLIS, RANDOM, RANDOM)
def test_fresh_ids_sort_by_time(a, b, one, other):
    first, second = uuid7_id("inv", a, one), uuid7_id("inv", b, other)
    assert len(first) == len("inv_") + 26
    if a != b:
        assert (first < second) == (a < b)


@given(MILLIS, RANDOM)
def test_a_fresh_id_is_a_uuid_of_version_7(ms, raw):
    text = uuid7_id("x", ms, raw)[2:]
    number = 0
    for char in text:
        number = number << 5 | "0123456789abcdefghjkmnpqrstvwxyz".index(char)
    assert number >> 80 == ms
    assert number >> 76 & 0xF == 7
    assert number >> 62 & 0b11 == 0b10


@given(PARTS, PARTS)
def test_derived_ids_are_equal_just_where_all_parts_are(one, other):
    assert (derived_id("l", *one) == derived_id("l", *other)) == (one == other)


def test_a_derived_id_never_changes():
    assert derived_id("line", "a", "bc") == derived_id("line", "a", "bc")
    assert derived_id("line", "a", "bc") != derived_id("line", "ab", "c")
    assert derived_id("line", "a") != derived_id("line", "a", "")
    assert base32(0, 3) == "000"
    assert base32(32 * 31 + 1, 3) == "0z1"


@given(VALUES, VALUES)
def test_quantities_add_exactly(a, b):
    left, right = Quantity(a, "By"), Quantity(b, "By")
    assert (left + right) - right == left
    assert left + right == right + left


def test_different_units_do_not_add():
    with pytest.raises(Invalid, match="cannot add s to By"):
        Quantity(Decimal(1), "By") + Quantity(Decimal(1), "s")
    with pytest.raises(Invalid, match="no unit"):
        Quantity(Decimal(1), "By") - Quantity(Decimal(1), "")


def test_a_quantity_reads_like_a_person_writes():
    assert str(Quantity(Decimal("1.500"), "GiBy")) == "1.5 GiBy"
    assert str(Quantity(Decimal(0), "")) == "0"


def test_the_tree_of_errors():
    assert all(issubclass(kind, Refused) for kind in (Invalid, Missing, Conflict, Forbidden))
    assert all(issubclass(kind, Unavailable) for kind in (Timeout, Throttled))
    assert not issubclass(Corrupt, Refused | Unavailable)
    kinds = [k for k in vars(errors).values() if isinstance(k, type)]
    assert all(issubclass(kind, TallybookError) for kind in kinds)
    assert len({kind.code for kind in kinds}) == len(kinds)


def test_an_error_carries_what_machines_need():
    error = Invalid("bad", code="too-large", field="body")
    assert (str(error), error.code, error.field) == ("bad", "too-large", "body")
    assert Invalid.code == "invalid"
    assert Unavailable("busy", retry_after_seconds=3).retry_after_seconds == 3


def test_values_do_not_change():
    event = UsageEvent(id="1", source="/s", type="t")
    for value, name in ((event, "id"), (Problem(code="c", message="m"), "code")):
        with pytest.raises(AttributeError):
            setattr(value, name, "x")
    assert msgspec.json.decode(msgspec.json.encode(event), type=UsageEvent) == event
