"""Every row of docs/algorithms/prices.md and proration.md is recomputed."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tallybook.adapters.memory.usage_reader import exact_sum
from tallybook.catalog.price import parse_price
from tallybook.kernel.decimals import divide, plain
from tallybook.kernel.money import money_text, to_minor
from tallybook.kernel.period import Period, parse_moment, zone
from tallybook.rate.charge import rate
from tallybook.rate.proration import rate_fee

PAGES = Path(__file__).resolve().parents[3] / "docs" / "algorithms"


def table(page: str, first: str) -> Iterator[list[str]]:
    """Yield the cells of each row of every table whose first column has this heading."""
    inside = False
    for line in (PAGES / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == first:
            inside = True
        elif inside and not cells[0].startswith("---"):
            yield cells


@pytest.mark.parametrize("row", list(table("prices.md", "price")), ids=str)
def test_prices(row: list[str]) -> None:
    price, quantity, amount = row
    rated = rate(parse_price(json.loads(price)), Decimal(quantity))
    assert rated.amount == Decimal(amount)
    assert exact_sum(Decimal(step.amount) for step in rated.steps) == Decimal(amount)


@pytest.mark.parametrize("row", list(table("proration.md", "amount")), ids=str)
def test_proration(row: list[str]) -> None:
    amount, proration, name, start, end, whole_start, whole_end, exact, rounded = row
    tz = zone(name)
    rated = rate_fee(
        Decimal(amount),
        proration,  # type: ignore[arg-type]
        Period(parse_moment(start, tz, "start"), parse_moment(end, tz, "end")),
        Period(parse_moment(whole_start, tz, "start"), parse_moment(whole_end, tz, "end")),
        tz,
    )
    assert plain(divide(rated.amount, Decimal(1))) == exact
    assert money_text(to_minor(rated.amount, "USD"), "USD") == rounded


def test_steps_speak() -> None:
    tiers = '[{"up_to":"10","unit_amount":"10","flat_amount":"2"},{"unit_amount":"5"}]'
    rated = rate(parse_price(f'{{"type":"graduated","tiers":{tiers}}}'), Decimal(17))
    assert [step.text for step in rated.steps] == [
        "tier 1, up to 10, flat: 2",
        "tier 1, up to 10: 10 × 10 = 100",
        "tier 2, over 10: 7 × 5 = 35",
    ]
    package = rate(
        parse_price('{"type":"package","package_size":"10","amount":"100"}'), Decimal(121)
    )
    assert [s.text for s in package.steps] == ["121 in packages of 10: 13 × 100 = 1300"]
    volume = rate(parse_price(f'{{"type":"volume","tiers":{tiers}}}'), Decimal(17))
    assert [s.text for s in volume.steps] == ["tier 2, all units, over 10: 17 × 5 = 85"]
    flat = rate(parse_price('{"type":"flat","amount":"9.90"}'), Decimal(5))
    assert [s.text for s in flat.steps] == ["fixed fee: 9.9"]
