"""What weighs on which wallet, and questions that are asked in parts."""

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from tallybook.catalog.entitlement import Recharge, TopUp, Wallet
from tallybook.invoice.document import Invoice
from tallybook.invoice.funds import WalletUsed
from tallybook.kernel.timestamps import DAY_US
from tallybook.settle.access import flow
from tallybook.settle.access.flow import Wanted, terms_of, work_out
from tallybook.settle.ports import EntitlementFacts
from tallybook.settle.prepaid.flow import made
from tallybook.settle.prepaid.watch import look, unbilled
from tallybook.settle.purse import Purse
from tallybook.settle.request import Request, RequestState, may_ask, on_its_way
from tests.flow.test_kept_balances import ALL, Keeper
from tests.support.billing_world import TENANT
from tests.support.sample_invoice import sample_invoice

DUE: Invoice = replace(sample_invoice(), currency="USD", payable_minor=700, prepaid=())


def purse(key: str, **said: Any) -> Purse:
    """Return an empty wallet."""
    return Purse(wallet=Wallet(**{"key": key, "customer": "c", "currency": "USD", **said}))


def test_what_no_wallet_can_pay_weighs_on_the_last_that_pays_everything() -> None:
    wallets = [purse("a", unit="CRD", rate=Decimal(2)), purse("b", only=("usage",))]
    used = WalletUsed(wallet="b", units="3", unit="", amount="3.00", amount_minor=300)
    found = unbilled(wallets, replace(DUE, prepaid=(used,)))
    assert found == {"a": Decimal("3.5"), "b": 3}


def test_where_each_is_limited_it_weighs_on_the_very_last() -> None:
    wallets = [purse("a", only=("fee",), priority=2), purse("b", only=("usage",))]
    assert unbilled(wallets, DUE) == {"a": 7, "b": 0}


def test_other_currencies_and_nothing_to_bill_weigh_on_none() -> None:
    assert unbilled([purse("a", currency="EUR")], DUE) == {}
    assert unbilled([purse("a")], None) == {}


def test_a_top_up_of_nothing_is_not_made() -> None:
    rule = Recharge(at=Decimal(5), add=Decimal(1), most=Decimal(0))
    seen = look(purse("a", recharge=rule), Decimal(0), 1, 9)
    assert seen.recharge is None
    assert (seen.watch.ongoing, seen.watch.recharges) == (0, 0)


def test_a_wallet_without_a_rule_is_not_topped_up() -> None:
    assert look(purse("a"), Decimal(100), 1, 9).recharge is None


def asked(key: str, state: RequestState, at_us: int = 0, **said: Any) -> Request:
    """Return a request of a cent."""
    settled_us = None if state == "requested" else at_us
    return Request(
        wallet="a",
        customer="c",
        key=key,
        amount=Decimal("0.01"),
        cost_minor=1,
        asked_us=at_us,
        state=state,
        settled_us=settled_us,
        **said,
    )


def test_what_is_on_its_way_counts_unless_it_is_there_or_came_to_nothing() -> None:
    states: list[RequestState] = ["requested", "requested", "paid", "failed"]
    assert on_its_way(asked(str(n), state) for n, state in enumerate(states)) == Decimal("0.02")
    assert on_its_way([asked("a", "requested", trusted=True)]) == 0


@pytest.mark.parametrize(
    ("failed_us", "topped_up_us", "now_us", "may"),
    [
        (9, 0, 9, False),
        (9, 9, 9, True),
        (9, 8, 9, False),
        (9, 0, DAY_US + 8, False),
        (9, 0, DAY_US + 9, True),
    ],
)
def test_a_failed_one_lets_the_rule_rest(
    failed_us: int, topped_up_us: int, now_us: int, may: bool
) -> None:
    some = [asked("a", "failed", failed_us), asked("b", "failed", 1), asked("c", "paid", 2)]
    assert may_ask(some, topped_up_us, now_us) == may


@pytest.mark.parametrize(("before", "recharged"), [(23, True), (24, False)])
def test_a_day_has_so_many_recharges(before: int, recharged: bool) -> None:
    rule = Recharge(at=Decimal(50), add=Decimal(1))
    kept = purse("a", recharge=rule)
    asked_before = tuple(asked(f"k{n}", "paid") for n in range(before))
    by_hand = made(kept.wallet, TopUp(key="h", amount=Decimal("0.01"), at_us=0), 0)
    kept = replace(kept, requests=asked_before, top_ups=(by_hand,))
    assert (look(kept, Decimal(0), 1, DAY_US - 1).recharge is not None) == recharged
    assert look(kept, Decimal(0), 1, DAY_US).recharge is not None, "a day later it may again"


@pytest.mark.parametrize("most", [1, 3, 5_000])
def test_questions_in_parts_have_the_same_answers(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    keeper = Keeper()
    keeper.now += 5 * 3_600_000_000
    for subject in ("s", "r", "q"):
        keeper.of.event("2026-01-01T04:00:00Z", subject=subject, data='{"v": 3, "model": "a"}')
    keeper.follow()
    monkeypatch.setattr(flow, "OWNERS_MAX", most)
    terms = [terms_of(keeper.catalog, one, EntitlementFacts()) for one in ALL]
    wanted = [Wanted(terms=one) for one in terms if one is not None]
    found = work_out(keeper.of.usage, TENANT, wanted, keeper.now, keeper.cut)
    assert found == [keeper.kept.get(one.key) for one in ALL]


def test_who_owns_nothing_uses_nothing() -> None:
    keeper = Keeper()
    terms = terms_of(keeper.catalog, ALL[0], EntitlementFacts())
    assert terms is not None
    bare = replace(terms, owners=())
    (kept,) = work_out(keeper.of.usage, TENANT, [Wanted(terms=bare)], keeper.now + 1, 0)
    assert kept is not None
    assert kept.state.usage == 0
