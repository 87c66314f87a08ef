"""A price is checked once, where it is made, and says which field is wrong."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.catalog.price import (
    GraduatedPrice,
    PackagePrice,
    Tier,
    UnitPrice,
    VolumePrice,
    parse_price,
    price_json,
)
from tallybook.kernel.errors import Invalid


def test_the_five_shapes_of_the_wire() -> None:
    assert parse_price('{"type":"unit","unit_amount":"0.00040"}') == UnitPrice(Decimal("0.0004"))
    tiers = '[{"up_to":"10","unit_amount":"10","flat_amount":"2"},{"up_to":null,"unit_amount":5}]'
    ten = Tier(up_to=Decimal(10), unit_amount=Decimal(10), flat_amount=Decimal(2))
    rest = Tier(unit_amount=Decimal(5))
    assert parse_price(f'{{"type":"graduated","tiers":{tiers}}}') == GraduatedPrice((ten, rest))
    assert parse_price(f'{{"type":"volume","tiers":{tiers}}}') == VolumePrice((ten, rest))
    package = parse_price({"type": "package", "package_size": "10", "amount": "100"})
    assert package == PackagePrice(Decimal(10), Decimal(100))
    assert price_json(parse_price('{"type":"flat","amount":100.0}')) == (
        '{"amount":"100","type":"flat"}'
    )


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ('{"type":"lump","amount":"1"}', "price.type"),
        ('{"type":"unit"}', "price.unit_amount"),
        ('{"type":"unit","unit_amount":"1","extra":1}', "price.extra"),
        ("[]", "price"),
        ("nonsense", "price"),
        ('{"type":"unit","unit_amount":"-1"}', "price.unit_amount"),
        ('{"type":"unit","unit_amount":"NaN"}', "price.unit_amount"),
        ('{"type":"unit","unit_amount":"0.0000000000000000001"}', "price.unit_amount"),
        ('{"type":"flat","amount":"1e20"}', "price.amount"),
        ('{"type":"package","package_size":"0","amount":"1"}', "price.package_size"),
        ('{"type":"volume","tiers":[]}', "price.tiers"),
        ('{"type":"volume","tiers":[{"up_to":"5"},{"unit_amount":"1"}]}', "price.tiers[0]"),
        ('{"type":"volume","tiers":[{"up_to":"5","unit_amount":"1"}]}', "price.tiers[0].up_to"),
        ('{"type":"volume","tiers":[{"up_to":"0","unit_amount":"1"},{"unit_amount":"1"}]}',
         "price.tiers[0].up_to"),
        ('{"type":"graduated","tiers":[{"unit_amount":"1"},{"unit_amount":"1"}]}',
         "price.tiers[0].up_to"),
        (('{"type":"graduated","tiers":[{"up_to":"5","unit_amount":"1"},'
         '{"up_to":"5","unit_amount":"1"},{"unit_amount":"1"}]}'), "price.tiers[1].up_to"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field(raw: str, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_price(raw)
    assert caught.value.field == field
    assert field.split("[", maxsplit=1)[0] in caught.value.message


AMOUNTS = st.decimals(min_value=0, max_value=10**9, allow_nan=False, places=6)


@given(st.lists(AMOUNTS, min_size=1, max_size=5), st.data())
def test_stored_and_read_again_is_the_same(amounts: list[Decimal], data: st.DataObject) -> None:
    tiers = [{"up_to": str(i + 1), "unit_amount": str(a)} for i, a in enumerate(amounts)]
    tiers[-1].pop("up_to")
    kind = data.draw(st.sampled_from(["graduated", "volume"]))
    price = parse_price({"type": kind, "tiers": tiers})
    assert parse_price(price_json(price)) == price
