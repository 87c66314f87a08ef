"""The commands of the guide to what comes after an invoice, run in their order."""

import contextlib
import time

from tests.e2e.server import Server
from tests.e2e.test_guides import ROOT, commands

MONEY = ROOT / "docs" / "guides" / "money.md"
CATALOG = """
[[coupons]]
key = "welcome"
percent = 10

[[customers]]
key = "acme"
currency = "USD"

[[wallets]]
key = "acme-credit"
customer = "acme"
currency = "USD"
only = ["usage"]
recharge = { at = 1000, add = 50 }
"""
AMOUNTS = ("150", "120", "60", "10", "20", "30")


def invoiced(server: Server) -> None:
    """Let there be the invoices that the guide begins with."""
    server.raw("POST", "/api/v1/catalog/apply", CATALOG, "application/toml")
    with server.client() as client:
        for amount in AMOUNTS:
            one_off = {"customer": "acme", "lines": [{"name": "Setup", "amount": amount}]}
            client.post("/api/v1/invoices", one_off)
        client.post("/api/v1/wallets/acme-credit/top-ups", {"amount": "1"})


def requested(server: Server, name: str) -> None:
    """Wait until the wallet's rule has asked for a payment."""
    path, deadline = "/api/v1/wallets/acme-credit/recharges", time.monotonic() + 60
    while name not in {one["key"] for one in server.get(path)["items"]}:
        assert time.monotonic() < deadline, f"the rule does not ask for {name}"
        time.sleep(0.1)


def test_what_comes_after_an_invoice(shared_server, tmp_path):
    server = shared_server.tenant("after")
    invoiced(server)
    for words in commands(MONEY):
        if words[:2] == ["payment", "reverse"]:
            payments = server.get("/api/v1/payments?customer=acme")["items"]
            words[2] = max(one["id"] for one in payments)  # ids grow with time
        elif words[:2] == ["invoice", "withdraw-charge"]:
            waiting = server.get("/api/v1/customers/acme/account")["waiting"]
            words[3] = max(one["id"] for one in waiting)
        elif words[:2] in (["wallet", "paid"], ["wallet", "failed"]):
            requested(server, words[3])
        with contextlib.chdir(tmp_path):
            server.tallybook(*words)
    states = {one["number"]: one["state"] for one in server.get("/api/v1/invoices")["items"]}
    assert states["INV-000001"] == "paid"
    assert states["INV-000002"] == "finalized", "its payment was reversed"
    assert states["INV-000004"] == states["INV-000005"] == "void"
    assert states["INV-000006"] == "uncollectible"
