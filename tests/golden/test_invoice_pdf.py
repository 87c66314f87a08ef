"""What a person reads on the PDF, in four currencies and locales."""

import io
from decimal import Decimal

import msgspec
import pytest
from pypdf import PdfReader

from tallybook.adapters.typst.invoice_pdf import render_invoice, render_pages
from tallybook.invoice.audit.chart import UsageChart, usage_charts
from tallybook.invoice.document import Invoice
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import preview
from tests.support.billing_world import TENANT, World, at

CATALOG = """
[seller]
name = "Northwind Metering GmbH"
address = ["Speicherstraße 12", "20457 Hamburg"]
tax_id = "DE123456789"
notes = ["Please quote the invoice number."]

[[meters]]
key = "requests"
event_type = "t"
aggregation = "COUNT"
group_by = {{ region = "$.region" }}

[[plans]]
key = "web"
currency = "{currency}"
[[plans.charges]]
key = "requests"
name = "HTTP requests"
meter = "requests"
{split}
price = {{ type = "graduated", tiers = [
  {{ up_to = 1000, unit_amount = "1.5" }},
  {{ unit_amount = "0.00075" }},
] }}

[[customers]]
key = "acme"
name = '{name}'
address = ["1 Main Street"]
currency = "{currency}"
locale = "{locale}"
subjects = ["s"]

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = 2026-05-01
"""


def world(
    currency: str = "USD", locale: str = "en_US", name: str = "Acme", split: str = ""
) -> World:
    made = World()
    made.apply(CATALOG.format(currency=currency, locale=locale, name=name, split=split))
    return made


def use(made: World, count: int, day: str = "2026-05-17", data: str = "{}") -> None:
    event = made.event(day, data=data)
    more = [msgspec.structs.replace(event, id=f"{event.id}-{n}") for n in range(1, count)]
    made.usage.add(TENANT, more)


def text_of(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)


def only(made: World) -> tuple[Invoice, tuple[UsageChart, ...]]:
    (invoice,) = made.invoices()
    return invoice, usage_charts(made.billing, invoice)


@pytest.mark.parametrize(
    ("currency", "locale", "total", "unit", "date", "words"),
    [
        ("USD", "en_US", "$1,500.15", "$0.00075", "Jan 1, 2027", "Page 1 of 1|Tier 1, up to 1,000"),
        (
            "EUR",
            "de_DE",
            "1.500,15\N{NO-BREAK SPACE}€",
            "0,00075\N{NO-BREAK SPACE}€",
            "01.01.2027",
            "Seite 1 von 1|Stufe 1, bis 1.000",
        ),
        ("JPY", "ja_JP", "¥1,500", "¥0.00075", "2027/01/01", "1 / 1 ページ|第1段階、1,000 まで"),
        (
            "KWD",
            "en_KW",
            "KWD\N{NO-BREAK SPACE}1,500.150",
            "KWD\N{NO-BREAK SPACE}0.00075",
            "Jan 1, 2027",
            "Page 1 of 1|Tier 1, up to 1,000",
        ),
    ],
)
def test_money_and_dates_are_those_of_the_locale(
    currency: str, locale: str, total: str, unit: str, date: str, words: str
) -> None:
    made = world(currency, locale)
    use(made, 1200)
    made.bill("2026-05")
    invoice, charts = only(made)
    assert Decimal(invoice.total) == Decimal(
        total.translate({ord(c): None for c in "$,.€¥KWD\xa0"})
    ).scaleb({"JPY": 0, "KWD": -3}.get(currency, -2))
    text = text_of(render_invoice(invoice, charts)).replace("\N{NO-BREAK SPACE}", " ")
    for wanted in (total, unit, date):
        assert wanted.replace("\N{NO-BREAK SPACE}", " ") in text
    for wanted in (
        "Northwind Metering GmbH",
        "Acme",
        "INV-000001",
        "HTTP requests",
        *words.split("|"),
    ):
        assert wanted in text


def test_the_same_invoice_has_the_same_bytes() -> None:
    made = world()
    use(made, 5)
    made.bill("2026-05")
    invoice, charts = only(made)
    assert render_invoice(invoice, charts) == render_invoice(invoice, charts)


def test_names_are_text_and_never_code() -> None:
    name = '#panic("x") *bold* $x^2$ \\ "quoted" ] }'
    made = world(name=name)
    use(made, 5)
    made.bill("2026-05")
    invoice, charts = only(made)
    text = text_of(render_invoice(invoice, charts))
    assert '#panic("x") *bold* $x^2$' in text


def test_a_long_invoice_repeats_its_header_and_counts_its_pages() -> None:
    made = world(split='split_by = "region"')
    for n in range(80):
        use(made, 2, data=f'{{"region":"zone-{n}"}}')
    made.bill("2026-05")
    invoice, charts = only(made)
    pages = PdfReader(io.BytesIO(render_invoice(invoice, charts))).pages
    assert len(pages) > 1
    assert all("Unit price" in page.extract_text() for page in pages[:-1])
    assert f"Page 2 of {len(pages)}" in pages[1].extract_text()
    assert len(render_pages(invoice)) == len(pages)


def test_an_adjustment_in_the_customers_favour_says_so() -> None:
    made = world()
    use(made, 7)
    made.bill("2026-05")
    made.apply(
        CATALOG.format(currency="USD", locale="en_US", name="Acme", split="").replace('["s"]', "[]")
    )
    made.bill("2026-06")
    invoice = made.invoices()[-1]
    text = text_of(render_invoice(invoice, usage_charts(made.billing, invoice)))
    assert "In your favour" in text
    assert "Adjustment for May 1, 2026" in text
    assert "Billed on earlier invoices" in text
    assert "Payable by" not in text


def test_a_draft_says_so() -> None:
    made = world()
    use(made, 7)
    draft = preview(made.billing, BillRequest(until_us=at("2026-05-20")), "acme")
    assert draft is not None
    assert "Draft invoice" in text_of(render_invoice(draft.invoice))


def test_a_chart_zooms_to_where_the_usage_is() -> None:
    made = world()
    use(made, 3, "2026-05-17T14:05:30Z")
    made.bill("2026-05")
    _, (chart,) = only(made)
    assert (chart.size, len(chart.bars)) == ("MINUTE", 60)
    (invoice,) = made.invoices()
    assert "per minute · May 17, 2026" in text_of(render_invoice(invoice, [chart]))
    assert [bar.value for bar in chart.bars if bar.value != "0"] == ["3"]
    use(made, 1, "2026-05-18T14:05:30Z")
    made.bill("2026-05")
    last = made.invoices()[-1]
    (daily,) = usage_charts(made.billing, last)
    assert (daily.size, len(daily.bars)) == ("DAY", 31)
