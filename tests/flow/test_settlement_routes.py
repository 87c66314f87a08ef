"""Settlement as a client sees it: every route, its answers and its refusals."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill
from tallybook.serve.api.rest.settlement import payments
from tests.support.api import Api
from tests.support.settled_world import MONTHLY

ONE, TWO = "INV-000001", "INV-000002"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path, "2026-07-02T00:00:00Z") as made:
        made.apply(MONTHLY.format(rate="20", amount="100"))
        made.apply('[[coupons]]\nkey = "ten"\namount = "10"\ncurrency = "USD"\n')
        yield made


def billed(api: Api, month: str = "2026-05") -> None:
    bill(api.world.billing("default"), BillRequest(period=month))


def pay(api: Api, amount: str, status: int = 201, **more: Any) -> Any:
    body = {"customer": "acme", "amount": amount, "method": "bank"} | more
    return api.post("/payments", body, status)


def test_payments(api: Api) -> None:
    billed(api)
    made = pay(api, "20.00", reference="R1", received="2026-07-01T00:00:00Z")
    assert made["allocations"][0]["amount"] == "20.00"
    assert (made["state"], made["credited"], made["received"]) == (
        "recorded",
        "0.00",
        "2026-07-01T00:00:00Z",
    )
    assert api.get(f"/payments/{made['id']}") == made
    part = pay(api, "30", invoices=[{"invoice": ONE, "amount": "10"}])
    assert part["credited"] == "20.00"
    used = api.post("/payments/from-credit", {"customer": "acme", "amount": "5"})
    assert (used["kind"], used["sources"][0]["amount"]) == ("credit", "5.00")
    page = api.get("/payments?customer=acme&limit=2")
    assert len(page["items"]) == 2
    rest = api.get(f"/payments?limit=2&cursor={page['next_cursor']}")
    assert [one["id"] for one in rest["items"]] == [used["id"]]
    back = api.post(f"/payments/{made['id']}/reverse", {"reason": "charge-back"}, 200)
    assert (back["state"], back["reason"]) == ("reversed", "charge-back")
    shown = api.get("/invoices?customer=acme")["items"][0]
    assert (shown["payable"], shown["open"]) == ("120.00", "105.00")
    paying = [one["id"] for one in api.get(f"/payments?invoice={ONE}")["items"]]
    assert sorted(paying) == sorted([made["id"], part["id"], used["id"]])
    assert api.get(f"/payments?invoice={shown['id']}")["items"][0]["id"] == made["id"]


def test_invoices_of_a_time(api: Api) -> None:
    billed(api)
    for asked, found in [
        ("from=2026-07-02T00:00:00Z", 1),
        ("to=2026-07-02T00:00:00Z", 0),
        ("from=2026-07-01T00:00:00Z&to=2026-07-03T00:00:00Z&state=finalized", 1),
        ("from=2026-08-01T00:00:00Z", 0),
    ]:
        assert len(api.get(f"/invoices?{asked}")["items"]) == found, asked
    assert api.get("/invoices?from=yesterday", 400)["field"] == "from"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"amount": "1.001"}, "amount"),
        ({"amount": "1e15"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "1", "received": "2027-01-01T00:00:00Z"}, "received"),
        ({"amount": "1", "received": "yesterday"}, "received"),
        ({"amount": "1", "currency": "EUR", "invoices": [{"invoice": ONE}]}, "currency"),
        ({"amount": "1", "invoices": [{"invoice": ONE, "amount": "2"}]}, "invoices"),
    ],
    ids=str,
)
def test_payments_that_are_refused(api: Api, body: dict[str, Any], field: str) -> None:
    billed(api)
    amount = body.pop("amount")
    assert pay(api, amount, 400, **body)["field"] == field


def test_one_invoice_is_paid(api: Api) -> None:
    billed(api)
    billed(api, "2026-06")
    made = api.post(f"/invoices/{TWO}/pay", {"amount": "130", "method": "card"})
    assert ([one["number"] for one in made["allocations"]], made["credited"]) == ([TWO], "10.00")
    assert api.get("/invoices?state=paid")["items"][0]["number"] == TWO


def test_credit_notes_and_refunds(api: Api) -> None:
    billed(api)
    pay(api, "60")
    body = {"invoice": ONE, "reason": "broken", "lines": [{"line": "1", "amount": "50"}]}
    seen = api.post("/credit-notes/estimate", body, 200)
    assert (seen["creditable"], seen["refundable"]) == ("120.00", "60.00")
    assert seen["credit_note"]["total"] == "60.00"
    made = api.post("/credit-notes", body)
    assert (made["number"], made["reduces"], made["refund"]) == ("CN-000001", "60.00", "0.00")
    rest = api.post("/credit-notes", {"invoice": ONE, "reason": "all", "rest": "refund"})
    assert (rest["total"], rest["refund"]) == ("60.00", "60.00")
    assert api.post("/credit-notes", {"invoice": ONE, "reason": "x"}, 409)["code"] == (
        "credit-exceeds"
    )
    assert api.get("/credit-notes/CN-000001")["lines"][0]["net"] == "50.00"
    assert api.get("/credit-notes/CN-000002/verify")["ok"]
    page = api.get("/credit-notes?limit=1")
    after = api.get(f"/credit-notes?limit=1&cursor={page['next_cursor']}")
    assert [one["number"] for one in (*page["items"], *after["items"])] == [
        "CN-000001",
        "CN-000002",
    ]
    assert api.get(f"/credit-notes?invoice={ONE}&customer=acme")["items"][1]["id"] == rest["id"]
    refund = {"customer": "acme", "amount": "60", "method": "bank", "source": "CN-000002"}
    assert api.post("/refunds", refund)["kind"] == "refund"
    assert api.post("/refunds", refund, 400)["code"] == "refund-exceeds"
    assert api.post("/credit-notes/CN-000002/void", None, 409)["code"] == "credit-used"
    assert api.get("/ledger/audit")["ok"]


def test_a_credit_note_is_voided(api: Api) -> None:
    billed(api)
    api.post("/credit-notes", {"invoice": ONE, "reason": "broken"})
    assert api.post("/credit-notes/CN-000001/void", None, 200)["state"] == "void"
    assert api.get("/invoices?customer=acme")["items"][0]["open"] == "120.00"


def test_one_off_invoices(api: Api) -> None:
    line = {"name": "Setup", "amount": "12.345", "quantity": "2", "unit": "h", "taxes": ["vat"]}
    made = api.post("/invoices", {"customer": "acme", "lines": [line]})
    assert made["invoice"]["total"] == "29.63"
    later = api.post("/invoices", {"customer": "acme", "lines": [line], "later": True})
    assert (later["invoice"], len(later["charges"])) == (None, 1)
    account = api.get("/customers/acme/account")
    assert account["waiting"][0]["amount"] == "24.69"
    assert account["owed"] == [{"currency": "USD", "open": "29.63", "overdue": "0.00"}]
    billed(api)
    assert api.get(f"/invoices/{TWO}")["lines"][1]["name"] == "Setup"
    days = {"start": "2026-05-01", "end": "2026-06-01"}
    dated = api.post("/invoices", {"customer": "acme", "lines": [line | days]})
    assert dated["invoice"]["period_end"] == "2026-06-01T00:00:00Z"


def test_a_charge_that_waits_is_withdrawn(api: Api) -> None:
    lines = [{"name": "Setup", "amount": "10"}, {"name": "Visit", "amount": "5"}]
    made = api.post("/invoices", {"customer": "acme", "lines": lines, "later": True})
    setup, visit = made["charges"]
    api.delete(f"/customers/other/charges/{setup}", 404)
    api.delete(f"/customers/acme/charges/{setup}")
    api.delete(f"/customers/acme/charges/{setup}", 404)
    api.delete("/customers/acme/charges/ext_0", 404)
    assert [one["id"] for one in api.get("/customers/acme/account")["waiting"]] == [visit]
    billed(api)
    assert [line["name"] for line in api.get(f"/invoices/{ONE}")["lines"]][1:] == ["Visit"]
    assert api.delete(f"/customers/acme/charges/{visit}", 409)["code"] == "charge-billed"


@pytest.mark.parametrize(
    "line",
    [
        {"name": " ", "amount": "1"},
        {"name": "x", "amount": "1", "quantity": "0"},
        {"name": "x", "amount": "1e15"},
        {"name": "x", "amount": "1", "start": "2026-05-02", "end": "2026-05-02"},
    ],
    ids=str,
)
def test_one_off_invoices_that_are_refused(api: Api, line: dict[str, Any]) -> None:
    api.post("/invoices", {"customer": "acme", "lines": [line]}, 400)
    api.post("/invoices", {"customer": "acme", "lines": []}, 400)


def test_void_write_off_and_reissue(api: Api) -> None:
    billed(api)
    assert api.post(f"/invoices/{ONE}/reissue", None)["number"] == TWO
    assert api.post(f"/invoices/{TWO}/write-off", None, 200)["state"] == "uncollectible"
    assert api.post(f"/invoices/{TWO}/void", None, 200)["state"] == "void"
    assert api.post(f"/invoices/{TWO}/void", None, 409)["code"] == "conflict"
    assert api.get("/ledger/audit")["ok"]


def test_the_ledger(api: Api) -> None:
    billed(api)
    invoice = api.get(f"/invoices/{ONE}")["id"]
    entries = api.get(f"/ledger/entries?document={invoice}")["items"]
    assert [(one["debit"], one["credit"], one["amount"]) for one in entries] == [
        ("receivable:acme", "revenue:acme", "100.00"),
        ("receivable:acme", "tax:vat", "20.00"),
    ]
    assert entries[0]["service_start"] == "2026-05-01T00:00:00Z"
    assert entries[1]["service_end"] is None
    page = api.get("/ledger/entries?account=receivable:acme&limit=1")
    more = api.get(f"/ledger/entries?account=receivable:acme&cursor={page['next_cursor']}")
    assert [*page["items"], *more["items"]] == entries
    balances = api.get("/ledger/balances")["balances"]
    assert {one["account"]: one["balance"] for one in balances} == {
        "receivable:acme": "120.00",
        "revenue:acme": "-100.00",
        "tax:vat": "-20.00",
    }
    assert len(api.get("/ledger/balances?account=tax:")["balances"]) == 1
    audit = api.get("/ledger/audit")
    assert (audit["ok"], audit["invoices"], audit["entries"]) == (True, 1, 2)


def test_coupons_are_redeemed_and_taken_away(api: Api) -> None:
    made = api.post("/coupons/ten/redeem", {"customer": "acme"})
    assert (made["coupon"], made["ended"]) == ("ten", None)
    assert api.post("/coupons/ten/redeem", {"customer": "acme"}, 409)["code"] == ("coupon-redeemed")
    api.post("/coupons/none/redeem", {"customer": "acme"}, 404)
    billed(api)
    assert api.get(f"/invoices/{ONE}")["discounts"][0]["amount"] == "10.00"
    account = api.get("/customers/acme/account")
    assert account["redemptions"][0]["invoices"] == 1
    api.delete(f"/customers/acme/redemptions/{made['id']}")
    assert api.get("/customers/acme/account")["redemptions"][0]["ended"] is not None
    api.delete("/customers/acme/redemptions/red_0", 404)


def test_what_is_overdue_is_asked_for_at_once(api: Api) -> None:
    billed(api)
    billed(api, "2026-06")
    assert api.get("/payment-requests?currency=USD")["items"] == []
    api.clock.set("2026-08-01T00:00:00Z")
    found = api.get("/payment-requests?currency=USD&threshold=240")["items"]
    assert found == [
        {"customer": "acme", "currency": "USD", "amount": "240.00", "invoices": [ONE, TWO]}
    ]
    assert api.get("/payment-requests?currency=USD&threshold=240.01")["items"] == []
    assert api.get("/customers/acme/account")["owed"][0]["overdue"] == "240.00"


def test_what_is_overdue_is_listed_in_pages_however_much_it_is(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.apply('[[customers]]\nkey = "zeta"\ncurrency = "USD"\n')
    line = {"name": "Setup", "amount": "1"}
    for customer in ("zeta", "acme", "acme", "zeta", "acme"):
        api.post("/invoices", {"customer": customer, "lines": [line]})
    api.clock.set("2026-09-01T00:00:00Z")
    monkeypatch.setattr(payments, "HEADS_AT_ONCE", 2)
    first = api.get("/payment-requests?currency=USD&limit=1")
    assert [(one["customer"], one["amount"]) for one in first["items"]] == [("acme", "3.00")]
    rest = api.get(f"/payment-requests?currency=USD&limit=1&cursor={first['next_cursor']}")
    assert [(one["customer"], one["amount"]) for one in rest["items"]] == [("zeta", "2.00")]
    assert rest["next_cursor"] is None
