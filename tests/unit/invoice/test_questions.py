"""Items of many customers are asked together, and each finds its own answer."""

from decimal import Decimal

import msgspec
import pytest

from tallybook.catalog.customer import Customer, SubjectSpan
from tallybook.invoice import questions
from tallybook.invoice.manifest import Item, Position
from tallybook.invoice.questions import Asked, ask, item_query, owner_of
from tallybook.kernel.errors import Corrupt
from tests.support.recurring import Carried


def customer(key: str, *subjects: str) -> Customer:
    spans = tuple(SubjectSpan(subject) for subject in subjects)
    return Customer(key=key, name=key, currency="USD", subjects=spans)


PAYER, CHILD, OTHER = customer("payer", "p"), customer("child", "c1", "c2"), customer("other", "o")


def world() -> Carried:
    """Return a charge with events of four subjects."""
    made = Carried(proration="none")
    for number, subject in enumerate(["p", "c1", "c2", "o", "nobody"]):
        made.event("2026-05-10", f'{{"v":{10**number}}}', subject)
    return made


def item(made: Carried, subscription: str, owner: str) -> Item:
    position = msgspec.structs.replace(made.item().position, subscription=subscription)
    return msgspec.structs.replace(made.item(), position=position, customer=owner)


def values(made: Carried, *asked: Asked) -> dict[str, dict[str, Decimal]]:
    """Return the value of each payer's subscriptions."""
    found = ask(made.reader(), "default", asked, made.catalog(), 1 << 60)
    return {
        payer: {at.subscription: facts[()].value for at, facts in by_position.items() if facts}
        for payer, by_position in found.items()
    }


@pytest.mark.parametrize("owners_max", [1, 2, 20_000])
def test_a_payer_finds_the_usage_of_its_members(
    owners_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "OWNERS_MAX", owners_max)
    made = world()
    both = Asked(PAYER, (item(made, "a", ""), item(made, "b", "child")), (CHILD,))
    alone = Asked(OTHER, (item(made, "c", "other"), item(made, "d", "")))
    assert values(made, both, alone) == {
        "payer": {"a": 1, "b": 110},
        "other": {"c": 1000, "d": 1000},
    }


def test_an_item_of_a_stranger_is_corrupt() -> None:
    made = world()
    assert owner_of(item(made, "b", "child"), PAYER, (OTHER, CHILD)) == CHILD
    with pytest.raises(Corrupt, match="an item of customer child is not of a member of payer"):
        owner_of(item(made, "b", "child"), PAYER, (OTHER,))


def test_what_ended_before_it_began_asks_nothing() -> None:
    made = world()
    start_us = made.item().position.start_us
    empty = msgspec.structs.replace(item(made, "a", ""), until_us=start_us)
    fee = msgspec.structs.replace(empty, position=Position("a", "fee", start_us), meter=None)
    found = ask(made.reader(), "default", [Asked(PAYER, (empty, fee))], made.catalog(), 1 << 60)
    assert found == {"payer": {empty.position: {}}}


def test_a_line_is_explained_by_the_events_of_its_period() -> None:
    made = world()
    query = item_query("default", made.item(), made.catalog(), 7, PAYER)
    assert (query.bounds, query.level, query.cut) == (
        (made.at("2026-05-01"), made.at("2026-06-01")),
        None,
        7,
    )
    assert [owned.subject for owned in query.owners or ()] == ["p"]


REGIONS = {"type": "matrix", "dimensions": ["region"], "default_unit_amount": "1",
           "cells": [{"match": {"region": "eu"}, "unit_amount": "10"}]}  # fmt: skip


def regional(proration: str, **own: object) -> Carried:
    """Return seats of two regions: 2 in eu from before, 3 in us from the 17th of 31 days."""
    made = Carried(proration=proration, **own)  # type: ignore[arg-type]
    made.add("2026-04-10", 2, region="eu")
    made.add("2026-05-17", 3, region="us")
    made.add("2026-04-10", 5, region="gone")
    made.add("2026-04-11", -5, region="gone")
    return made


def test_the_levels_of_a_matrix_price() -> None:
    by_day = regional("day", price=REGIONS)
    assert round(by_day.rated().amount, 12) == 20 + divided(3 * 15)
    assert regional("none", price=REGIONS).rated().amount == 23
    assert by_day.facts()[()].events == 1
    assert dict(by_day.facts()[()].cells) == {
        ("eu",): 2, ("gone",): 0, ("us",): Decimal("1.451612903226"),
    }  # fmt: skip


def test_each_value_has_a_level_of_its_own() -> None:
    split = regional("day", split_by=("region",))
    assert {group: fact.events for group, fact in split.facts().items()} == {
        ("eu",): 0, ("us",): 1,
    }  # fmt: skip
    assert split.rated(group=("eu",)).amount == 2
    assert split.rated(group=("gone",)).amount == 0


def test_a_digest_is_of_the_events_of_the_period() -> None:
    made = regional("second")
    (fact,) = made.facts().values()
    assert (fact.events, fact.digest) == (1, made.events[1].row_hash)


def test_up_to_an_instant_within_the_period() -> None:
    made = regional("day")
    assert made.facts(until="2026-05-17")[()].value == divided(2 * 16)
    assert made.facts(until="2026-05-19T12:00:00Z")[()].value == divided(2 * 18 + 3 * 2)
    assert made.facts(until="2026-05-01T12:00:00Z")[()].value == 0
    assert regional("none").facts(until="2026-05-16")[()].value == 2


def divided(days: int) -> Decimal:
    return round(Decimal(days) / 31, 12)
