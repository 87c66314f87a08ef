"""What no calendar, line or ledger can hold is refused where it comes in, and names its field."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill
from tallybook.invoice.run.work import alone_at_fault
from tallybook.kernel.errors import Corrupt
from tests.support.api import Api

CATALOG = """
[[taxes]]
key = "vat"
rate = "20"

[[plans]]
key = "web"
currency = "USD"
taxes = ["vat"]
[[plans.charges]]
key = "fee"
price = { type = "flat", amount = "100" }

[[customers]]
key = "acme"
currency = "USD"
zone = "Asia/Tokyo"

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = 2025-11-01

[[wallets]]
key = "w"
customer = "acme"
currency = "USD"
"""
LINE = {"name": "n", "amount": "1"}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path) as made:
        made.apply(CATALOG)
        yield made


def still_billed(api: Api) -> None:
    run = bill(api.world.billing("default"), BillRequest(period="2025-11"))
    assert (run.invoices, run.parked) == (1, ())


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ({"amount": "NaN"}, "lines.amount"),
        ({"amount": "1e400"}, "lines.amount"),
        ({"amount": "99999999999", "quantity": "10"}, "lines.amount"),
        ({"quantity": "NaN"}, "lines.quantity"),
        ({"quantity": "0"}, "lines.quantity"),
        ({"quantity": "Infinity"}, "lines.quantity"),
        ({"name": " "}, "lines.name"),
        ({"name": "n" * 129}, "lines.name"),
        ({"unit": "a\u0000b"}, "lines.unit"),
        ({"taxes": ["no such tax"]}, "taxes"),
        ({"taxes": ["gst"]}, "taxes"),
        ({"shares": [{"party": "p", "percent": "101"}]}, "shares"),
        ({"shares": [{"party": "p", "percent": "-1"}]}, "shares.percent"),
        ({"shares": [{"party": "p", "percent": "NaN"}]}, "lines.shares.percent"),
    ],
)
@pytest.mark.parametrize("later", [True, False])
def test_a_charge_that_no_invoice_can_hold_never_waits_for_one(
    api: Api, line: dict[str, Any], field: str, *, later: bool
) -> None:
    body = {"customer": "acme", "lines": [LINE | line], "later": later}
    status, told = api.call("POST", "/invoices", body)
    assert status in {400, 404, 409}, told
    if later or field != "taxes":
        assert told["field"] == field
    still_billed(api)


def test_payments_have_the_name_of_an_account_and_words_on_one_line(api: Api) -> None:
    payment = {"customer": "acme", "amount": "1", "method": "bank"}
    for field, text in [("method", ""), ("method", "m" * 129), ("reference", "r" * 129)]:
        assert api.post("/payments", payment | {field: text}, 400)["field"] == field
    assert api.post("/payments", payment | {"reference": "a\u0000b"}, 400)["field"] == "reference"
    made = api.post("/payments", payment | {"reference": " thanks "})
    assert made["reference"] == "thanks"
    reason = {"reason": "x" * 1025}
    assert api.post(f"/payments/{made['id']}/reverse", reason, 400)["field"] == "reason"


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1899-12-31"])
def test_periods_are_counted_from_dates_that_the_calendar_has(api: Api, at: str) -> None:
    new = {"key": "s9", "customer": "acme", "plan": "web", "start": "2025-11-01"}
    assert api.post("/subscriptions", new | {"start": at}, 400)["field"] == "start"
    assert api.post("/subscriptions", new | {"anchor": at}, 400)["field"] == "anchor"
    anchor = {"anchor": at}
    assert api.post("/subscriptions/acme/anchor", anchor, 400)["field"] == "anchor"
    assert api.get("/subscriptions/acme")["state"] == "active"
    still_billed(api)


def test_a_top_up_that_the_ledger_cannot_hold_is_refused(api: Api) -> None:
    told = api.post("/wallets/w/top-ups", {"amount": "1000000000000000"}, 400)
    assert told["field"] == "amount"
    api.post("/wallets/w/top-ups", {"amount": "999999999999999.99"})


def test_a_failure_over_one_payer_is_that_payers() -> None:
    reason = "billing acme failed: OverflowError: too far"
    with pytest.raises(Corrupt, match=reason) as told, alone_at_fault("acme"):
        raise OverflowError("too far")
    assert told.value.code == "bug"
    with alone_at_fault("acme"):
        pass
