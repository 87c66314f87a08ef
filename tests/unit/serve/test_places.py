"""Places of kept balances: what following may count on, whoever puts something meanwhile."""

import msgspec
import pytest

from tallybook.serve.api.checks import places as module
from tallybook.serve.api.checks.places import Place, Places
from tallybook.settle.access.flow import Wanted, terms_of, work_out
from tallybook.settle.access.kept import Kept
from tallybook.settle.ports import EntitlementFacts
from tests.support.billing_world import TENANT, World, at

CATALOG = """
[[meters]]
key = "calls"
event_type = "t"
aggregation = "COUNT"

[[customers]]
key = "acme"
currency = "USD"
subjects = ["r", "s", {subject = "q", end = "2026-01-02"}, {subject = "q", start = "2026-01-03"}]

[[customers]]
key = "bolt"
currency = "USD"
subjects = ["p"]

[[entitlements]]
customer = "acme"
feature = "f"
type = "metered"
meter = "calls"
period = "P1D"
start = 2026-01-01

[[entitlements]]
customer = "bolt"
feature = "f"
type = "metered"
meter = "calls"
period = "P1D"
start = 2026-01-01
"""
ACME, BOLT = (TENANT, "acme:f"), (TENANT, "bolt:f")
KIND = (TENANT, "t")


def balances() -> dict[tuple[str, str], Kept]:
    world = World()
    world.apply(CATALOG)
    catalog = world.billing.catalog.load(TENANT)
    made = {}
    for key, one in catalog.entitlements.items():
        terms = terms_of(catalog, one, EntitlementFacts())
        assert terms is not None
        (kept,) = work_out(world.usage, TENANT, [Wanted(terms=terms)], at("2026-01-10"), 0)
        assert kept is not None
        made[TENANT, key] = kept
    return made


KEPT = balances()


def place(key: tuple[str, str], cut: int) -> Place:
    return Place(msgspec.structs.replace(KEPT[key], cut=cut), 0, 0)


def test_what_was_put_in_a_round_as_of_an_older_snapshot_is_forgotten() -> None:
    places = Places(10)
    kept = place(ACME, 5)
    places.put(ACME, kept)
    assert places.begin() == (5, [KIND])
    missed, newer = place(BOLT, 6), place(ACME, 7)
    places.put(BOLT, missed)
    places.put(ACME, newer)
    places.publish(7)
    assert places.get(BOLT) == (None, 7)
    assert places.get(ACME) == (newer, 7)
    assert places.touched(KIND, ["p"], 8) == []


def test_what_was_there_before_a_round_is_as_good_as_before() -> None:
    places = Places(10)
    kept = place(ACME, 5)
    places.put(ACME, kept)
    places.begin()
    places.publish(7)
    assert places.get(ACME) == (kept, 7)
    places.put(BOLT, place(BOLT, 6))
    assert places.get(BOLT) == (None, 7), "following is past its snapshot"


def test_touched_are_those_that_do_not_count_it_yet_each_once() -> None:
    places = Places(10)
    acme, bolt = place(ACME, 5), place(BOLT, 6)
    places.put(ACME, acme)
    places.put(BOLT, bolt)
    assert places.touched(KIND, ["s", "r", "q", "p", "x"], 6) == [acme]
    assert places.touched(KIND, ["s", "p"], 7) == [acme, bolt]
    assert places.touched((TENANT, "u"), ["s"], 7) == []
    assert places.touched(("other", "t"), ["s"], 7) == []
    places.renew(acme, place(ACME, 7).kept)
    assert places.touched(KIND, ["s"], 7) == []


def test_an_older_balance_takes_no_newer_one_away() -> None:
    places = Places(10)
    places.put(BOLT, place(BOLT, 5))
    newer = place(ACME, 7)
    places.put(ACME, newer)
    places.put(ACME, place(ACME, 6))
    assert places.get(ACME) == (newer, 5)
    same = place(ACME, 7)
    places.put(ACME, same)
    assert places.get(ACME) == (same, 5)


def test_many_are_looked_up_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    places = Places(10)
    places.put(ACME, place(ACME, 5))
    places.put(BOLT, place(BOLT, 5))
    found = places.touched(KIND, ["a", "b", "p", "c", "s"], 6)
    assert [one.kept.terms.entitlement.key for one in found] == ["bolt:f", "acme:f"]


def test_the_one_asked_for_longest_ago_makes_room() -> None:
    places = Places(1)
    places.put(ACME, place(ACME, 5))
    places.put(BOLT, place(BOLT, 5))
    assert len(places) == 1
    assert places.get(ACME)[0] is None
    assert places.touched(KIND, ["s"], 9) == []
    two = Places(2)
    two.put(ACME, place(ACME, 5))
    two.put(BOLT, place(BOLT, 5))
    two.get(ACME)
    two.put((TENANT, "third"), place(BOLT, 5))
    assert two.get(ACME)[0] is not None
    assert two.get(BOLT)[0] is None


def test_nothing_replaces_a_balance_that_was_worked_out_meanwhile() -> None:
    places = Places(2)
    kept = place(ACME, 5)
    places.put(ACME, kept)
    before, newer, onward = kept.kept, place(ACME, 7).kept, place(ACME, 5).kept
    places.renew(kept, newer)
    places.replace(kept, before, onward)
    assert kept.kept is newer
    places.replace(kept, newer, onward)
    assert kept.kept is onward
