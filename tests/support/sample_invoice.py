"""An invoice with everything that documents show, in any language and currency, made by hand."""

from decimal import Decimal

import msgspec

from tallybook.catalog.customer import Bank, Customer, Place, Seller
from tallybook.catalog.price import UnitPrice
from tallybook.invoice.audit.chart import Bar, UsageChart
from tallybook.invoice.document import Invoice, Party, TaxTotal
from tallybook.invoice.funds import CouponUsed, CreditUsed, WalletUsed
from tallybook.invoice.line import Line, LineTax, MeterRef, Total
from tallybook.invoice.manifest import Manifest
from tallybook.kernel.money import allocate, exponent, money_text
from tallybook.kernel.timestamps import format_us, parse_rfc3339
from tallybook.rate.step import Step
from tallybook.settle.receivable.credit_note import CreditNote, NoteLine, NoteManifest

SELLER = Seller(
    name="Northwind Metering GmbH",
    address=("Speicherstraße 12", "20457 Hamburg", "Deutschland"),
    email="billing@northwind.example",
    tax_id="DE123456789",
    notes=("Thank you for your business.",),
    place=Place(
        street="Speicherstraße 12",
        city="Hamburg",
        postal_code="20457",
        country="DE",
        endpoint="9930:DE123456789",
        registration="HRB 12345",
        contact="Accounting",
        phone="+49 40 123456",
    ),
    bank=Bank(name="Hanseatische Bank", iban="DE02120300000000202051", bic="BYLADEM1001"),
    terms="Payable within 14 days without deduction.",
)
CUSTOMERS = {
    "en": ("Acme Web Services Ltd", ("1 Main Street", "London EC1A 1BB", "United Kingdom")),
    "de": ("Müller & Söhne Logistik GmbH", ("Königsallee 7", "40212 Düsseldorf")),
    "fr": ("Société Générale des Eaux", ("12, rue de l’Élysée", "75008 Paris")),
    "ja": ("株式会社アクメ", ("〒100-0001", "東京都千代田区千代田1-1", "アクメビル8階")),
}
PLACE = Place(
    street="Königsallee 7",
    city="Düsseldorf",
    postal_code="40212",
    country="DE",
    endpoint="9930:DE987654321",
)
VAT = TaxTotal(
    tax="vat",
    name="VAT",
    rate="19",
    inclusive=False,
    category="S",
    reason="",
    base="0",
    base_minor=0,
    amount="0",
    amount_minor=0,
)
AT = "2026-05-{:02}T00:00:00Z"


def _us(text: str) -> int:
    found = parse_rfc3339(text)
    assert found is not None
    return found


def tax_total(
    category: str = "S",
    rate: str = "19",
    *,
    inclusive: bool = False,
    name: str = "",
    reason: str = "",
) -> TaxTotal:
    return msgspec.structs.replace(
        VAT,
        tax=f"{category}{rate}{inclusive}",
        name=name or f"VAT {rate} %",
        rate=rate,
        inclusive=inclusive,
        category=category,
        reason=reason,
    )


def line(  # noqa: PLR0917 - a line is what it is
    position: int,
    name: str,
    amount_minor: int,
    quantity: str,
    currency: str,
    unit: str = "",
    steps: tuple[Step, ...] = (),
    tax: str = "",
    **more: object,
) -> Line:
    amount = money_text(amount_minor, currency)
    total = Total(quantity=quantity, amount=amount, events=3)
    zero = Total(quantity="0", amount=money_text(0, currency), events=0)
    made = Line(
        id=f"line_{position}",
        position=position,
        subscription="acme-web",
        plan="web",
        plan_version=1,
        charge=f"charge-{position}",
        name=name,
        adjustment=False,
        period_start=AT.format(1),
        period_end="2026-06-01T00:00:00Z",
        until="2026-06-01T00:00:00Z",
        dimensions={},
        meter=MeterRef(key="m", version=1, aggregation="SUM") if steps else None,
        unit=unit,
        cut=1,
        quantity=quantity,
        amount=amount,
        amount_minor=amount_minor,
        events=3 if steps else 0,
        price=UnitPrice(unit_amount=Decimal(1)),
        steps=steps,
        now=total,
        before=zero,
        net=amount,
        net_minor=amount_minor,
        base=amount,
        base_minor=amount_minor,
        taxes=(LineTax(tax=tax, amount="0", amount_minor=0),) if tax else (),
    )
    return msgspec.structs.replace(made, **more)


def tiers(position: int, currency: str, tax: str = "", **more: object) -> Line:
    """A graduated price: 1,000 free, then two tiers."""
    unit = Decimal(10) ** -exponent(currency)
    low, high = unit * 2, unit
    first, second = 9000 * low, Decimal("12345.5") * high
    steps = (
        Step(text="tier 1, up to 1000: 1000 × 0 = 0", amount="0", quantity="1000", unit_amount="0",
             tier=1),
        Step(text=f"tier 2, over 1000 up to 10000: 9000 × {low} = {first}", amount=str(first),
             quantity="9000", unit_amount=str(low), tier=2),
        Step(text=f"tier 3, over 10000: 12345.5 × {high} = {second}", amount=str(second),
             quantity="12345.5", unit_amount=str(high), tier=3),
    )  # fmt: skip
    minor = 18000 + 12346
    return line(
        position, "HTTP requests", minor, "22345.5", currency, "requests", steps, tax, **more
    )


