"""What a person reads on documents, in four languages; PDF/A-3b with Factur-X by veraPDF."""

import base64
import io
import struct
import zlib
from decimal import Decimal
from pathlib import Path

import facturx
import msgspec
import pytest
from pypdf import PdfReader

from tallybook.adapters.einvoice.cii import cii
from tallybook.adapters.einvoice.from_invoice import bill_of
from tallybook.adapters.einvoice.from_note import bill_of_note
from tallybook.adapters.typst import invoice_pdf
from tallybook.adapters.typst.factur_x import with_factur_x
from tallybook.adapters.typst.invoice_pdf import compiled, render_invoice, render_pages
from tallybook.adapters.typst.letters import BOX, boxed
from tallybook.adapters.typst.note_pdf import render_note, render_note_pages
from tallybook.adapters.typst.parts import STEPS_MAX, Writer, grouped_iban
from tallybook.adapters.typst.phrases import PHRASES, translated
from tallybook.adapters.typst.spelling import Spelling
from tallybook.adapters.typst.wording import LANGUAGES, labels
from tallybook.catalog.customer import Bank, Place
from tallybook.invoice.document import DRAFT_NUMBER, Party
from tallybook.kernel.errors import Corrupt, Invalid
from tallybook.rate.step import Step
from tests.support.e_rules import pdfa_errors
from tests.support.sample_invoice import (
    line,
    sample_chart,
    sample_invoice,
    sample_note,
    tax_total,
    tiers,
)

VAT = tax_total()
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 40">'
    '<rect width="40" height="40" fill="#0f6b6b"/></svg>'
)
LOGO = "data:image/svg+xml;base64," + base64.b64encode(SVG.encode()).decode()


