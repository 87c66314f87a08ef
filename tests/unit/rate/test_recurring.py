"""Every row of docs/algorithms/recurring.md is recomputed; and what the page says besides."""

import json
from decimal import Decimal

import pytest

from tallybook.adapters.memory.usage_reader import exact_sum
from tests.support.recurring import Carried
from tests.unit.rate.test_pages import table

RELEASES = {"op": ("remove",)}


def charge(aggregation: str, proration: str, price: str, events: str) -> Carried:
    """Return the charge of a row in June."""
    found = Carried(
        aggregation=aggregation, proration=proration, price=json.loads(price),
        start="2026-06-01", end="2026-07-01",
        releases=RELEASES if aggregation == "UNIQUE_COUNT" else {},
    )  # fmt: skip
    for event in events.split(", "):
        when, _, value = event.partition(": ")
        if aggregation != "UNIQUE_COUNT":
            found.add(when, Decimal(value or "1"))
        elif value.startswith("-"):
            found.add(when, value[1:], op="remove")
        else:
            found.add(when, value, op="add")
    return found


@pytest.mark.parametrize("row", list(table("recurring.md", "aggregation", "proration")), ids=str)
def test_rows(row: list[str]) -> None:
    *terms, quantity, amount = row
    found = charge(*terms)
    facts = found.facts()
    rated = found.rated()
    assert (facts[()].value if facts else Decimal(0)) == Decimal(quantity)
    assert round(rated.amount, 12) == Decimal(amount)
    steps = exact_sum(Decimal(step.amount) for step in rated.steps)
    assert abs(steps - rated.amount) < Decimal("1e-11")
