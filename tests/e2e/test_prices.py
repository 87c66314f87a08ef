"""The calculator over HTTP, and a plan with prices of every type billed from the real lake."""

import json
from typing import Any

import msgspec
import pytest

from tallybook.kernel.errors import Forbidden, Invalid
from tests.e2e.server import Server

PATH = "/api/v1/prices/calculate"
CATALOG = """
[[meters]]
key = "payments"
event_type = "paid"
aggregation = "SUM"
value = "$.amount"
group_by = { region = "$.region" }

[[plans]]
key = "pay"
currency = "USD"
[[plans.charges]]
key = "fee"
meter = "payments"
price = { type = "percentage", rate = "1", fixed_amount = "1", free_events = 1, event_max = "4" }
[[plans.charges]]
key = "regional"
meter = "payments"
price = { type = "matrix", dimensions = ["region"], default_unit_amount = "0.001", \
cells = [{ match = { region = "eu" }, unit_amount = "0.002" }] }
[[plans.charges]]
key = "credits"
meter = "payments"
price = { type = "graduated_percentage", tiers = [{ up_to = "500", rate = "10" }, { rate = "5" }], \
maximum_amount = "100", pricing_unit = { name = "CRD", conversion_rate = "0.5" } }

[[customers]]
key = "acme"
currency = "USD"
subjects = ["acme"]

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "pay"
start = 2026-01-01
"""


@pytest.fixture(scope="module")
def server(shared_server: Server) -> Server:
    return shared_server.tenant("prices")


def ask(server: Server, **question: Any) -> Any:
    return server.post(PATH, json.dumps(question))


def test_the_calculator_answers_a_quantity_or_events(server: Server) -> None:
    package = {"type": "package", "package_size": "10", "amount": "100"}
    answer = ask(server, price=package, currency="USD", quantity="121")
    assert (answer["amount"], answer["rounded"]) == ("1300", "1300.00")
    assert answer["steps"] == [
        {
            "text": "121 in packages of 10: 13 × 100 = 1300",
            "amount": "1300",
            "quantity": "13",
            "unit_amount": "100",
        }
    ]
    matrix = {
        "type": "matrix",
        "dimensions": ["region"],
        "cells": [{"match": {"region": "eu"}, "unit_amount": "0.5"}],
        "default_unit_amount": "1",
    }
    events = [{"quantity": "10", "dimensions": {"region": "eu"}}, {"quantity": "2.5"}]
    answer = ask(server, price=matrix, currency="JPY", events=events)
    assert (answer["amount"], answer["rounded"]) == ("7.5", "8")


def test_a_refusal_names_the_field(server: Server) -> None:
    with pytest.raises(Invalid) as caught:
        ask(server, price={"type": "unit", "unit_amount": "-1"}, currency="USD", quantity="1")
    assert caught.value.field == "price.unit_amount"
    with pytest.raises(Invalid) as caught:
        ask(server, price={"type": "unit", "unit_amount": "1"}, currency="USD", events=[{}])
    assert caught.value.field == "events[0].quantity"
    with pytest.raises(Forbidden), server.client("tb_wrong") as client:
        client.raw("POST", PATH, content=b"{}")


def test_the_description_spells_out_every_price(server: Server) -> None:
    found = server.get("/openapi.json")
    body = found["paths"][PATH]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/PriceQuestion"}
    price = found["components"]["schemas"]["PriceQuestion"]["properties"]["price"]
    assert len(price["discriminator"]["mapping"]) == 9
    for reference in price["discriminator"]["mapping"].values():
        assert reference.removeprefix("#/components/schemas/") in found["components"]["schemas"]


def test_every_price_is_billed_from_the_lake(server: Server) -> None:
    server.post("/api/v1/catalog/apply", CATALOG, "application/toml")
    payments = [(3, "100", "eu"), (4, "200", "eu"), (2, "50", None), (5, "1000", "us")]
    events = [
        {
            "specversion": "1.0",
            "id": f"p{day}",
            "source": "shop",
            "type": "paid",
            "subject": "acme",
            "time": f"2026-02-0{day}T12:00:00Z",
            "data": {"amount": amount, "region": region},
        }
        for day, amount, region in payments
    ]
    server.post("/api/v1/events", json.dumps(events), "application/cloudevents-batch+json")
    server.caught_up()
    with server.client() as client:
        request = b'{"period":"2026-02"}'
        headers = {"Content-Type": "application/json"}
        client.raw("POST", "/api/v1/billing-runs", content=request, headers=headers)
    number = wait_for_invoice(server)
    invoice = server.get(f"/api/v1/invoices/{number}")
    found = {line["charge"]: line["amount"] for line in invoice["lines"]}
    # free: the payment of day 2; 100: 2, 200: 3, 1000: 4. | 0.6 + 1.05. | 50 + 42.5 CRD at 0.5.
    assert found == {"fee": "9.00", "regional": "1.65", "credits": "46.25"}
    assert server.get(f"/api/v1/invoices/{number}/verify")["ok"]
    document = server.raw("GET", f"/api/v1/invoices/{number}.pdf")
    assert document.startswith(b"%PDF")


def wait_for_invoice(server: Server) -> str:
    """Return the number of the only invoice once it is there."""
    for _ in range(200):
        found = server.get("/api/v1/invoices")["items"]
        if found:
            return str(found[0]["number"])
        msgspec.json.encode(found)
        server.caught_up()
    raise AssertionError("no invoice was made")
