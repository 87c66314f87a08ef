"""How the document tells of percentages, combinations, credits and what stands around a price."""

import io

from pypdf import PdfReader

from tallybook.adapters.typst.invoice_pdf import render_invoice
from tests.support.billing_world import World

CATALOG = """
[seller]
name = "Northwind Metering GmbH"

[[meters]]
key = "payments"
event_type = "t"
aggregation = "SUM"
value = "$.amount"
group_by = { region = "$.region" }

[[plans]]
key = "web"
currency = "EUR"
[[plans.charges]]
key = "fee"
name = "Payment fee"
meter = "payments"
price = { type = "percentage", rate = "1.5", fixed_amount = "0.25", event_max = "4", \
free_events = 1, discount_percent = "10" }
[[plans.charges]]
key = "region"
name = "Regional surcharge"
meter = "payments"
price = { type = "matrix", dimensions = ["region"], default_unit_amount = "0.01", \
cells = [{ match = { region = "eu" }, unit_amount = "0.02" }], minimum_amount = "30" }
[[plans.charges]]
key = "credits"
name = "Compute"
meter = "payments"
price = { type = "graduated", tiers = [{ up_to = 1, unit_amount = 3 }, { unit_amount = 2 }], \
unit_conversion = { operation = "divide", factor = 1000, rounding = "ceiling" }, \
pricing_unit = { name = "CRD", conversion_rate = "0.5" } }
[[plans.charges]]
key = "share"
name = "Share"
meter = "payments"
price = { type = "percentage", rate = "2.5" }

[[customers]]
key = "acme"
currency = "EUR"
locale = "de_DE"
subjects = ["s"]

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = 2026-05-01
"""


def document() -> bytes:
    world = World()
    world.apply(CATALOG)
    for day, amount, region in ((3, 10, "eu"), (4, 100, "eu"), (5, 1000, "us")):
        data = f'{{"amount": {amount}, "region": "{region}"}}'
        world.event(f"2026-05-{day:02d}", data=data)
    world.bill("2026-05")
    (invoice,) = world.invoices()
    return render_invoice(invoice)


def test_every_stage_is_told_in_what_it_is_in() -> None:
    text = PdfReader(io.BytesIO(document())).pages[0].extract_text().replace("\xa0", " ")
    for line in (
        "1 Ereignis frei",
        "1,5 % von 1 Ereignis",
        "Fester Betrag für 1 Ereignis",
        "Höchstens, für 1 Ereignis",
        "Nachlass 10 %",
        "Region eu",
        "Mindestbetrag 30",
        "1.110 ÷ 1.000 = 1,11, aufgerundet auf 2",
        "3 CRD",
        "2 CRD",
        "CRD zu 0,5",
        "2,5 %",
    ):
        assert line in text, text
    for amount in ("5,18 €", "30,00 €", "2,50 €", "27,75 €"):
        assert amount in text, text
