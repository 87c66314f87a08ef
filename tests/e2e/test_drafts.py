"""Drafts from outside: a run leaves them, lists show them, a command finalizes or discards them."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.server import Server

CATALOG = """
[seller]
name = "We"
grace_days = 3

[[meters]]
key = "calls"
event_type = "api.call"
aggregation = "COUNT"

[[plans]]
key = "web"
currency = "USD"
[[plans.charges]]
key = "calls"
meter = "calls"
price = { type = "unit", unit_amount = 2 }
"""
CUSTOMER = """
[[customers]]
key = "{key}"
currency = "USD"
subjects = ["{key}"]

[[subscriptions]]
key = "{key}"
customer = "{key}"
plan = "web"
start = 2026-10-01
"""


@pytest.fixture(scope="module")
def server(shared_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp("drafts")
    text = CATALOG + "".join(CUSTOMER.format(key=key) for key in ("acme", "bolt"))
    (folder / "catalog.toml").write_text(text)
    running = shared_server.tenant("drafts")
    running.tallybook("apply", str(folder / "catalog.toml"), "--yes")
    used(running, "acme", 1)
    used(running, "bolt", 1)
    return running


def used(server: Server, subject: str, number: int) -> None:
    event = {
        "specversion": "1.0",
        "id": f"{subject}{number}",
        "source": "test",
        "type": "api.call",
        "subject": subject,
        "time": "2026-10-10T00:00:00Z",
    }
    server.post("/api/v1/events", json.dumps([event]))
    server.caught_up()


def shown(server: Server, *command: str) -> Any:
    return json.loads(server.tallybook(*command, "--json"))


def _until(true: Callable[[], bool], seconds: float = 60) -> bool:
    ends = time.monotonic() + seconds
    while not true():
        if time.monotonic() > ends:
            return False
        time.sleep(0.5)
    return True


def test_a_draft_from_run_to_invoice(server: Server) -> None:
    previewed = shown(server, "invoice", "preview", "acme", "--period", "2026-10")
    assert previewed["invoice"]["total"] == "2.00"
    assert "2 wait as drafts" in server.tallybook("bill", "--period", "2026-10")
    drafts = shown(server, "invoice", "list", "--state", "draft")
    by_customer = {draft["customer"]: draft["id"] for draft in drafts}
    assert [draft["state"] for draft in drafts] == ["draft", "draft"]
    used(server, "acme", 2)
    acme, bolt = by_customer["acme"], by_customer["bolt"]
    assert shown(server, "invoice", "refresh", acme)["total"] == "4.00"
    assert shown(server, "invoice", "show", acme)["number"] == "DRAFT"
    used(server, "bolt", 2)
    assert _until(lambda: shown(server, "invoice", "show", bolt)["total"] == "4.00"), "by itself"
    assert "not final" in server.tallybook("invoice", "verify", bolt)
    assert shown(server, "invoice", "explain", bolt)["count"] == 2
    assert "2 wait as drafts" in server.tallybook("bill", "--period", "2026-10")
    again = shown(server, "invoice", "list", "--state", "draft")
    assert sorted(draft["total"] for draft in again) == ["4.00", "4.00"]
    assert shown(server, "invoice", "show", acme)["total"] == "4.00", "what took its place"
    by_customer = {draft["customer"]: draft["id"] for draft in again}
    acme, bolt = by_customer["acme"], by_customer["bolt"]
    assert "INV-000001" in server.tallybook("invoice", "finalize", acme)
    assert shown(server, "invoice", "finalize", acme)["number"] == "INV-000001"
    assert shown(server, "invoice", "show", acme)["number"] == "INV-000001"
    assert "Discarded" in server.tallybook("invoice", "discard", bolt)
    server.tallybook("invoice", "discard", bolt, code=1)
    server.tallybook("invoice", "verify", "--all")
    found = shown(server, "invoice", "list")
    assert [(one["number"], one["state"], one["open"]) for one in found] == [
        ("INV-000001", "finalized", "4.00")
    ]
    assert "Nothing to bill" in server.tallybook(
        "invoice", "preview", "acme", "--until", "2026-10-01"
    )
