"""What a written meter means, what it is refused for, and which columns it reads."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tallybook.catalog.catalog import Catalog, with_entries
from tallybook.catalog.meter import GROUPS_MAX, Meter, MeterSpec, check_meter, meter_spec
from tallybook.catalog.price import (
    DynamicPrice,
    PercentagePrice,
    PricingUnit,
    UnitConversion,
    UnitPrice,
    check_price,
    needs_sum,
    price_dimensions,
)
from tallybook.catalog.rule import CustomerRule, check_rule, follow
from tallybook.kernel.errors import Invalid, Missing
from tallybook.kernel.timestamps import format_us


def meter(**more: Any) -> Meter:
    spec = {"key": "m", "event_type": "t", "aggregation": "sum", "value": "$.bytes", **more}
    return check_meter(msgspec.convert(spec, MeterSpec))


FULL = {
    "group_by": {"region": "$.region", "zone": "$.a.zone"},
    "filter": {"$.status": ["500", "200", "200"]},
    "unit": "B",
    "name": "Bytes",
    "description": "as sent",
}


def test_a_meter_is_written_again_as_it_is() -> None:
    for made in (meter(), meter(**FULL), meter(aggregation="COUNT", value=None)):
        assert check_meter(meter_spec(made)) == made
        assert made.same_definition(msgspec.structs.replace(made, name="other"))
        assert not made.same_definition(msgspec.structs.replace(made, event_type="u"))


def test_a_meter_reads_the_columns_of_its_paths() -> None:
    assert meter(aggregation="COUNT", value=None).columns() == {}
    number, text = meter(), meter(aggregation="UNIQUE_COUNT")
    assert number.value_column() != text.value_column()
    assert len(meter(**FULL).columns()) == 4
    assert {str(path) for path in meter(**FULL).columns().values()} == {
        "$.region", "$.a.zone", "$.status", "$.bytes",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "message", "field"),
    [
        ({"key": "a b"}, "use letters", "key"),
        ({"event_type": ""}, "CloudEvents type", "event_type"),
        ({"event_type": "x" * 1025}, "CloudEvents type", "event_type"),
        ({"group_by": {f"d{n}": "$.d" for n in range(GROUPS_MAX + 1)}}, "at most 16", "group_by"),
        ({"aggregation": "MEDIAN"}, "is not one of COUNT", "aggregation"),
        ({"aggregation": "COUNT"}, "has no value", "value"),
        ({"value": None}, "a SUM meter needs value", "value"),
        ({"filter": {"$.a": []}}, "at least one", "filter"),
    ],
)
def test_a_meter_is_refused_with_its_field(more: dict[str, Any], message: str, field: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        meter(**more)
    assert caught.value.field == field


def test_a_version_or_customer_that_is_not_there_is_named() -> None:
    catalog = with_entries(Catalog(), [meter(), msgspec.structs.replace(meter(), version=2)])
    assert catalog.meter("m").version == 2
    assert catalog.meter("m", 1).version == 1
    with pytest.raises(Missing, match="no meter 'm' version 3"):
        catalog.meter("m", 3)
    with pytest.raises(Missing, match="no customer 'c'"):
        catalog.payer("c")


def test_a_rule_names_the_subject_a_type_and_a_start() -> None:
    rule = CustomerRule(key="r", event_type="t", plan="p", currency="USD", start="2026-05-01")
    _, subscription = follow(rule, "s", 0)
    assert format_us(subscription.start_us) == "2026-05-01T00:00:00Z"
    assert check_rule(rule) == rule
    with pytest.raises(Invalid, match="CloudEvents type"):
        check_rule(msgspec.structs.replace(rule, event_type=""))


def test_a_price_in_a_unit_of_its_own_names_it() -> None:
    unit = PricingUnit(name="my credits", conversion_rate=Decimal(1))
    with pytest.raises(Invalid, match="letters or digits"):
        check_price(UnitPrice(unit_amount=Decimal(1), pricing_unit=unit))
    unit = PricingUnit(name="credits", conversion_rate=Decimal(2))
    named = UnitPrice(unit_amount=Decimal(1), pricing_unit=unit)
    assert check_price(named) == named


def test_a_free_amount_is_exact_in_the_meters_unit() -> None:
    third = UnitConversion(operation="multiply", factor=Decimal(3), rounding="none")
    split = PercentagePrice(
        rate=Decimal(1), free_amount=Decimal(1), free_events=1, unit_conversion=third
    )
    with pytest.raises(Invalid, match="more than 12 digits"):
        check_price(split)


def test_only_prices_of_amounts_need_a_sum() -> None:
    assert needs_sum(UnitPrice(unit_amount=Decimal(1))) == ""
    assert needs_sum(PercentagePrice(rate=Decimal(1))) == ""
    assert "multiplies" in needs_sum(DynamicPrice(multiplier=Decimal(1)))
    assert "of each event" in needs_sum(PercentagePrice(rate=Decimal(1), fixed_amount=Decimal(1)))
    assert price_dimensions(UnitPrice(unit_amount=Decimal(1))) == ()