def sample_lines(currency: str, tax: str = "") -> tuple[Line, ...]:
    scale = 10 ** exponent(currency)
    fee = Step(text="fixed fee: 49", amount="49")
    seats = Step(text="fixed fee: 3 × 25 = 75", amount="75", quantity="3", unit_amount="25")
    egress = Step(text="1234.567891 × 1 = 1234.57", amount="1234.57", quantity="1234.567891",
                  unit_amount="1")  # fmt: skip
    return (
        line(1, "Platform fee", 49 * scale, "1", currency, tax=tax, steps=(fee,), meter=None),
        line(2, "Seats", 75 * scale, "3", currency, tax=tax, steps=(seats,), meter=None),
        tiers(3, currency, tax),
        line(4, "Egress", 1235 * scale, "1234.567891", currency, "GB", (egress,), tax,
             dimensions={"region": "eu-west-1", "tier": None}),
        line(5, "HTTP requests", -1200, "-600", currency, "requests",
             (Step(text="0 × 2 = 0", amount="0", quantity="0", unit_amount="2"),), tax,
             adjustment=True, period_start="2026-04-01T00:00:00Z", until="2026-05-01T00:00:00Z",
             before=Total(quantity="600", amount=money_text(1200, currency), events=600)),
        tiers(6, currency, tax, customer="acme-north", subscription="north"),
        line(7, "Setup of a dedicated environment with a name that is much longer than a column",
             250 * scale, "1", currency, tax=tax, kind="one-off", subscription="", plan="",
             customer="acme-north"),
        line(8, "Minimum commitment", 12 * scale, "0", currency, tax=tax, kind="minimum"),
    )  # fmt: skip


def sample_invoice(
    locale: str = "en_US",
    currency: str = "EUR",
    lines: tuple[Line, ...] | None = None,
    taxes: tuple[TaxTotal, ...] = (VAT,),
    discount_minor: int = 0,
    credit_minor: int = 0,
    prepaid_minor: int = 0,
    **more: object,
) -> Invoice:
    """Return an invoice whose sums hold; a discount is split on all lines."""
    lines = sample_lines(currency, taxes[0].tax if taxes else "") if lines is None else lines
    lines = _discounted(lines, discount_minor, currency)
    totals, lines = _taxed(lines, taxes, currency)
    money = lambda minor: money_text(minor, currency)  # noqa: E731
    subtotal = sum(one.amount_minor for one in lines)
    added = sum(t.amount_minor for t in totals if not t.inclusive)
    total = sum(one.net_minor for one in lines) + added
    payable = max(total - credit_minor - prepaid_minor, 0)
    name, address = CUSTOMERS[locale[:2]]
    customer = Customer(key="acme", name=name, currency=currency, address=address,
                        tax_id="DE987654321", locale=locale, place=PLACE,
                        reference="PO-4711")  # fmt: skip
    manifest = Manifest(
        tenant="default", run="run_1", request="2026-05", sequence=1, prior=None, customer=customer,
        seller=SELLER, currency=currency, cut=1, catalog_version=1, issued_us=_us(AT.format(31)),
        due_us=_us("2026-06-14T00:00:00Z"), tz="2026.1", items=(),
        members=(Customer(key="acme-north", name="Acme North", currency=currency),),
    )  # fmt: skip
    made = Invoice(
        id="inv_1", number="INV-000042", series="INV", issued=format_us(manifest.issued_us),
        due=format_us(manifest.due_us), customer_key="acme", locale=locale, zone="UTC",
        seller=Party(name=SELLER.name, address=SELLER.address, email=SELLER.email,
                     tax_id=SELLER.tax_id, place=SELLER.place),
        customer=Party(name=name, address=address, email="", tax_id="DE987654321", place=PLACE),
        currency=currency, period_start=AT.format(1), period_end="2026-06-01T00:00:00Z",
        lines=lines, total=money(total), total_minor=total, notes=SELLER.notes, manifest=manifest,
        subtotal=money(subtotal), subtotal_minor=subtotal, discount_minor=discount_minor,
        discounts=(CouponUsed(redemption="r", coupon="may", name="May offer",
                              amount=money(discount_minor), amount_minor=discount_minor),)
        if discount_minor else (),
        taxes=totals, tax_minor=added,
        credits=(CreditUsed(source="cn", number="CN-000007", amount=money(credit_minor),
                            amount_minor=credit_minor),) if credit_minor else (),
        prepaid=(WalletUsed(wallet="main", units="1500", unit="credits",
                            amount=money(prepaid_minor), amount_minor=prepaid_minor),)
        if prepaid_minor else (),
        carried=money(max(-total, 0)), carried_minor=max(-total, 0),
        payable=money(payable), payable_minor=payable, reference="PO-4711",
        bank=SELLER.bank, terms=SELLER.terms,
    )  # fmt: skip
    return msgspec.structs.replace(made, **more)


