"""What billing itself composes, month after month, is a document that every rule passes."""

from collections.abc import Iterator
from decimal import Decimal

import pytest

from tallybook.adapters.einvoice.cii import cii
from tallybook.adapters.einvoice.from_invoice import bill_of
from tallybook.adapters.einvoice.from_note import bill_of_note
from tallybook.adapters.einvoice.ubl import ubl
from tallybook.adapters.typst.invoice_words import invoice_words
from tallybook.adapters.typst.note_words import note_words
from tallybook.invoice.document import Invoice
from tallybook.invoice.manifest import Extra
from tallybook.settle.receivable.credit_note import decode_note
from tallybook.settle.receivable.crediting import Ask
from tallybook.settle.receivable.flow import credit, put_extras, redeem
from tests.support.billing_world import at
from tests.support.e_rules import cii_errors, peppol_errors, ubl_errors
from tests.support.settled_world import SettledWorld

CATALOG = """
[seller]
name = "Northwind Metering GmbH"
tax_id = "DE123456789"
taxes = ["vat"]
place = {{ street = "Speicherstraße 12", city = "Hamburg", country = "DE", \
endpoint = "9930:DE123456789" }}

[[taxes]]
key = "vat"
name = "USt."
rate = "19"
inclusive = {inclusive}

[[taxes]]
key = "low"
name = "USt. ermäßigt"
rate = "7"

[[meters]]
key = "calls"
event_type = "t"
aggregation = "COUNT"
group_by = {{ region = "$.region" }}

[[coupons]]
key = "third"
name = "A third off"
percent = "33.3"
duration = "forever"

[[coupons]]
key = "five"
amount = "5"
currency = "EUR"

[[plans]]
key = "web"
currency = "EUR"
minimum = {{ amount = "9.99" }}
[[plans.charges]]
key = "calls"
meter = "calls"
split_by = ["region"]
price = {{ type = "graduated", tiers = [{{ up_to = 2, unit_amount = "0.333" }}, \
{{ unit_amount = "0.111", flat_amount = "1" }}] }}
[[plans.charges]]
key = "fee"
timing = "advance"
price = {{ type = "flat", amount = "31" }}
[[plans.charges]]
key = "book"
taxes = ["low"]
quantity = 3
price = {{ type = "flat", amount = "4.99" }}

[[customers]]
key = "acme"
name = "Acme"
currency = "EUR"
locale = "fr_FR"
tax_id = "FR12345678901"
subjects = ["a"]
place = {{ street = "1 Rue X", city = "Paris", postal_code = "75008", country = "FR", \
endpoint = "9957:FR12345678901" }}

[[customers]]
key = "child"
name = "Acme Lyon"
currency = "EUR"
subjects = ["c"]
parent = "acme"

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = 2026-05-11

[[subscriptions]]
key = "child"
customer = "child"
plan = "web"
start = 2026-05-20
"""


@pytest.fixture(params=["false", "true"], ids=["added", "contained"])
def world(request: pytest.FixtureRequest) -> Iterator[SettledWorld]:
    made = SettledWorld()
    made.apply(CATALOG.format(inclusive=request.param))
    for key in ("third", "five"):
        redeem(made.settling, key, "acme")
    yield made
    made.close()


def use(world: SettledWorld, day: str, count: int, subject: str, region: str) -> None:
    for _ in range(count):
        world.event(day, subject, f'{{"region": "{region}"}}')


def passes(invoice: Invoice) -> None:
    bill = bill_of(invoice)
    assert bill.total() == Decimal(invoice.total)
    assert cii_errors(cii(bill)) == []
    assert ubl_errors(ubl(bill)) == []
    assert peppol_errors(ubl(bill)) == []
    assert invoice_words(invoice)["number"] == invoice.number


def test_every_month_passes(world: SettledWorld) -> None:
    use(world, "2026-05-12", 7, "a", "eu")
    use(world, "2026-05-21", 1, "c", "us")
    world.bill("2026-05")
    use(world, "2026-05-25", 5, "c", "us")
    use(world, "2026-06-25", 50, "a", "us")
    extra = Extra(
        id="x", name="Refund of goodwill", amount=Decimal("-100.01"), start_us=at("2026-06-01"),
        end_us=at("2026-06-02"), quantity=Decimal(2),
    )  # fmt: skip
    put_extras(world.settling, "child", [extra])
    world.bill("2026-06")
    world.bill("2026-07")
    invoices = world.invoices()
    assert len(invoices) >= 3
    for invoice in invoices:
        passes(invoice)
    assert any(line.adjustment for invoice in invoices for line in invoice.lines)
    assert any(line.discount_minor for invoice in invoices for line in invoice.lines)
    assert any(line.customer == "child" for invoice in invoices for line in invoice.lines)
    assert any(invoice.carried_minor for invoice in invoices)
    assert any(invoice.credits for invoice in invoices)


def test_credit_notes_of_what_was_billed_pass(world: SettledWorld) -> None:
    use(world, "2026-05-12", 7, "a", "eu")
    world.bill("2026-05")
    (invoice,) = world.invoices()
    note = decode_note(credit(world.settling, invoice.number, Ask(reason="Outage")).body)
    bill = bill_of_note(note)
    assert bill.total() == Decimal(invoice.total)
    assert cii_errors(cii(bill)) == []
    assert ubl_errors(ubl(bill)) == []
    assert peppol_errors(ubl(bill)) == []
    assert note_words(note)["title"] == "Avoir"
