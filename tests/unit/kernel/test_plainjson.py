"""Decimals in JSON are plain, and nothing else is touched."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.kernel.decimals import encode_plain


class Thing(msgspec.Struct):
    """Something with decimals inside."""

    name: str
    amounts: tuple[Decimal, ...]


def test_small_amounts_have_no_exponent() -> None:
    """A name that looks like a number stays."""
    thing = Thing("4E-9", (Decimal("0.000000004"), Decimal("1E+3"), Decimal("1.50")))
    assert encode_plain(thing) == b'{"name":"4E-9","amounts":["0.000000004","1000","1.50"]}'


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False)))
def test_values_survive(amounts: list[Decimal]) -> None:
    """What is decoded equals what was encoded, and no exponent is left."""
    body = encode_plain(amounts)
    assert b"E" not in body
    assert msgspec.json.decode(body, type=list[Decimal]) == amounts


@pytest.mark.parametrize("text", ["E", "1E", "1E5", "SE-7", "E+", "2E-5 is a name"])
def test_what_only_looks_like_an_exponent_stays_as_it_is(text: str) -> None:
    assert encode_plain([text, Decimal("0.5")]) == f'["{text}","0.5"]'.encode()


def test_json_longer_than_most_is_whole() -> None:
    long = ["x" * 1000] * 40 + [str(Decimal("4E-9"))]
    assert encode_plain([*long, Decimal("4E-9")]) == msgspec.json.encode([*long, "0.000000004"])
