"""Wallets over HTTP: topped up, drawn by invoices, taken back, lapsed; and the ledger with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill
from tallybook.settle.prepaid.flow import lapse
from tests.support.api import Api

CATALOG = """
[[meters]]
key = "calls"
event_type = "t"
aggregation = "SUM"
value = "$.v"

[[plans]]
key = "p"
currency = "USD"

[[plans.charges]]
key = "c"
name = "Calls"
meter = "calls"
price = {type = "unit", unit_amount = "2"}

[[customers]]
key = "acme"
currency = "USD"
subjects = ["s"]

[[subscriptions]]
key = "sub"
customer = "acme"
plan = "p"
start = "2026-01-01"
"""
WALLET = {"key": "w", "customer": "acme", "currency": "USD"}
UNITS = {"key": "u", "customer": "acme", "currency": "USD", "unit": "CRD", "rate": "0.5"}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path) as made:
        made.apply(CATALOG)
        made.post("/wallets", WALLET)
        yield made


def balance(api: Api, key: str = "w", query: str = "") -> list[Any]:
    found = api.get(f"/wallets/{key}{query}")
    return [found["balance"], found["unbilled"], found["ongoing_balance"]]


def prepaid(api: Api, key: str = "w") -> int:
    """Return what the ledger owes for a wallet."""
    from sqlalchemy import text

    rows: Any
    with api.world.engine.connect() as connection:
        rows = connection.execute(text("SELECT debit, credit, amount_minor FROM ledger_entry"))
        name = f"prepaid:{key}"
        return sum(row[2] * ((row[1] == name) - (row[0] == name)) for row in rows)


def test_a_wallet_is_made_shown_changed_and_taken_out_of_use(api: Api) -> None:
    assert api.post("/wallets", WALLET, 409)["code"] == "exists"
    assert api.get("/wallets?customer=acme")["items"][0]["key"] == "w"
    assert api.get("/wallets?customer=none")["items"] == []
    assert api.put("/wallets/w", {**WALLET, "priority": 7})["priority"] == 7
    assert api.put("/wallets/w", {**WALLET, "currency": "EUR"}, 409)["field"] == "currency"
    api.delete("/wallets/w")
    assert api.get("/wallets")["items"] == []
    assert api.get("/wallets/w")["archived"] is True
    assert api.get("/wallets/none", 404)["field"] == "key"


def test_top_ups_are_there_at_once(api: Api) -> None:
    made = api.post("/wallets/w/top-ups", {"amount": "17.969", "key": "a", "method": "card"})
    assert (made["amount"], made["cost"], made["left"]) == ("17.97", "17.97", "17.97")
    again = {"amount": "1", "key": "a"}
    assert api.post("/wallets/w/top-ups", again, 409)["code"] == "exists"
    free = api.post("/wallets/w/top-ups", {"amount": "5", "free": True, "expires_after": "P1M"})
    assert free["expires"] == "2026-02-10T00:00:00Z"
    assert balance(api) == ["22.97", "0", "22.97"]
    assert prepaid(api) == 2297
    assert {one["key"] for one in api.get("/wallets/w/top-ups")["items"]} == {"a", free["key"]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"amount": "0"}, "amount"),
        ({"amount": "1", "key": "recharge-1"}, "key"),
        ({"amount": "1", "expires": "2026-01-01"}, "expires"),
        ({"amount": "1", "expires": "2027-01-01", "expires_after": "P1Y"}, "expires"),
        ({"amount": "1", "method": "x" * 65}, "method"),
        ({"amount": "1", "priority": 256}, "priority"),
    ],
)
def test_what_is_wrong_with_a_top_up_is_named(api: Api, body: Any, field: str) -> None:
    assert api.post("/wallets/w/top-ups", body, 400)["field"] == field


def test_the_ongoing_balance_follows_usage_and_an_invoice_draws(api: Api) -> None:
    api.post("/wallets", UNITS)
    api.post("/wallets/u/top-ups", {"amount": "10", "key": "a"})
    api.post("/wallets/w/top-ups", {"amount": "30", "key": "a", "at": "2026-01-09"})
    api.event("2026-01-09", '{"v": 10}')
    assert balance(api, "u") == ["10", "10", "0"]
    assert balance(api) == ["30", "15", "15"]
    api.event("2026-01-09", '{"v": 10}')
    assert balance(api, "u") == ["10", "10", "0"]
    assert balance(api) == ["30", "35", "-5"]
    bill(api.world.billing("default"), BillRequest(until_us=api.clock.now))
    assert balance(api) == ["0", "0", "0"]
    assert balance(api, "u") == ["0", "0", "0"]
    assert (prepaid(api), prepaid(api, "u")) == (0, 0)
    assert balance(api, query="?at=2026-01-09T12:00:00Z") == ["30", None, None]
    lines = api.get("/wallets/w/transactions?limit=1")
    assert [(one["type"], one["amount"]) for one in lines["items"]] == [("top-up", "30")]
    (draw,) = api.get(f"/wallets/w/transactions?cursor={lines['next_cursor']}")["items"]
    assert (draw["type"], draw["amount"], draw["balance"]) == ("draw", "-30", "0")
    assert draw["key"].startswith("inv_")


def test_a_top_up_does_not_reach_behind_a_draw(api: Api) -> None:
    api.post("/wallets/w/top-ups", {"amount": "30"})
    api.event("2026-01-09", '{"v": 10}')
    bill(api.world.billing("default"), BillRequest(until_us=api.clock.now))
    refused = api.post("/wallets/w/top-ups", {"amount": "1", "at": "2026-01-09"}, 409)
    assert refused["field"] == "at"


@pytest.mark.parametrize(
    ("refund", "free", "gets"),
    [(False, False, "breakage:acme"), (True, False, "cash:card"), (True, True, "promotion:acme")],
)
def test_what_is_taken_back_goes_where_it_belongs(
    api: Api, *, refund: bool, free: bool, gets: str
) -> None:
    api.post("/wallets/w/top-ups", {"amount": "30", "key": "a", "method": "card", "free": free})
    api.event("2026-01-09", '{"v": 10}')
    bill(api.world.billing("default"), BillRequest(until_us=api.clock.now))
    for _ in range(2):
        voided = api.post("/wallets/w/top-ups/a/void", {"refund": refund}, 200)
    assert (voided["left"], voided["voided"]) == (None, "2026-01-10T00:00:00.000001Z")
    assert balance(api) == ["0", "0", "0"]
    assert prepaid(api) == 0
    assert entries_on(api, gets)[-1] == 1000
    assert api.post("/wallets/w/top-ups/none/void", {}, 404)["field"] == "top_up"


def entries_on(api: Api, account: str) -> list[int]:
    """Return the amounts credited to an account, in the order they were posted."""
    from sqlalchemy import text

    query = text("SELECT amount_minor FROM ledger_entry WHERE credit = :name ORDER BY at_us, id")
    with api.world.engine.connect() as connection:
        return [row[0] for row in connection.execute(query, {"name": account})]


def test_what_expires_is_posted_once(api: Api) -> None:
    api.post("/wallets", UNITS)
    later = {"amount": "30", "key": "b", "at": "2026-03-01"}
    api.post("/wallets/u/top-ups", {"amount": "7", "key": "a", "expires": "2026-02-01"})
    api.post("/wallets/u/top-ups", later)
    wallet = api.world.catalog.load("default").wallets["u"]
    assert lapse(api.world.wallets, "default", [wallet], api.clock.now) == []
    api.clock.set("2026-02-01")
    (gone,) = lapse(api.world.wallets, "default", [wallet], api.clock.now)
    assert (gone.amount_minor, gone.account) == (350, "breakage:acme")
    assert lapse(api.world.wallets, "default", [wallet], api.clock.now) == []
    assert prepaid(api, "u") == 1500
    assert [one["type"] for one in api.get("/wallets/u/transactions")["items"]] == [
        "top-up",
        "lapse",
    ]
