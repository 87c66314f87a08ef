"""Wallets that are watched: told when they are low, topped up by their rule, once a crossing."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from tallybook.catalog.flow import put
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill
from tallybook.serve.worker.prepaid import WalletKeeper
from tallybook.settle.prepaid.watching import Watching, look_at
from tallybook.settle.receivable.audit import audit
from tallybook.settle.request import RECHARGES_DAY_MAX
from tests.flow.test_wallet_routes import CATALOG, prepaid
from tests.support.api import Api

RULE = {"at": "10", "add": "50", "trust": True}
WALLET = {
    "key": "w",
    "customer": "acme",
    "currency": "USD",
    "recharge": RULE,
    "thresholds": ["20", "10"],
}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path) as made:
        made.apply(CATALOG)
        made.post("/wallets", WALLET)
        made.post("/wallets/w/top-ups", {"amount": "100", "key": "a"})
        yield made


def facts(api: Api, kind: str) -> list[Any]:
    """Return the bodies of what was told."""
    query = text("SELECT body FROM outbox WHERE kind = :kind ORDER BY at_us, id")
    with api.world.engine.connect() as connection:
        rows = connection.execute(query, {"kind": kind})
        return [json.loads(row[0]) for row in rows]


def recharges(api: Api) -> list[tuple[str, str]]:
    """Return key and amount of the top-ups that the rule made."""
    found = api.get("/wallets/w/top-ups")["items"]
    return [(one["key"], one["amount"]) for one in found if one["reason"] == "recharge"]


def use(api: Api, amount: int) -> None:
    """Use something; one costs 2."""
    api.event("2026-01-09", f'{{"v": {amount}}}')


def test_thresholds_are_told_once_and_the_rule_tops_up(api: Api) -> None:
    keeper = WalletKeeper()
    assert keeper.round(api.world) == 0
    use(api, 42)
    assert keeper.round(api.world) == 1
    assert [one["threshold"] for one in facts(api, "wallet.low")] == ["20"]
    assert recharges(api) == []
    use(api, 3)
    assert keeper.round(api.world) == 1
    told = {one["threshold"]: one["ongoing_balance"] for one in facts(api, "wallet.low")}
    assert told == {"20": "16", "10": "10"}
    assert recharges(api) == [("recharge-1", "50")]
    reasons = {one["reason"] for one in facts(api, "wallet.topped_up")}
    assert reasons == {"hand", "recharge"}
    for _ in range(3):
        assert keeper.round(api.world) == 0
    assert prepaid(api) == 15000


def test_it_falls_and_rises_and_falls_again(api: Api) -> None:
    keeper = WalletKeeper()
    use(api, 45)
    keeper.round(api.world)
    bill(api.world.billing("default"), BillRequest(until_us=api.clock.now))
    assert keeper.round(api.world) == 0
    use(api, 20)
    assert keeper.round(api.world) == 1
    told = [one["threshold"] for one in facts(api, "wallet.low")]
    assert sorted(told) == ["10", "20", "20"]
    use(api, 5)
    assert keeper.round(api.world) == 1
    assert recharges(api) == [("recharge-1", "50"), ("recharge-2", "50")]


def test_after_a_restart_nothing_is_told_twice(api: Api) -> None:
    use(api, 45)
    assert WalletKeeper().round(api.world) == 1
    assert WalletKeeper().round(api.world) == 0
    assert len(recharges(api)) == 1


def untrusted(api: Api) -> None:
    """Let the rule wait for its payments."""
    api.call("PUT", "/wallets/w", WALLET | {"recharge": {"at": "10", "add": "50"}})


def asked(api: Api) -> list[tuple[str, str, str]]:
    """Return key, cost and state of what the rule asked for."""
    found = api.get("/wallets/w/recharges")["items"]
    return [(one["key"], one["cost"], one["state"]) for one in found]


def balance(api: Api) -> str:
    return str(api.get("/wallets/w")["balance"])


def account(api: Api, name: str) -> int:
    return {
        one.account: one.balance_minor for one in api.world.settlements.balances("default")
    }.get(name, 0)


def audited(api: Api) -> tuple[str, ...]:
    return audit(
        api.world.settling("default"), api.world.settlements, api.world.wallets
    ).differences


def test_a_recharge_is_a_payment_on_its_way_until_it_is_paid(api: Api) -> None:
    untrusted(api)
    keeper = WalletKeeper()
    use(api, 45)
    assert keeper.round(api.world) == 1
    assert asked(api) == [("recharge-1", "50.00", "requested")]
    assert (balance(api), recharges(api), prepaid(api)) == ("100", [], 10000)
    for _ in range(3):
        api.clock.now += 3_600_000_000
        assert keeper.round(api.world) == 0, "what is on its way is not asked for again"
    (told,) = facts(api, "wallet.recharge_requested")
    assert (told["cost"], told["currency"], told["trusted"]) == ("50.00", "USD", False)
    path = "/wallets/w/recharges/recharge-1"
    for _ in range(2):
        done = api.post(f"{path}/paid", {"method": "card", "reference": "ch_1"}, status=200)
        assert (done["state"], done["reference"]) == ("paid", "ch_1")
    assert recharges(api) == [("recharge-1", "50")]
    assert (balance(api), prepaid(api), account(api, "cash:card")) == ("150", 15000, 5000)
    assert [one["id"] for one in facts(api, "wallet.recharge_paid")] == [told["id"]]
    assert [one["reason"] for one in facts(api, "wallet.topped_up")] == ["hand", "recharge"]
    assert api.call("POST", f"{path}/failed", {})[1]["code"] == "recharge-settled"
    assert api.call("POST", "/wallets/w/recharges/nobody/paid", {})[0] == 404
    assert audited(api) == ()


def test_a_recharge_that_fails_lets_the_rule_rest(api: Api) -> None:
    untrusted(api)
    keeper = WalletKeeper()
    use(api, 45)
    keeper.round(api.world)
    path = "/wallets/w/recharges/recharge-1"
    api.clock.now += 1
    for _ in range(2):
        done = api.post(f"{path}/failed", {"reason": "card declined"}, status=200)
        assert (done["state"], done["reason"]) == ("failed", "card declined")
    assert api.call("POST", f"{path}/paid", {})[1]["code"] == "recharge-settled"
    assert [one["reason"] for one in facts(api, "wallet.recharge_failed")] == ["card declined"]
    use(api, 1)
    assert keeper.round(api.world) == 0
    api.clock.now += 1
    api.post("/wallets/w/top-ups", {"amount": "1"})
    assert keeper.round(api.world) == 1, "somebody topped up: the rule may ask again"
    api.post("/wallets/w/recharges/recharge-2/failed", {}, status=200)
    api.clock.now += 86_400_000_000
    assert keeper.round(api.world) == 1, "a day later it may, too"
    assert [state for _, _, state in asked(api)] == ["failed", "failed", "requested"]
    assert (prepaid(api), audited(api)) == (10100, ())


def test_a_trusted_recharge_is_pending_until_it_is_paid(api: Api) -> None:
    keeper = WalletKeeper()
    use(api, 45)
    keeper.round(api.world)
    assert (balance(api), account(api, "pending:acme"), audited(api)) == ("150", 5000, ())
    api.post("/wallets/w/recharges/recharge-1/paid", {"method": "sepa"}, status=200)
    assert (account(api, "pending:acme"), account(api, "cash:sepa")) == (0, 5000)
    assert (balance(api), prepaid(api), audited(api)) == ("150", 15000, ())


def test_a_trusted_recharge_is_paid_back_to_what_paid_it_and_not_before(api: Api) -> None:
    use(api, 45)
    WalletKeeper().round(api.world)
    void = "/wallets/w/top-ups/recharge-1/void"
    assert api.call("POST", void, {"refund": True})[1]["code"] == "recharge-open"
    assert (balance(api), account(api, "pending:acme"), audited(api)) == ("150", 5000, ())
    api.post("/wallets/w/recharges/recharge-1/paid", {"method": "sepa"}, status=200)
    assert account(api, "cash:sepa") == 5000
    api.post(void, {"refund": True}, status=200)
    assert (account(api, "cash:sepa"), account(api, "pending:acme")) == (0, 0)
    assert (balance(api), prepaid(api), audited(api)) == ("100", 10000, ())
    api.post("/wallets/w/top-ups/a/void", {"refund": True}, status=200)
    assert (balance(api), prepaid(api), audited(api)) == ("0", 0, ())


def test_what_was_spent_of_a_trusted_recharge_that_fails_is_lost(api: Api) -> None:
    keeper = WalletKeeper()
    use(api, 60)  # it costs 120
    keeper.round(api.world)
    bill(api.world.billing("default"), BillRequest(until_us=api.clock.now))
    assert balance(api) == "30"
    for _ in range(2):
        api.post("/wallets/w/recharges/recharge-1/failed", {"reason": "no"}, status=200)
    assert (balance(api), prepaid(api), account(api, "pending:acme")) == ("0", 0, 0)
    assert account(api, "bad-debt:acme") == 2000
    assert audited(api) == ()


def test_a_trusted_recharge_that_was_spent_whole_is_lost_whole(api: Api) -> None:
    use(api, 75)  # it costs 150: what was there, and all of the recharge
    WalletKeeper().round(api.world)
    bill(api.world.billing("default"), BillRequest(until_us=api.clock.now))
    assert balance(api) == "0"
    api.post("/wallets/w/recharges/recharge-1/failed", {}, status=200)
    assert (account(api, "pending:acme"), account(api, "bad-debt:acme")) == (0, 5000)
    assert (balance(api), audited(api)) == ("0", ())


def test_a_trusted_recharge_taken_back_by_hand_before_it_fails_is_lost_whole(api: Api) -> None:
    use(api, 45)
    WalletKeeper().round(api.world)
    api.post("/wallets/w/top-ups/recharge-1/void", {}, status=200)
    api.post("/wallets/w/recharges/recharge-1/failed", {}, status=200)
    assert (account(api, "pending:acme"), account(api, "bad-debt:acme")) == (0, 5000)
    assert (balance(api), audited(api)) == ("100", ())


def test_an_hour_later_everybody_is_looked_at_again(api: Api) -> None:
    keeper = WalletKeeper()
    keeper.round(api.world)
    api.clock.set("2026-01-10T01:00:00Z")
    put(api.world.catalog, "default", [api.world.catalog.load("default").customers["acme"]])
    assert keeper.round(api.world) == 0
    with api.world.engine.connect() as connection:
        seen = connection.execute(text("SELECT at_us FROM wallet_watch")).scalar()
    assert seen == api.clock.now


def test_a_rule_that_never_suffices_stops_for_the_day(api: Api) -> None:
    keeper = WalletKeeper()
    use(api, 10_000)
    for _ in range(RECHARGES_DAY_MAX + 2):
        use(api, 1)
        assert keeper.round(api.world) <= 1
        assert keeper.round(api.world) == 0
    assert len(recharges(api)) == RECHARGES_DAY_MAX


def test_expiry_is_posted_by_the_keeper(api: Api) -> None:
    keeper = WalletKeeper()
    api.post("/wallets/w/top-ups", {"amount": "5", "key": "b", "expires": "2026-01-11"})
    keeper.round(api.world)
    assert prepaid(api) == 10500
    api.clock.set("2026-01-11T00:00:00Z")
    assert keeper.round(api.world) == 1
    assert prepaid(api) == 10000


def test_a_customer_without_watched_wallets_is_left_alone(api: Api) -> None:
    plain = {"key": "plain", "customer": "acme", "currency": "USD"}
    api.post("/wallets", plain)
    api.delete("/wallets/w")
    ports = Watching(billing=api.world.billing("default"), wallets=api.world.wallets)
    assert look_at(ports, "acme") == ()
    assert WalletKeeper().round(api.world) == 0


def test_an_account_that_moves_meanwhile_is_looked_at_again(api: Api) -> None:
    use(api, 45)
    billing = api.world.billing("default")

    class Meanwhile:
        """Wallets of which one is topped up while its usage is valued."""

        def __init__(self) -> None:
            self.transaction = api.world.wallets.transaction
            self.moved = False

        def purses(self, tenant: str, wallets: Any) -> Any:
            found = api.world.wallets.purses(tenant, wallets)
            api.post("/wallets/w/top-ups", {"amount": "1"})
            return found

    stale: Any = Meanwhile()
    assert look_at(Watching(billing=billing, wallets=stale), "acme") is None
    assert recharges(api) == []


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def killed_at(api: Api, number: int) -> Iterator[None]:
    """End the process before its statement of this number."""
    count = 0

    def before(*_: object) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise Killed

    event.listen(api.world.engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(api.world.engine, "before_cursor_execute", before)


def test_a_kill_between_any_two_statements_of_a_recharge_changes_nothing(api: Api) -> None:
    use(api, 45)
    kills = 0
    for number in range(1, 200):
        try:
            with killed_at(api, number):
                WalletKeeper().round(api.world)
            break
        except Killed:
            kills += 1
            assert prepaid(api) == 10000 + 5000 * len(recharges(api))
            assert len(facts(api, "wallet.topped_up")) == 1 + len(recharges(api))
    assert kills > 20
    assert recharges(api) == [("recharge-1", "50")]
    assert len(facts(api, "wallet.low")) == 2


def test_a_kill_between_any_two_statements_of_a_top_up_changes_nothing(api: Api) -> None:
    body = {"amount": "5", "key": "b"}
    kills = 0
    for number in range(1, 100):
        with killed_at(api, number), suppress(Killed):
            api.call("POST", "/wallets/w/top-ups", body)
        keys = {one["key"] for one in api.get("/wallets/w/top-ups")["items"]}
        assert prepaid(api) == 10000 + 500 * ("b" in keys)
        if "b" in keys:
            break
        kills += 1
    assert kills > 5
    assert len(facts(api, "wallet.topped_up")) == 2