def png() -> str:
    """Return a small picture with transparency as a data URL."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    rows = b"".join(b"\0" + b"\x0f\x6b\x6b\x80" * 8 for _ in range(8))
    head = struct.pack(">IIBBBBB", 8, 8, 8, 6, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
    return "data:image/png;base64," + base64.b64encode(content + chunk(b"IEND", b"")).decode()


def text_of(pdf: bytes) -> str:
    text = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


WORDS = {
    ("en_US", "EUR"): (
        "Invoice", "Page 1 of 2", "Payable by", "Jun 14, 2026", "Tier 2, over 1,000 up to 10,000",
        "€180.00", "Adjustment for Apr 1, 2026 – Apr 30, 2026", "Billed on earlier invoices",
        "Subtotal €553.46", "Discount: May offer", "-€50.00", "Credit CN-000007",
        "Prepaid credit: 1,500 credits", "Total due", "€2,542.44", "Payment reference",
        "DE02 1203 0000 0000 2020 51", "HTTP requests, requests per day",
    ),
    ("de_DE", "EUR"): (
        "Rechnung", "Seite 1 von 2", "Zahlbar bis", "14.06.2026", "Stufe 3, über 10.000",
        "180,00 €", "Korrektur für 01.04.2026 – 30.04.2026", "Bereits berechnet",
        "Zwischensumme 553,46 €", "Rabatt: May offer", "-50,00 €", "Gutschrift CN-000007",
        "Guthaben: 1.500 credits", "Zahlbetrag", "2.542,44 €", "Verwendungszweck", "1. Mai",
        "USt-IdNr. DE987654321", "tier: (ohne)",
    ),
    ("fr_FR", "KWD"): (
        "Facture", "Page 1 sur 2", "À payer avant le", "14 juin 2026", "Tranche 1, jusqu’à 1 000",
        "18,000 KWD", "12,3455 KWD", "Déjà facturé", "Remise : May offer", "-5,000 KWD",
        "Net à payer", "1 990,335 KWD", "Référence de paiement", "HTTP requests, requests par jour",
    ),
    ("ja_JP", "JPY"): (
        "請求書", "1 / 2 ページ", "お支払期限", "2026/06/14", "株式会社アクメ 御中", "請求済み",
        "¥18,000", "値引き May offer", "-¥5,000", "ご請求金額", "¥63,274", "振込時の参照番号",
        "5月1日",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("locale", "currency"), WORDS)
def test_it_is_written_in_the_customers_language(locale: str, currency: str) -> None:
    invoice = sample_invoice(
        locale, currency, taxes=(VAT,), discount_minor=5000, credit_minor=1000, prepaid_minor=2500
    )
    text = text_of(render_invoice(invoice, [sample_chart()], logo=LOGO))
    for wanted in WORDS[locale, currency]:
        assert wanted in text, text
    assert "\ufffd" not in text


@pytest.mark.parametrize("locale", ["en_US", "de_DE", "fr_FR", "ja_JP"])
def test_credit_notes_too(locale: str) -> None:
    note = sample_note(sample_invoice(locale, taxes=(VAT,)))
    words = labels(locale[:2])
    text = text_of(render_note(note, logo=LOGO, void=True))
    for wanted in (words.credit_note, "CN-000003", "INV-000042", words.credit_total,
                   words.set_off.format("INV-000042"), words.credited, words.void,
                   "Outage of 12 May"):  # fmt: skip
        assert wanted in text, text
    assert words.refunded not in text
    untaxed = text_of(render_note(sample_note(sample_invoice(locale, taxes=()))))
    assert words.base not in untaxed
    assert len(render_note_pages(note)) == 1


def test_every_language_has_every_word() -> None:
    english = msgspec.structs.asdict(labels("en"))
    for language in LANGUAGES:
        for name, word in msgspec.structs.asdict(labels(language)).items():
            assert word, (language, name)
            if isinstance(word, str):
                assert ("{0}" in word, "{1}" in word) == (
                    "{0}" in english[name],
                    "{1}" in english[name],
                ), (language, name)
            else:
                assert word.keys() == english[name].keys()
    assert labels("pt") is labels("en")
    for phrase in PHRASES:
        assert phrase.words.keys() == {"de", "fr", "ja"}


@pytest.mark.parametrize(
    ("text", "german"),
    [
        ("tier 2, over 10 up to 1000", "Stufe 2, über 10 bis 1.000"),
        ("tier 1, all units, any quantity", "Stufe 1, alle Einheiten, jede Menge"),
        ("tier 1, up to 5, flat", "Stufe 1, bis 5, pauschal"),
        ("from 2026-05-17", "ab 17.05.2026"),
        ("10 of 31 days", "10 von 31 Tagen"),
        ("minimum of 30 × 10 of 31 days", "Mindestbetrag 30, 10 von 31 Tagen"),
        ("model {x} 2024", "model {x} 2024"),
        ("1110 ÷ 1000 = 1.11, rounded up to 2", "1.110 ÷ 1.000 = 1,11, aufgerundet auf 2"),
        ("2.5 % of tier 1, up to 1000", "2,5 % von Stufe 1, bis 1.000"),
    ],
)
def test_steps_are_translated(text: str, german: str) -> None:
    spell = Spelling("de_DE", "EUR", "UTC").word
    assert translated(text, "de", spell) == german


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (Step(text="fixed fee: 49", amount="49"), ""),
        (
            Step(text="fixed fee: 49 × 10 of 31 days = 15.806451612903", amount="15.806451612903"),
            "49,00 € × 10 von 31 Tagen",
        ),
        (
            Step(
                text="fixed fee: 49 × 446400000000 of 2678400000000 microseconds = 8.17",
                amount="8.17",
            ),
            "49,00 € × 124 von 744 Stunden",
        ),
        (
            Step(
                text="from 2026-05-22: 3 × 25 × 10 of 31 days = 24.193548387097",
                amount="24.193548387097",
                quantity="3",
                unit_amount="25",
            ),
            "Ab 22.05.2026: 10 von 31 Tagen",
        ),
        (
            Step(
                text="from 2026-05-01: 5 × 10 = 50, × 10 of 31 days = 16.129032258065",
                amount="16.129032258065",
                quantity="5",
            ),
            "Ab 01.05.2026: 10 von 31 Tagen",
        ),
        (
            Step(text="committed: 100 × 10 of 31 days = 32.26", amount="32.26"),
            "Zugesagt: 100,00 € × 10 von 31 Tagen",
        ),
        (Step(text="charged: 12.00", amount="-12.00"), "Berechnet"),
        (Step(text="one-off: 250", amount="250"), ""),
    ],
)
def test_steps_are_said_in_short(step: Step, said: str) -> None:
    fee = line(1, "X", 100, step.quantity or "1", "EUR", steps=(step,))
    words = Writer("de_DE", "EUR", "UTC").line(fee, many=False)
    notes = words["notes"]
    assert isinstance(notes, list)
    assert [note.replace("\N{NO-BREAK SPACE}", " ") for note in notes[1:]] == [said] * bool(said)


def test_english_steps_have_their_numbers_spelled() -> None:
    spell = Spelling("en_US", "USD", "UTC").word
    assert translated("tier 2, over 1000", "en", spell) == "tier 2, over 1,000"
    assert translated("from 2026-05-17T10:00:00Z", "pt", spell).startswith("from May 17, 2026")


def test_it_says_what_state_it_is_in() -> None:
    invoice = sample_invoice("de_DE", taxes=(VAT,))
    void = text_of(render_invoice(invoice, void=True))
    assert "STORNIERT" in void
    assert "IBAN" not in void
    draft = msgspec.structs.replace(invoice, number=DRAFT_NUMBER)
    text = text_of(render_invoice(draft))
    assert "ENTWURF" in text
    assert "Rechnungsentwurf" in text
    assert "Verwendungszweck" not in text
    again = sample_invoice("en_US", taxes=(VAT,), replaces="INV-000041")
    assert "Replaces invoice INV-000041" in text_of(render_invoice(again))


def test_the_lines_of_each_customer_stand_under_its_name() -> None:
    text = text_of(render_invoice(sample_invoice("en_US", taxes=(VAT,))))
    north = text.index("Acme North")
    assert text.index("Platform fee") < north < text.index("Setup of a dedicated")
    alone = sample_invoice(lines=(tiers(1, "EUR", VAT.tax),), taxes=(VAT,))
    assert "Subtotal" not in text_of(render_invoice(alone))


def test_taxes_say_why_nothing_is_charged() -> None:
    text = text_of(render_invoice(sample_invoice("de_DE", taxes=(tax_total("AE", "0"),))))
    assert "Steuerschuldnerschaft des Leistungsempfängers" in text
    text = text_of(render_invoice(sample_invoice("de_DE", taxes=(tax_total(inclusive=True),))))
    assert "in den Preisen enthalten" in text
    assert "Enthaltene Steuer" in text
    own = sample_invoice("de_DE", taxes=(tax_total("E", "0", reason="§ 4 Nr. 21 UStG"),))
    assert "§ 4 Nr. 21 UStG" in text_of(render_invoice(own))


def test_what_is_in_the_customers_favour_is_carried_and_not_asked_for() -> None:
    credit = line(1, "Fee", -1000, "-1", "EUR", tax=VAT.tax)
    text = text_of(render_invoice(sample_invoice("en_US", lines=(credit,), taxes=(VAT,))))
    assert "In your favour" in text
    assert "€11.90 is credited to your account" in text
    assert "IBAN" not in text
    back = sample_invoice("en_US", taxes=(VAT,), taken_back="1.00", taken_back_minor=100)
    assert "Earlier discounts taken back" in text_of(render_invoice(back))


def test_without_a_bank_the_reference_is_named() -> None:
    invoice = sample_invoice("en_US", taxes=(), bank=Bank(), reference="", terms="")
    text = text_of(render_invoice(invoice))
    assert "Payment reference" in text
    assert "IBAN" not in text
    assert grouped_iban("DE02 120300000000202051") == "DE02 1203 0000 0000 2020 51"


def test_an_address_may_be_a_place() -> None:
    place = Place(street="1 Main Street", city="Springfield", postal_code="12345", country="US")
    party = Party(name="Acme", address=(), email="", tax_id="", place=place)
    text = text_of(render_invoice(sample_invoice(customer=party)))
    assert "1 Main Street\n12345 Springfield\nUnited States" in text
    german = text_of(render_invoice(sample_invoice("de_DE", customer=party)))
    assert "Vereinigte Staaten" in german


def test_many_steps_are_counted_and_not_printed() -> None:
    steps = tuple(
        Step(
            text=f"tier {n}, over {n}: 1 × 1 = 1", amount="1", quantity="1", unit_amount="1", tier=n
        )
        for n in range(1, STEPS_MAX + 4)
    )
    long = line(1, "Usage", 2300, "23", "EUR", steps=steps)
    text = text_of(render_invoice(sample_invoice(lines=(long,), taxes=())))
    assert "and 3 more steps" in text


def test_a_logo_is_drawn_or_refused() -> None:
    invoice = sample_invoice(taxes=(VAT,))
    plain = render_invoice(invoice)
    for logo in (LOGO, png()):
        assert render_invoice(invoice, logo=logo) != plain
    for logo in (
        "data:image/png;base64,aGVsbG8=",
        "data:image/png;base64,a",
        "data:image/svg+xml;base64,/////w==",
    ):
        with pytest.raises(Invalid) as refused:
            render_invoice(invoice, logo=logo)
        assert refused.value.field == "seller.logo"


def test_dates_whose_letters_no_font_has_are_in_digits() -> None:
    say = Spelling("ar_KW", "KWD", "UTC")
    assert say.day("2026-05-31T00:00:00Z") == "2026-05-31"
    assert say.window("2026-05-31T10:30:00Z", "HOUR") == "10:30"
    assert Spelling("xx_YY", "EUR", "UTC").money("1.5") == "€1.50"
    assert Spelling("en_KW", "KWD", "UTC").money("1.5") == "KWD 1.500".replace(" ", "\xa0")
    english = Spelling("en_US", "USD", "UTC")
    assert english.span("2026-05-31T00:00:00Z", "2026-05-31T00:00:00Z") == "May 31, 2026"
    assert english.span("2026-05-31T00:00:00Z", "2026-06-01T00:00:00Z") == "May 31, 2026"
    assert english.span("2026-05-31T00:00:00Z", "2026-05-31T10:30:00Z").endswith("AM")


def test_it_is_pdf_a_with_the_invoice_inside(tmp_path: Path) -> None:
    invoice = sample_invoice("de_DE", taxes=(VAT,), discount_minor=5000)
    xml = cii(bill_of(invoice))
    note = sample_note(invoice)
    made = {
        "facturx": render_invoice(invoice, [sample_chart()], logo=LOGO, xml=xml),
        "void": render_invoice(invoice, logo=png(), void=True),
        "ja": render_invoice(sample_invoice("ja_JP", "JPY", taxes=(VAT,)), [sample_chart()]),
        "note": render_note(note, xml=cii(bill_of_note(note))),
    }
    for name, content in made.items():
        (tmp_path / f"{name}.pdf").write_bytes(content)
    name, attached = facturx.get_xml_from_pdf(made["facturx"], check_xsd=True)
    assert name == "factur-x.xml"
    assert attached.decode() == xml
    root = PdfReader(io.BytesIO(made["facturx"])).trailer["/Root"]
    assert root["/AF"][0].get_object()["/AFRelationship"] == "/Alternative"
    assert root["/OutputIntents"]
    xmp = root["/Metadata"].get_object().get_data().decode()
    for wanted in (
        "<pdfaid:part>3</pdfaid:part>",
        "<pdfaid:conformance>B</pdfaid:conformance>",
        "<fx:ConformanceLevel>EN 16931</fx:ConformanceLevel>",
        "<fx:DocumentFileName>factur-x.xml</fx:DocumentFileName>",
    ):
        assert wanted in xmp
    assert pdfa_errors(sorted(tmp_path.iterdir())) == []


def test_letters_that_no_font_has_are_boxes(tmp_path: Path) -> None:
    for at, name in enumerate(("a\x07b", "ก", "\U0001f9ff\u0378", "नमस्ते", "한국 中国 Ωя")):
        invoice = sample_invoice(lines=(line(1, f"Tea {name}", 100, "1", "EUR"),), taxes=())
        content = render_invoice(invoice)
        (tmp_path / f"{at}.pdf").write_bytes(content)
        assert "Tea" in text_of(content)
        assert render_pages(invoice)
    assert pdfa_errors(sorted(tmp_path.iterdir())) == []
    assert boxed({"a": ["x\x07ก", 1, None]}) == {"a": [f"x{BOX}{BOX}", 1, None]}
    beyond = {"title": "a", "number": "", "lang": "en", "seller": {"name": "s", "lines": []}}
    with pytest.raises(Corrupt, match="cannot be typeset"):
        compiled(beyond, 0, "pdf")


def test_a_letter_that_even_boxes_miss_makes_a_plain_pdf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invoice_pdf, "boxed", lambda words: words)
    invoice = sample_invoice(lines=(line(1, "\x07", 100, "1", "EUR"),), taxes=())
    assert b"pdfaid" not in render_invoice(invoice)


def test_a_pdf_of_another_make_is_not_touched() -> None:
    with pytest.raises(Corrupt):
        with_factur_x(b"%PDF-1.4\n%%EOF")


def test_two_thousand_lines_have_a_header_on_every_page() -> None:
    lines = tuple(
        msgspec.structs.replace(tiers(n, "EUR", VAT.tax), name=f"HTTP requests of zone {n}")
        if n % 3
        else line(n, f"Seats {n}", 12345, "3", "EUR", tax=VAT.tax)
        for n in range(1, 2001)
    )
    invoice = sample_invoice("en_US", lines=lines, taxes=(VAT,))
    pages = PdfReader(io.BytesIO(render_invoice(invoice, xml=cii(bill_of(invoice))))).pages
    assert len(pages) > 100
    for at in (0, 1, len(pages) // 2, len(pages) - 2):
        text = pages[at].extract_text()
        assert "Unit price" in text
        assert f"Page {at + 1} of {len(pages)}" in text
    assert Decimal(invoice.total) > 0
    assert "Total due" in pages[-1].extract_text()


@pytest.mark.parametrize(("locale", "currency"), WORDS)
def test_pages_for_looking_at_are_pictures(locale: str, currency: str) -> None:
    pages = render_pages(sample_invoice(locale, currency), logo=LOGO)
    assert all(page.startswith(b"\x89PNG") for page in pages)
