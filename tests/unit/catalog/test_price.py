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
    needs_sum,
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
        ('{"type":"graduated_percentage","tiers":[{"up_to":"5"},{"rate":"1"}]}', "price.tiers[0]"),
        ('{"type":"percentage","rate":"1","free_events":-1}', "price.free_events"),
        ('{"type":"percentage","rate":"1","event_min":"2","event_max":"1"}', "price.event_min"),
        ('{"type":"percentage","rate":"1","event_min":"2","free_units":"1"}', "price.free_units"),
        (('{"type":"percentage","rate":"1","fixed_amount":"2","unit_conversion":'
         '{"operation":"divide","factor":"10","rounding":"floor"}}'),
         "price.unit_conversion.rounding"),
        (('{"type":"percentage","rate":"1","fixed_amount":"2","free_amount":"1","unit_conversion":'
         '{"operation":"multiply","factor":"3"}}'), "price.free_amount"),
        ('{"type":"percentage","rate":"1","free_amount":"0.0000000000001"}', "price.free_amount"),
        ('{"type":"flat","amount":"1","free_units":"1"}', "price.free_units"),
        ('{"type":"unit","unit_amount":"1","discount_percent":"100.1"}', "price.discount_percent"),
        ('{"type":"unit","unit_amount":"1","minimum_amount":"2","maximum_amount":"1"}',
         "price.minimum_amount"),
        ('{"type":"unit","unit_amount":"1","unit_conversion":{"operation":"add","factor":"1"}}',
         "price.unit_conversion.operation"),
        ('{"type":"unit","unit_amount":"1","unit_conversion":{"operation":"divide","factor":"0"}}',
         "price.unit_conversion.factor"),
        (('{"type":"unit","unit_amount":"1","unit_conversion":'
         '{"operation":"divide","factor":"1","precision":13}}'), "price.unit_conversion.precision"),
        ('{"type":"unit","unit_amount":"1","pricing_unit":{"name":"C","conversion_rate":"0"}}',
         "price.pricing_unit.conversion_rate"),
        ('{"type":"unit","unit_amount":"1","pricing_unit":{"name":"a b","conversion_rate":"1"}}',
         "price.pricing_unit.name"),
        ('{"type":"matrix","dimensions":["a","a"],"cells":[]}', "price.dimensions"),
        ('{"type":"matrix","dimensions":["a"],"cells":[]}', "price.cells"),
        ('{"type":"matrix","dimensions":["a"],"cells":[{"match":{},"unit_amount":"1"}]}',
         "price.cells[0].match"),
        ('{"type":"matrix","dimensions":["a"],"cells":[{"match":{"b":"x"},"unit_amount":"1"}]}',
         "price.cells[0].match"),
        (('{"type":"matrix","dimensions":["a"],"cells":[{"match":{"a":"x"},"unit_amount":"1"},'
         '{"match":{"a":"x"},"unit_amount":"2"}]}'), "price.cells[1].match"),
        ('{"type":"dynamic","multiplier":"-1"}', "price.multiplier"),
        (('{"type":"graduated","tiers":[{"up_to":"5","unit_amount":"1"},'
         '{"up_to":"5","unit_amount":"1"},{"unit_amount":"1"}]}'), "price.tiers[1].up_to"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field(raw: str, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_price(raw)
    assert caught.value.field == field
    assert field.split("[", maxsplit=1)[0] in caught.value.message


def test_the_four_other_shapes_of_the_wire() -> None:
    """Zero means absent; a match is in the order of the dimensions."""
    shapes = [
        '{"discount_percent":"5","free_events":3,"rate":"1.3","type":"percentage"}',
        '{"tiers":[{"rate":"1","up_to":"10"},{"flat_amount":"2"}],"type":"graduated_percentage"}',
        (
            '{"cells":[{"match":{"a":null,"b":"x"},"unit_amount":"1"}],"default_unit_amount":"0",'
            '"dimensions":["b","a"],"type":"matrix"}'
        ),
        (
            '{"multiplier":"1.1","type":"dynamic","unit_conversion":'
            '{"factor":"100","operation":"divide","precision":2,"rounding":"floor"}}'
        ),
    ]
    assert [price_json(parse_price(shape)) for shape in shapes] == shapes
    zeros = '"free_amount":"0","fixed_amount":"0.00","minimum_amount":"0","free_events":0'
    price = parse_price(f'{{"type":"percentage","rate":"1","event_min":"0",{zeros}}}')
    assert price_json(price) == '{"event_min":"0","rate":"1","type":"percentage"}'
    bare = '"unit_conversion":{"operation":"divide","factor":"2","precision":3}'
    price = parse_price(f'{{"type":"unit","unit_amount":"1",{bare}}}')
    assert price_json(price).endswith('"unit_conversion":{"factor":"2","operation":"divide"}}')


AMOUNTS = st.decimals(min_value=0, max_value=10**9, allow_nan=False, places=6)


@given(st.lists(AMOUNTS, min_size=1, max_size=5), st.data())
def test_stored_and_read_again_is_the_same(amounts: list[Decimal], data: st.DataObject) -> None:
    tiers = [{"up_to": str(i + 1), "unit_amount": str(a)} for i, a in enumerate(amounts)]
    tiers[-1].pop("up_to")
    kind = data.draw(st.sampled_from(["graduated", "volume"]))
    price = parse_price({"type": kind, "tiers": tiers})
    assert parse_price(price_json(price)) == price


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ('{"type":"dynamic","multiplier":"1"}', "multiplies the sum"),
        ('{"type":"percentage","rate":"1","event_max":"1"}', "takes the amount of each event"),
        ('{"type":"percentage","rate":"1"}', ""),
        ('{"type":"unit","unit_amount":"1"}', ""),
    ],
)
def test_what_events_carry_is_summed(raw: str, reason: str) -> None:
    why = needs_sum(parse_price(raw))
    assert reason in why
    assert bool(reason) == bool(why)