def _discounted(lines: tuple[Line, ...], minor: int, currency: str) -> tuple[Line, ...]:
    if not minor:
        return lines
    parts = allocate(minor, [max(one.amount_minor, 0) for one in lines])
    return tuple(
        msgspec.structs.replace(
            one,
            discount=money_text(part, currency),
            discount_minor=part,
            net=money_text(one.amount_minor - part, currency),
            net_minor=one.amount_minor - part,
            base=money_text(one.amount_minor - part, currency),
            base_minor=one.amount_minor - part,
        )
        for one, part in zip(lines, parts, strict=True)
    )


def _taxed(
    lines: tuple[Line, ...], taxes: tuple[TaxTotal, ...], currency: str
) -> tuple[tuple[TaxTotal, ...], tuple[Line, ...]]:
    totals = []
    by_position = {one.position: one for one in lines}
    for tax in taxes:
        mine = [one for one in lines if any(t.tax == tax.tax for t in one.taxes)]
        gross, rate = sum(one.net_minor for one in mine), Decimal(tax.rate)
        part = gross * rate / (100 + rate if tax.inclusive else 100)
        amount = int(part.quantize(Decimal(1), "ROUND_HALF_UP"))
        base = gross - amount if tax.inclusive else gross
        totals.append(
            msgspec.structs.replace(
                tax,
                base=money_text(base, currency),
                base_minor=base,
                amount=money_text(amount, currency),
                amount_minor=amount,
            )
        )
        sign = -1 if gross < 0 else 1
        weights = [max(sign * one.net_minor, 0) for one in mine]
        for one, minor in zip(
            mine, allocate(amount, weights) if any(weights) else [0] * len(mine), strict=True
        ):
            told = LineTax(tax=tax.tax, amount=money_text(minor, currency), amount_minor=minor)
            others = tuple(t for t in by_position[one.position].taxes if t.tax != tax.tax)
            base = by_position[one.position].base_minor - (minor if tax.inclusive else 0)
            by_position[one.position] = msgspec.structs.replace(
                by_position[one.position],
                taxes=(*others, told),
                base=money_text(base, currency),
                base_minor=base,
            )
    return tuple(totals), tuple(by_position[one.position] for one in lines)


def sample_chart() -> UsageChart:
    bars = tuple(
        Bar(start=AT.format(day), value=str((day * 37) % 100 * 1000)) for day in range(1, 32)
    )
    return UsageChart(name="HTTP requests", unit="requests", size="DAY", bars=bars)


def sample_note(invoice: Invoice) -> CreditNote:
    """Return a credit note that takes back the first three lines of an invoice."""
    lines = tuple(
        NoteLine(
            line=one.id, position=one.position, name=one.name, customer=one.customer,
            period_start=one.period_start, period_end=one.period_end, net=one.net,
            net_minor=one.net_minor, base=one.base, base_minor=one.base_minor, taxes=one.taxes,
        )
        for one in invoice.lines[:3]
    )  # fmt: skip
    currency = invoice.currency
    money = lambda minor: money_text(minor, currency)  # noqa: E731
    totals = []
    for tax in invoice.taxes:
        mine = [one for one in lines if any(t.tax == tax.tax for t in one.taxes)]
        amount = sum(t.amount_minor for one in mine for t in one.taxes if t.tax == tax.tax)
        base = sum(one.base_minor for one in mine)
        totals.append(
            msgspec.structs.replace(
                tax, amount=money(amount), amount_minor=amount, base=money(base), base_minor=base
            )
        )
    subtotal = sum(one.net_minor for one in lines)
    added = sum(t.amount_minor for t in totals if not t.inclusive)
    total = subtotal + added
    manifest = NoteManifest(
        tenant="default", invoice=invoice.id, invoice_sha256="", issued_us=_us(AT.format(31)),
        reason="Outage of 12 May", asked=(), rest="credit", before=(), credited={},
        taxes_credited={}, shares_credited={}, total_credited=0, open_minor=0, refundable_minor=0,
    )  # fmt: skip
    return CreditNote(
        id="cn_1", number="CN-000003", series="CN", issued=invoice.issued, invoice=invoice.id,
        invoice_number=invoice.number, seller=invoice.seller, customer_key=invoice.customer_key,
        customer=invoice.customer, locale=invoice.locale, zone=invoice.zone, currency=currency,
        reason=manifest.reason, lines=lines, subtotal=money(subtotal), subtotal_minor=subtotal,
        taxes=tuple(totals), tax_minor=added, total=money(total), total_minor=total,
        reduces=money(total - 500), reduces_minor=total - 500, credited=money(500),
        credited_minor=500, refund=money(0), refund_minor=0, manifest=manifest,
    )  # fmt: skip
