"""Documents of a real server: PDF with the e-invoice inside, XML in both syntaxes, refusals."""

import io
import json
from pathlib import Path

import httpx2
import pytest
from pypdf import PdfReader

from tests.e2e.server import Server, asked
from tests.support.e_rules import cii_errors, peppol_errors, ubl_errors

CATALOG = """
[seller]
name = "Northwind Metering GmbH"
tax_id = "DE123456789"
email = "billing@northwind.example"
taxes = ["vat"]
terms = "Payable within 14 days."
bank = { name = "Bank", iban = "DE89 3704 0044 0532 0130 00", bic = "COBADEFFXXX" }
place = { street = "Speicherstraße 12", city = "Hamburg", postal_code = "20457", country = "DE", \
endpoint = "9930:DE123456789", contact = "Accounting", phone = "+49 40 1234" }

[[taxes]]
key = "vat"
name = "USt. 19 %"
rate = 19

[[meters]]
key = "requests"
event_type = "req"
aggregation = "COUNT"

[[plans]]
key = "web"
currency = "EUR"
[[plans.charges]]
key = "requests"
name = "Requests"
meter = "requests"
price = { type = "graduated", tiers = [{ up_to = 2, unit_amount = 1 }, { unit_amount = "0.333" }] }

[[customers]]
key = "acme"
name = "Acme Europe SAS"
currency = "EUR"
locale = "de_DE"
tax_id = "FR12345678901"
subjects = ["a"]
reference = "PO-1"
place = { street = "1 Rue X", city = "Paris", postal_code = "75008", country = "FR", \
endpoint = "9957:FR12345678901" }

[[customers]]
key = "nowhere"
currency = "EUR"
subjects = ["b"]

[[customers]]
key = "waits"
currency = "EUR"
locale = "ja_JP"
subjects = ["c"]
grace_days = 3

[[subscriptions]]
key = "waits"
customer = "waits"
plan = "web"
start = 2026-05-01

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = 2026-05-01

[[subscriptions]]
key = "nowhere"
customer = "nowhere"
plan = "web"
start = 2026-05-01
"""


@pytest.fixture(scope="module")
def server(shared_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp("documents")
    running = shared_server.tenant("documents")
    (folder / "catalog.toml").write_text(CATALOG)
    running.tallybook("apply", str(folder / "catalog.toml"), "--yes")
    events = [
        {"specversion": "1.0", "id": f"{who}{n}", "source": "/t", "type": "req", "subject": who,
         "time": f"2026-05-{n + 1:02}T00:00:00Z", "data": {}}
        for who in "abc" for n in range(5)
    ]  # fmt: skip
    running.post("/api/v1/events", json.dumps(events), "application/cloudevents-batch+json")
    running.caught_up()
    running.tallybook("bill", "--period", "2026-05")
    return running


def get(server: Server, path: str) -> httpx2.Response:
    return asked(
        "GET",
        f"{server.url}/api/v1{path}",
        headers={"Authorization": f"Bearer {server.key}"},
    )


def numbers(server: Server) -> dict[str, str]:
    found = get(server, "/invoices").json()["items"]
    return {one["customer"]: one["number"] for one in found}


def test_the_e_invoice_is_served_and_is_inside_the_pdf(server: Server) -> None:
    number = numbers(server)["acme"]
    answer = get(server, f"/invoices/{number}.xml")
    assert answer.headers["content-type"].startswith("application/xml")
    assert cii_errors(answer.text) == []
    ubl = get(server, f"/invoices/{number}.xml?format=ubl").text
    assert ubl_errors(ubl) == []
    assert peppol_errors(ubl) == []
    assert get(server, f"/invoices/{number}.xml?format=x").status_code == 400
    pdf = get(server, f"/invoices/{number}.pdf").content
    reader = PdfReader(io.BytesIO(pdf))
    assert reader.attachments["factur-x.xml"][0].decode() == answer.text
    assert "Stufe 2, über 2" in reader.pages[0].extract_text()
    assert get(server, f"/invoices/{number}.pdf").content == pdf


def test_what_is_missing_is_named_and_the_pdf_is_there_all_the_same(server: Server) -> None:
    number = numbers(server)["nowhere"]
    answer = get(server, f"/invoices/{number}.xml")
    assert answer.status_code == 400
    assert answer.json()["code"] == "e-invoice"
    assert "customers.place.country" in answer.text
    reader = PdfReader(io.BytesIO(get(server, f"/invoices/{number}.pdf").content))
    assert not reader.attachments
    assert "Total due" in reader.pages[0].extract_text()


def test_the_commands_write_files(server: Server, tmp_path: Path) -> None:
    number = numbers(server)["acme"]
    server.tallybook("invoice", "xml", number, "--format", "ubl", "-o", str(tmp_path / "x.xml"))
    server.tallybook("invoice", "pdf", number, "-o", str(tmp_path / "x.pdf"))
    assert "urn:fdc:peppol.eu" in (tmp_path / "x.xml").read_text()
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF-")


def test_credit_notes_are_documents_too(server: Server, tmp_path: Path) -> None:
    asked = {"invoice": numbers(server)["acme"], "reason": "Outage"}
    number = server.post("/api/v1/credit-notes", json.dumps(asked))["number"]
    assert cii_errors(get(server, f"/credit-notes/{number}.xml").text) == []
    ubl = get(server, f"/credit-notes/{number}.xml?format=ubl").text
    assert ubl_errors(ubl) == []
    assert peppol_errors(ubl) == []
    assert "<cbc:BuyerReference>PO-1<" in ubl
    server.tallybook("invoice", "pdf", number, "--credit-note", "-o", str(tmp_path / "n.pdf"))
    reader = PdfReader(tmp_path / "n.pdf")
    assert "factur-x.xml" in reader.attachments
    assert "Rechnungskorrektur" in reader.pages[0].extract_text()
    server.post(f"/api/v1/credit-notes/{number}/void", "{}")
    void = PdfReader(io.BytesIO(get(server, f"/credit-notes/{number}.pdf").content))
    assert "STORNIERT" in void.pages[0].extract_text()


def test_a_voided_invoice_says_so(server: Server) -> None:
    number = numbers(server)["nowhere"]
    server.post(f"/api/v1/invoices/{number}/void", json.dumps({"reason": "Wrong customer"}))
    text = PdfReader(io.BytesIO(get(server, f"/invoices/{number}.pdf").content)).pages[0]
    assert "VOID" in text.extract_text()


def test_a_draft_has_a_pdf_that_says_so_and_no_xml(server: Server) -> None:
    (draft,) = get(server, "/invoices?state=draft").json()["items"]
    reader = PdfReader(io.BytesIO(get(server, f"/invoices/{draft['id']}.pdf").content))
    assert "下書き" in reader.pages[0].extract_text()
    assert not reader.attachments
    answer = get(server, f"/invoices/{draft['id']}.xml")
    assert (answer.status_code, answer.json()["code"]) == (400, "e-invoice")
