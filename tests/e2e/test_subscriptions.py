"""Subscriptions from outside: shown, changed, paused, cancelled, migrated, with a dry run first."""

import json
from typing import Any

import httpx2
import pytest

from tests.e2e.server import Server, asked

API = "/api/v1"
CATALOG = """
[[plans]]
key = "team"
currency = "EUR"
[[plans.charges]]
key = "seat"
name = "Seats"
timing = "advance"
price = { type = "flat", amount = 31 }

[[plans]]
key = "pro"
currency = "EUR"
[[plans.charges]]
key = "seat"
name = "Seats"
timing = "advance"
price = { type = "flat", amount = 62 }

[[customers]]
key = "acme"
currency = "EUR"
zone = "Europe/Berlin"

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "team"
start = 2026-01-31
anchor = "start"
quantities = { seat = "3" }
"""


@pytest.fixture(scope="module")
def server(shared_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp("subscriptions")
    (folder / "catalog.toml").write_text(CATALOG)
    running = shared_server.tenant("subscriptions")
    running.tallybook("apply", str(folder / "catalog.toml"), "--yes")
    return running


def post(server: Server, path: str, body: object) -> httpx2.Response:
    return asked(
        "POST",
        server.url + API + path,
        content=json.dumps(body),
        headers={"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"},
    )


def shown(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(server.tallybook("subscription", "show", "acme", "--json"))
    return found


def test_a_subscription_from_its_first_day_to_its_last(server: Server) -> None:
    found = shown(server)
    assert found["state"] == "active"
    assert found["now"]["quantities"] == {"seat": "3"}
    assert found["now"]["period"]["end"] == found["now"]["next_period"]["start"]
    first = server.tallybook("subscription", "quantity", "acme", "seat", "5", "--dry-run")
    assert "Would be: acme: 5 of seat" in first
    assert "Total" in first
    assert shown(server)["amendments"] == []

    server.tallybook("subscription", "quantity", "acme", "seat", "5")
    price = '{"type":"flat","amount":"20"}'
    server.tallybook("subscription", "price", "acme", "seat", "--price", price)
    server.tallybook("subscription", "change", "acme", "--plan", "pro", "--at", "period-end")
    server.tallybook("subscription", "anchor", "acme", "2026-01-15", "--at", "period-end")
    found = shown(server)
    assert [one["type"] for one in found["amendments"]] == ["quantity", "price", "plan", "anchor"]
    assert found["now"]["plan"] == "team"
    assert found["amendments"][2]["at"] == found["now"]["period"]["end"]

    assert "paused" in server.tallybook("subscription", "pause", "acme")
    assert shown(server)["state"] == "paused"
    server.tallybook("subscription", "pause", "acme", code=1)
    server.tallybook("subscription", "resume", "acme")
    server.tallybook("subscription", "cancel", "acme", "--at", "period-end", "--no-credit")
    found = shown(server)
    assert (found["state"], found["now"]["next_period"]) == ("cancelled", None)
    server.tallybook("subscription", "uncancel", "acme")
    assert "acme" in server.tallybook("subscription", "list", "--state", "active")
    assert "none" in server.tallybook("subscription", "list", "--customer", "nobody").lower()
    text = server.tallybook("subscription", "show", "acme")
    assert "quantity     5 of seat" in text


def test_what_the_state_forbids_is_a_conflict_with_a_code(server: Server) -> None:
    answer = post(server, "/subscriptions/acme/uncancel", {})
    assert (answer.status_code, answer.json()["code"]) == (409, "state-forbids")
    answer = post(server, "/subscriptions/acme/change", {"plan": "none"})
    assert answer.status_code == 409
    answer = post(server, "/subscriptions/acme/cancel", {"at": "soon"})
    assert (answer.status_code, answer.json()["field"]) == (400, "at")
    assert post(server, "/subscriptions/nobody/cancel", {}).status_code == 404
    server.tallybook("subscription", "price", "acme", "seat", "--price", "{", code=1)


def test_a_plan_is_migrated_after_a_dry_run(server: Server) -> None:
    subscription = {"customer": "acme", "plan": "team", "start": "2026-01-01"}
    assert post(server, "/subscriptions", subscription | {"key": "second"}).status_code == 201
    plan = {
        "key": "team",
        "currency": "EUR",
        "charges": [
            {"key": "seat", "timing": "advance", "price": {"type": "flat", "amount": "40"}}
        ],
    }
    answer = asked(
        "PUT",
        f"{server.url}{API}/plans/team",
        content=json.dumps(plan),
        headers={"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"},
    )
    assert answer.status_code == 200
    told = server.tallybook("subscription", "migrate", "team", "--plan-version", "2", "--dry-run")
    assert "Would move 2 of 2." in told
    told = server.tallybook("subscription", "migrate", "team", "--plan-version", "2")
    assert "Moved 2 of 2." in told
    told = server.tallybook("subscription", "migrate", "team", "--plan-version", "2")
    assert "Moved 0 of 2." in told
    answer = post(server, "/plans/team/migrate", {"plan_version": 9})
    assert answer.status_code == 404
