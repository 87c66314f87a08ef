"""Every row of the pages about prices and proration in docs/algorithms is recomputed."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tallybook.adapters.memory.usage_reader import exact_sum
from tallybook.catalog.price import parse_price
from tallybook.kernel.decimals import divide, plain
from tallybook.kernel.money import money_text, to_minor
from tallybook.kernel.period import Period, parse_moment, zone
from tallybook.meter.each import Bands, EachEvent, count_each
from tallybook.rate.charge import rate
from tallybook.rate.fee import rate_fee
from tallybook.rate.metered import PricedEvent, metered_events
from tallybook.rate.proration import Portion
from tallybook.rate.step import Rated

PAGES = Path(__file__).resolve().parents[3] / "docs" / "algorithms"


def table(page: str, first: str, second: str = "") -> Iterator[list[str]]:
    """Yield the cells of each row of every table whose first columns have these headings."""
    inside = False
    for line in (PAGES / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().strip("`") for cell in line[1:-1].split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == first and second in {"", cells[1]}:
            inside = True
        elif inside and not cells[0].startswith("---"):
            yield cells


QUANTITIES = [
    row
    for page in ("prices.md", "modifiers.md", "percentages.md")
    for row in table(page, "price", "quantity")
    if len(row) == 3
]


@pytest.mark.parametrize("row", QUANTITIES, ids=str)
def test_quantities(row: list[str]) -> None:
    price, quantity, amount = row
    assert_costs(rate(parse_price(json.loads(price)), Decimal(quantity)), amount)


def assert_costs(rated: Rated, amount: str) -> None:
    """The amount, and that the steps in the currency add up to it."""
    assert rated.amount == Decimal(amount)
    steps = [Decimal(step.amount) for step in rated.steps if step.unit is None]
    assert exact_sum(steps) == Decimal(amount)


PORTIONS = [row for row in table("modifiers.md", "price", "quantity") if len(row) == 4]


@pytest.mark.parametrize("row", PORTIONS, ids=str)
def test_portions(row: list[str]) -> None:
    price, quantity, part, amount = row
    portion = None
    if part != "not over":
        taken, full = part.split(" of ")
        portion = Portion(int(taken), int(full), "days")
    rated = rate(parse_price(json.loads(price)), Decimal(quantity), portion)
    assert_costs(rated, amount)


def numbers(text: str) -> list[Decimal]:
    """Return the numbers of a cell."""
    return [Decimal(number) for number in text.replace(",", " ").split()]


@pytest.mark.parametrize("row", list(table("percentages.md", "price", "events")), ids=str)
def test_single_events(row: list[str]) -> None:
    price, events, amount = row
    parsed = parse_price(json.loads(price))
    priced = [PricedEvent(quantity=number) for number in numbers(events)]
    assert_costs(rate(parsed, metered_events(parsed, priced)), amount)


@pytest.mark.parametrize("row", list(table("percentages.md", "events")), ids=str)
def test_bands(row: list[str]) -> None:
    events, free_events, free_amount, low, high, *counts, charged = row
    terms = EachEvent(
        free_events=int(free_events) if free_events else None,
        free_amount=Decimal(free_amount) if free_amount else None,
        low=Decimal(low) if low else None,
        high=Decimal(high) if high else None,
    )
    free, lower, middle, higher = (int(count) for count in counts)
    assert count_each(terms, numbers(events)) == Bands(
        free=free, low=lower, middle=middle, high=higher, charged=Decimal(charged)
    )


def matrices() -> dict[str, str]:
    """Return the prices of the matrix page by the letter they have there."""
    text = (PAGES / "matrix.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^Price \*(\w)\*[^{]*`({.*})`$", text, re.MULTILINE))


def dimensioned(text: str) -> PricedEvent:
    """Return an event written as '10 region=eu tier=gold'."""
    quantity, *pairs = text.split()
    return PricedEvent(
        quantity=Decimal(quantity), dimensions=dict(pair.split("=") for pair in pairs)
    )


@pytest.mark.parametrize(
    ("name", "row"),
    [(name, row) for name in "MF" for row in table("matrix.md", f"events of {name}")],
    ids=str,
)
def test_matrix(name: str, row: list[str]) -> None:
    events, amount = row
    price = parse_price(matrices()[name])
    priced = [dimensioned(text) for text in events.split(",")]
    for order in (priced, priced[::-1]):
        assert_costs(rate(price, metered_events(price, order)), amount)


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


def units_of(text: str) -> list[tuple[int, Decimal]]:
    """Return how many units there are from when on."""
    pairs = (one.rsplit(": ", 1) for one in text.split(", "))
    return [(parse_moment(when, zone("UTC"), "at"), Decimal(many)) for when, many in pairs]


@pytest.mark.parametrize("row", list(table("proration.md", "fee")), ids=str)
def test_units(row: list[str]) -> None:
    fee, timing, proration, units, exact, quantity, steps = row
    tz = zone("UTC")
    may = Period(*(parse_moment(text, tz, "at") for text in ("2026-05-01", "2026-06-01")))
    rated = rate_fee(
        Decimal(fee), proration, may, may, tz, units_of(units), timing  # type: ignore[arg-type]
    )  # fmt: skip
    assert (rated.amount, rated.quantity) == (Decimal(exact), Decimal(quantity))
    assert [step.text for step in rated.steps] == steps.split("`, `")
    assert exact_sum(Decimal(step.amount) for step in rated.steps) == Decimal(exact)


def tiered_units() -> dict[str, str]:
    steps = '"tiers":[{"up_to":"5","unit_amount":"31"},{"up_to":"10","unit_amount":'
    return {
        "G": f'{{"type":"graduated",{steps}"15.5"}},{{"unit_amount":"6.2"}}]}}',
        "V": f'{{"type":"volume",{steps}"21.7"}},{{"unit_amount":"15.5"}}]}}',
        "P": '{"type":"package","package_size":"5","amount":"62"}',
        "U": '{"type":"unit","unit_amount":"31"}',
    }


@pytest.mark.parametrize("row", list(table("proration.md", "price")), ids=str)
def test_units_by_tiers(row: list[str]) -> None:
    name, timing, proration, units, exact, quantity, steps = row
    tz = zone("UTC")
    may = Period(*(parse_moment(text, tz, "at") for text in ("2026-05-01", "2026-06-01")))
    price = parse_price(tiered_units()[name])
    rated = rate_fee(price, proration, may, may, tz, units_of(units), timing)  # type: ignore[arg-type]
    assert (rated.amount, rated.quantity) == (Decimal(exact), Decimal(quantity))
    assert [step.text for step in rated.steps] == steps.split("`, `")
    assert exact_sum(Decimal(step.amount) for step in rated.steps) == Decimal(exact)


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
