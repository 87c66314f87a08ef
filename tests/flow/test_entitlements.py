"""From events to "may it be used?": every kind of meter, filters, owners, past instants."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tallybook.catalog.entitlement import (
    Boolean,
    Entitlement,
    EntitlementSpec,
    Grant,
    check_entitlement,
)
from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Invalid, Missing
from tallybook.kernel.timestamps import DAY_US, format_us
from tallybook.settle.entitlement import HandReset
from tallybook.settle.flow import Question, balance_history, check
from tests.support.billing_world import TENANT, World

PAGE = Path(__file__).resolve().parents[2] / "docs" / "algorithms" / "entitlements.md"
CATALOG = """
[[meters]]
key = "m"
event_type = "t"
aggregation = "{aggregation}"
{value}
group_by = {{model = "$.model"}}

[[customers]]
key = "acme"
currency = "USD"
subjects = ["s"]

[[customers]]
key = "empty"
currency = "USD"
"""


def world(aggregation: str = "SUM") -> World:
    made = World()
    value = "" if aggregation == "COUNT" else 'value = "$.v"'
    made.apply(CATALOG.format(aggregation=aggregation, value=value))
    return made


def entitlement(**said: Any) -> Entitlement:
    spec = EntitlementSpec(
        **{
            "customer": "acme",
            "feature": "f",
            "type": "metered",
            "meter": "m",
            "period": "P1M",
            "start": "2026-01-01",
            "included": Decimal(10),
            **said,
        }
    )
    return check_entitlement(spec, "UTC")


START = entitlement().start_us


def day(number: str | int) -> int:
    return START + int(number) * DAY_US


def use(into: World, number: str | int, amount: str, subject: str = "s", model: str = "a") -> None:
    data = f'{{"v": {amount}, "model": "{model}"}}'
    into.event(format_us(day(number)), subject=subject, data=data)


def asked(of: World, entitled: Entitlement, **more: Any) -> Question:
    return Question(tenant=TENANT, entitlement=entitled, cut=of.usage.head(), **more)


def answer(of: World, question: Question, number: int, **more: Any) -> list[str]:
    found = check(of.usage, of.billing.catalog.load(TENANT), question, day(number), **more)
    return [plain(found.usage), plain(found.balance), "yes" if found.access else "no"]


def rows() -> list[list[str]]:
    text = PAGE.read_text(encoding="utf-8").split("| aggregation |")[1].split("\n\n")[0]
    lines = [line for line in text.splitlines()[2:] if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]


@pytest.mark.parametrize("row", rows(), ids=str)
def test_the_page(row: list[str]) -> None:
    aggregation, values, included, number, used, balance = row
    of = world(aggregation)
    for pair in values.split(", "):
        use(of, *pair.split(": "))
    question = asked(of, entitlement(included=Decimal(included)))
    assert answer(of, question, int(number))[:2] == [used, balance]


@pytest.mark.parametrize("aggregation", ["AVG", "MIN", "LATEST"])
def test_a_meter_that_may_fall_is_refused(aggregation: str) -> None:
    of = world(aggregation)
    with pytest.raises(Invalid, match="may fall"):
        answer(of, asked(of, entitlement()), 3)


def test_only_the_customers_usage_that_passes_the_filter_counts() -> None:
    of = world()
    use(of, 1, "3")
    use(of, 1, "4", model="b")
    use(of, 1, "5", subject="stranger")
    assert answer(of, asked(of, entitlement()), 2) == ["7", "3", "yes"]
    assert answer(of, asked(of, entitlement(filter={"model": ["b"]})), 2) == ["4", "6", "yes"]
    assert answer(of, asked(of, entitlement(customer="empty")), 2) == ["0", "10", "yes"]


def test_a_past_instant_is_answered_as_it_was() -> None:
    of = world()
    use(of, 1, "10")
    use(of, 40, "4")
    grant = Grant(key="g", amount=Decimal(5), effective_us=day(3), expires_us=day(9))
    question = asked(of, entitlement(), grants=(grant,))
    assert answer(of, question, 2) == ["10", "0", "no"]
    assert answer(of, question, 3) == ["10", "5", "yes"]
    assert answer(of, question, 9) == ["10", "0", "no"]
    assert answer(of, question, 45) == ["4", "6", "yes"]
    assert answer(of, question, 45, wanted=Decimal(7)) == ["4", "6", "no"]


def test_a_reset_by_hand_begins_anew() -> None:
    of = world("UNIQUE_COUNT")
    for number, user in enumerate(("1", "2", "2", "3"), 1):
        use(of, number, user)
    question = asked(of, entitlement(), by_hand=(HandReset(day(3)),))
    assert answer(of, question, 3) == ["0", "10", "yes"]
    assert answer(of, question, 5) == ["2", "8", "yes"]


def test_spans_do_not_count_a_distinct_value_twice() -> None:
    of = world("UNIQUE_COUNT")
    for number in range(1, 5):
        use(of, number, "7")
    grants = tuple(
        Grant(key=f"g{number}", amount=Decimal(1), effective_us=day(number)) for number in (2, 3, 4)
    )
    assert answer(of, asked(of, entitlement(), grants=grants), 6) == ["1", "12", "yes"]


def test_before_measuring_and_plain_kinds_nothing_is_read() -> None:
    of = world()
    late = entitlement(measure_from="2026-02-01")
    assert answer(of, asked(of, late), 3) == ["0", "0", "no"]
    plain_one = Entitlement(customer="x", feature="f", access=Boolean(), start_us=START)
    assert answer(of, asked(of, plain_one), 3)[2] == "yes"
    assert (
        balance_history(of.usage, of.billing.catalog.load(TENANT), asked(of, plain_one), ()) == []
    )


def test_at_the_start_of_measuring_everything_is_there() -> None:
    of = world()
    assert answer(of, asked(of, entitlement()), 0) == ["0", "10", "yes"]


def test_an_unknown_meter_or_customer_is_missing() -> None:
    of = world()
    for wrong in ({"meter": "other"}, {"customer": "other"}):
        with pytest.raises(Missing):
            answer(of, asked(of, entitlement(**wrong)), 3)


def test_history_by_days() -> None:
    of = world()
    use(of, 0, "1")
    use(of, 1, "4")
    use(of, 2, "9")
    catalog = of.billing.catalog.load(TENANT)
    windows = [day(-5), day(-1), *map(day, range(4))]
    found = balance_history(of.usage, catalog, asked(of, entitlement()), windows)
    assert [(w.start_us, w.balance, w.overage, w.usage) for w in found] == [
        (day(0), 10, 0, 1),
        (day(1), 9, 0, 4),
        (day(2), 5, 0, 9),
    ]
    assert balance_history(of.usage, catalog, asked(of, entitlement()), [day(-3), day(-1)]) == []
