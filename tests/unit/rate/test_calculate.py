"""The calculator answers what an invoice would say, or names the field at fault."""

import json
from typing import Any

import pytest

from tallybook.kernel.errors import Invalid
from tallybook.rate.calculate import EVENTS_MAX, PriceAnswer, calculate, parse_question

UNIT = {"type": "unit", "unit_amount": "0.333"}


def ask(**question: Any) -> PriceAnswer:
    return calculate(parse_question(json.dumps(question)))


def test_the_example_of_the_contract() -> None:
    package = {"type": "package", "package_size": "10", "amount": "100"}
    answer = ask(price=package, currency="USD", quantity="121")
    assert (answer.amount, answer.rounded) == ("1300", "1300.00")
    assert [step.text for step in answer.steps] == ["121 in packages of 10: 13 × 100 = 1300"]


def test_a_quantity_is_one_event() -> None:
    for price in (UNIT, {"type": "percentage", "rate": "10", "fixed_amount": "1"}):
        one = ask(price=price, currency="USD", events=[{"quantity": 7}])
        assert ask(price=price, currency="USD", quantity="7") == one


def test_rounding_and_currency() -> None:
    half = {"type": "unit", "unit_amount": "0.005"}
    assert ask(price=half, currency="USD", quantity=1).rounded == "0.01"
    assert ask(price=half, currency="USD", quantity=1, rounding="half_even").rounded == "0.00"
    assert ask(price=half, currency="KWD", quantity=1).rounded == "0.005"


def test_an_endless_quotient_is_shown_with_twelve_decimals() -> None:
    third = {"unit_conversion": {"operation": "divide", "factor": "3"}}
    answer = ask(price=UNIT | {"unit_amount": "1"} | third, currency="USD", quantity="10")
    assert (answer.amount, answer.rounded) == ("3.333333333333", "3.33")
    assert answer.steps[0].text == "10 ÷ 3 = 3.333333333333"


def test_every_stage_is_a_step() -> None:
    price = {
        "type": "graduated",
        "tiers": [{"up_to": "1", "unit_amount": "10"}, {"unit_amount": "5"}],
        "unit_conversion": {"operation": "divide", "factor": "1000", "rounding": "ceiling"},
        "free_units": "1",
        "discount_percent": "10",
        "maximum_amount": "20",
        "minimum_amount": "15",
        "pricing_unit": {"name": "CRD", "conversion_rate": "2"},
    }
    assert [step.text for step in ask(price=price, currency="USD", quantity="4200").steps] == [
        "4200 ÷ 1000 = 4.2, rounded up to 5",
        "1 of 1 free units used, 4 to pay",
        "tier 1, up to 1: 1 × 10 = 10 (CRD)",
        "tier 2, over 1: 3 × 5 = 15 (CRD)",
        "discount of 10 %: 25 × 10 % = 2.5 (CRD)",
        "maximum of 20: 22.5 is 2.5 over it (CRD)",
        "CRD at 2: 20 × 2 = 40",
    ]
    few = ask(price=price, currency="USD", quantity="1001")
    assert [step.text for step in few.steps][-3:] == [
        "discount of 10 %: 10 × 10 % = 1 (CRD)",
        "minimum of 15: 9 is 6 short of it (CRD)",
        "CRD at 2: 15 × 2 = 30",
    ]


def test_a_matrix_without_events() -> None:
    cells = [{"match": {"region": "eu"}, "unit_amount": "1"}]
    matrix = {"type": "matrix", "dimensions": ["region"], "cells": cells}
    answer = ask(price=matrix, currency="USD", events=[])
    assert (answer.amount, answer.steps[0].text) == ("0", "nothing was used")


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ({"price": {"type": "unit"}, "quantity": 1}, "price.unit_amount"),
        ({"price": UNIT}, "quantity"),
        ({"price": UNIT, "quantity": "1", "events": []}, "quantity"),
        ({"price": UNIT, "quantity": "1e20"}, "quantity"),
        ({"price": UNIT, "quantity": "NaN"}, "quantity"),
        ({"price": UNIT, "quantity": "0.0000000000001"}, "quantity"),
        ({"price": UNIT, "quantity": "x"}, "quantity"),
        ({"price": UNIT, "events": [{"quantity": 1}, {"quantity": "-1e21"}]}, "events[1].quantity"),
        ({"price": UNIT, "events": [{"quantity": 1, "region": "eu"}]}, "events[0].region"),
        ({"price": UNIT, "events": [{"quantity": 1}] * (EVENTS_MAX + 1)}, "events"),
        ({"price": UNIT, "quantity": 1, "currency": "XYZ"}, "currency"),
        ({"price": UNIT, "quantity": 1, "rounding": "up"}, "rounding"),
        ({"quantity": 1}, "price"),
    ],
)
def test_a_refusal_names_the_field(question: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        ask(**({"currency": "USD"} | question))
    assert caught.value.field == field


def test_as_many_events_as_are_allowed() -> None:
    many = [{"quantity": "0.0003"}] * EVENTS_MAX
    assert ask(price=UNIT, currency="USD", events=many).amount == "0.999"


def test_what_is_no_question_is_refused() -> None:
    for body, field in (("[]", "body"), ("{", "body")):
        with pytest.raises(Invalid) as caught:
            parse_question(body)
        assert caught.value.field == field
