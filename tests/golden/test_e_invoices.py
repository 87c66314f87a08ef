"""E-invoices hold against the schemas, the EN 16931 rules and the Peppol rules, all run offline."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from tallybook.adapters.einvoice.bill import Bill
from tallybook.adapters.einvoice.cii import cii
from tallybook.adapters.einvoice.from_invoice import bill_of
from tallybook.adapters.einvoice.from_note import bill_of_note
from tallybook.adapters.einvoice.ubl import ubl
from tallybook.catalog.customer import Bank, Place
from tallybook.catalog.tax import Tax
from tallybook.invoice.document import Invoice
from tallybook.invoice.document.taxation import taxed, taxes_used
from tallybook.invoice.line import LineTax
from tallybook.kernel.errors import Invalid
from tallybook.kernel.money import money_text
from tests.support.e_rules import cii_errors, peppol_errors, ubl_errors
from tests.support.sample_invoice import (
    line,
    sample_invoice,
    sample_lines,
    sample_note,
    tax_total,
    tiers,
)

VAT = tax_total()
KEY = VAT.tax
FRANCE = Place(street="12, rue X", city="Paris", postal_code="75008", country="FR",
               endpoint="9957:FR12345678901")  # fmt: skip


def negated(invoice_lines: tuple) -> tuple:
    """Return lines that give back what they charge, at unchanged quantities."""
    return tuple(
        msgspec.structs.replace(
            one,
            amount=money_text(-one.amount_minor, "EUR"),
            amount_minor=-one.amount_minor,
            net_minor=-one.net_minor,
            base_minor=-one.base_minor,
        )
        for one in invoice_lines
    )


def abroad(invoice: Invoice) -> Invoice:
    """Return an invoice to a customer in France."""
    buyer = msgspec.structs.replace(invoice.customer, place=FRANCE, tax_id="FR12345678901")
    return msgspec.structs.replace(invoice, customer=buyer)


def two_rates() -> Invoice:
    lines = (
        tiers(1, "EUR", KEY),
        line(2, "Books", 333, "3", "EUR", tax="S7False"),
        line(3, "More books", 1, "1", "EUR", tax="S7False"),
    )
    return sample_invoice(lines=lines, taxes=(VAT, tax_total(rate="7")), discount_minor=1234)


CASES = {
    "standard": lambda: sample_invoice(taxes=(VAT,)),
    "funds": lambda: sample_invoice(
        taxes=(VAT,), discount_minor=5000, credit_minor=1000, prepaid_minor=2500
    ),
    "paid by credit": lambda: sample_invoice(taxes=(VAT,), credit_minor=263694),
    "two rates": two_rates,
    "inclusive": lambda: sample_invoice(taxes=(tax_total(inclusive=True),), discount_minor=5001),
    "yen": lambda: sample_invoice("ja_JP", "JPY", taxes=(tax_total(rate="10"),), discount_minor=77),
    "one line": lambda: sample_invoice(lines=(line(1, "Fee", 999, "1", "EUR", tax=KEY),),
                                       taxes=(VAT,)),
    "nothing": lambda: sample_invoice(lines=(line(1, "Fee", 0, "1", "EUR", tax=KEY),),
                                      taxes=(VAT,)),
    "in the customer's favour": lambda: sample_invoice(
        lines=negated(sample_lines("EUR", KEY)), taxes=(VAT,)
    ),
    "reissued": lambda: sample_invoice(taxes=(VAT,), replaces="INV-000041"),
    "reverse charge": lambda: abroad(sample_invoice(taxes=(tax_total("AE", "0"),))),
    "intra-community": lambda: abroad(sample_invoice(taxes=(tax_total("K", "0"),))),
    "export": lambda: sample_invoice(taxes=(tax_total("G", "0"),)),
    "exempt": lambda: sample_invoice(taxes=(tax_total("E", "0", reason="Education"),)),
    "zero": lambda: sample_invoice(taxes=(tax_total("Z", "0"),)),
    "out of scope": lambda: sample_invoice(taxes=(tax_total("O", "0"),)),
    "no tax": lambda: sample_invoice(taxes=()),
    "IGIC": lambda: sample_invoice(taxes=(tax_total("L", "7"),)),
    "IPSI": lambda: sample_invoice(taxes=(tax_total("M", "4"),)),
    "two keys of one rate": lambda: sample_invoice(
        lines=(tiers(1, "EUR", KEY), line(2, "Gross", 1190, "1", "EUR", tax="S19True")),
        taxes=(VAT, tax_total(inclusive=True)),
    ),
    "letters that XML cannot write": lambda: sample_invoice(
        lines=(line(1, "Tab\there \x07 & <b>", 100, "1", "EUR", tax=KEY),), taxes=(VAT,)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_rule_holds(name: str) -> None:
    bill = bill_of(CASES[name]())
    assert cii_errors(cii(bill)) == []
    assert ubl_errors(ubl(bill)) == []
    assert peppol_errors(ubl(bill)) == []


@pytest.mark.parametrize(
    "name", ["standard", "inclusive", "two rates", "intra-community", "no tax"]
)
def test_every_rule_holds_for_credit_notes(name: str) -> None:
    bill = bill_of_note(sample_note(CASES[name]()))
    assert bill.kind == "381"
    assert cii_errors(cii(bill)) == []
    assert ubl_errors(ubl(bill)) == []
    assert peppol_errors(ubl(bill)) == []


def test_the_validators_see_what_is_wrong() -> None:
    bill = bill_of(CASES["standard"]())
    wrong = msgspec.structs.replace(bill, paid=Decimal("0.01"))
    assert any("BR-CO-10" in error for error in cii_errors(cii(bill).replace(
        "<ram:LineTotalAmount>2215.92<", "<ram:LineTotalAmount>2215.93<")))  # fmt: skip
    assert cii_errors(cii(wrong)) == []
    assert cii_errors(cii(bill).replace("<ram:CountryID>DE<", "<ram:CountryID>XX<"))
    assert cii_errors(cii(bill).replace("ram:BuyerReference", "ram:Buyer"))
    assert any("BR-CO-15" in error for error in ubl_errors(ubl(bill).replace(
        ">2636.94</cbc:TaxInclusive", ">2636.95</cbc:TaxInclusive")))  # fmt: skip
    assert peppol_errors(ubl(bill).replace("BuyerReference>PO-4711<", "BuyerReference><"))


def sums(bill: Bill) -> None:
    """Assert the arithmetic of the standard, exactly and not within its tolerance."""
    for item in bill.items:
        off = item.deduction
        less = Decimal(0) if off is None else off.amount * (-1 if off.charge else 1)
        assert item.quantity * item.price / item.price_base - less == item.net, item
        assert item.price >= 0
        assert item.net == round(item.net, 2)
    assert bill.lines_total() == sum(part.base for part in bill.breakdown)  # BR-CO-10, -13
    assert bill.total() == bill.lines_total() + bill.tax_total()  # BR-CO-15
    assert bill.payable() == bill.total() - bill.paid  # BR-CO-16
    for part in bill.breakdown:
        rate = part.rate.percent or Decimal(0)
        assert abs(part.base * rate / 100 - part.tax) < 1  # BR-CO-17
        if bill.currency != "JPY":
            assert abs(part.base * rate / 100 - part.tax) <= Decimal("0.01")


@pytest.mark.parametrize("name", CASES)
def test_every_sum_is_exact(name: str) -> None:
    invoice = CASES[name]()
    bill = bill_of(invoice)
    sums(bill)
    assert bill.total() == Decimal(invoice.total)
    assert bill.payable() == Decimal(invoice.payable)


def test_a_single_price_is_a_price_and_tiers_are_priced_as_a_whole() -> None:
    items = {item.id: item for item in bill_of(CASES["standard"]()).items}
    assert (items["2"].quantity, items["2"].price, items["2"].price_base) == (3, 25, 1)
    assert (items["3"].quantity, items["3"].unit) == (Decimal("22345.5"), "C62")
    assert (items["3"].price, items["3"].price_base) == (Decimal("303.46"), Decimal("22345.5"))
    assert items["4"].unit == "E34"
    assert items["4"].attributes == (("region", "eu-west-1"),)
    assert (items["5"].quantity, items["5"].net) == (-600, -12)
    assert items["5"].note.startswith("Adjustment for 2026-04-01")
    assert items["6"].description == "Acme North"
    assert (items["8"].quantity, items["8"].price) == (1, 12)


def test_inclusive_prices_are_said_net() -> None:
    (item,) = bill_of(
        sample_invoice(
            lines=(line(1, "Fee", 11900, "1", "EUR", tax="S19True"),),
            taxes=(tax_total(inclusive=True),),
            discount_minor=1190,
        )
    ).items
    assert (item.net, item.price) == (Decimal("90.00"), Decimal("100.00"))
    assert item.deduction is not None
    assert (item.deduction.amount, item.deduction.reason) == (Decimal("10.00"), "May offer")


def test_a_discount_of_a_credit_is_a_charge() -> None:
    less = line(1, "Fee", -1000, "-1", "EUR", tax=KEY, discount_minor=-100, net_minor=-900,
                base_minor=-900)  # fmt: skip
    invoice = sample_invoice(lines=(less,), taxes=(VAT,), taken_back_minor=100)
    (item,) = bill_of(invoice).items
    assert item.deduction is not None
    assert (item.deduction.charge, item.deduction.amount, item.net) == (True, 1, -9)
    assert cii_errors(cii(bill_of(invoice))) == []


def test_where_to_pay_and_what_for() -> None:
    xml = etree.fromstring(ubl(bill_of(CASES["standard"]())).encode())
    text = " ".join(xml.itertext())
    for wanted in ("DE02120300000000202051", "BYLADEM1001", "INV-000042", "PO-4711", "2026-06-14"):
        assert wanted in text
    names = {None: xml.nsmap[None], **{k: v for k, v in xml.nsmap.items() if k}}
    assert xml.findtext("cac:PaymentMeans/cbc:PaymentMeansCode", namespaces=names) == "58"
    dollars = bill_of(sample_invoice(currency="USD", taxes=(VAT,)))
    assert dollars.account is not None
    assert dollars.account.means == "30"
    assert "PaymentMeans" not in cii(bill_of(sample_invoice(taxes=(VAT,), bank=Bank())))


def changed(who: str, **fields: object) -> Invoice:
    invoice = CASES["standard"]()
    party = msgspec.structs.replace(getattr(invoice, who), **fields)
    return msgspec.structs.replace(invoice, **{who: party})


REFUSED = {
    "seller.place.country": lambda: changed("seller", place=Place()),
    "customers.place.country": lambda: changed("customer", place=Place()),
    "seller.address": lambda: changed("seller", place=Place(country="DE"), address=()),
    "seller.tax_id": lambda: changed("seller", tax_id=""),
    "customers.currency": lambda: sample_invoice(currency="KWD", taxes=(VAT,)),
    "customers.tax_id": lambda: msgspec.structs.replace(
        CASES["intra-community"](),
        customer=msgspec.structs.replace(CASES["standard"]().customer, tax_id="", place=FRANCE),
    ),
    "plans.charges.taxes": lambda: sample_invoice(
        lines=(line(1, "A", 100, "1", "EUR", tax=KEY), line(2, "B", 100, "1", "EUR")), taxes=(VAT,)
    ),
    "taxes.category": lambda: sample_invoice(
        lines=(line(1, "A", 100, "1", "EUR", tax=KEY),
               line(2, "B", 100, "1", "EUR", tax="O0False")),
        taxes=(VAT, tax_total("O", "0")),
    ),
    "seller.place.registration": lambda: msgspec.structs.replace(
        CASES["no tax"](),
        seller=changed("seller", place=Place(street="S", country="DE")).seller,
    ),
}  # fmt: skip


@pytest.mark.parametrize("field", REFUSED)
def test_what_is_missing_is_named(field: str) -> None:
    with pytest.raises(Invalid) as refused:
        bill_of(REFUSED[field]())
    assert (refused.value.code, refused.value.field) == ("e-invoice", field)


def test_a_number_that_is_no_vat_identifier_is_a_tax_number() -> None:
    invoice = changed("seller", tax_id="12/345/67890")
    bill = bill_of(invoice)
    assert (bill.seller.vat, bill.seller.tax_number) == ("", "12/345/67890")
    assert cii_errors(cii(bill)) == []
    assert ubl_errors(ubl(bill)) == []
    with pytest.raises(Invalid, match="such as DE123456789"):
        bill_of(msgspec.structs.replace(CASES["export"](), seller=invoice.seller))
    nobody = msgspec.structs.replace(invoice.customer, tax_id="")
    with pytest.raises(Invalid) as refused:
        bill_of(msgspec.structs.replace(CASES["reverse charge"](), customer=nobody))
    assert refused.value.field == "customers.tax_id"


def test_a_line_with_two_taxes_is_refused() -> None:
    two = (
        LineTax(tax=KEY, amount="0", amount_minor=0),
        LineTax(tax="b", amount="0", amount_minor=0),
    )
    fee = line(1, "A", 100, "1", "EUR", tax=KEY, taxes=two)
    invoice = sample_invoice(lines=(fee,), taxes=(VAT,))
    with pytest.raises(Invalid, match="has 2 taxes"):
        bill_of(invoice)


def test_an_address_in_lines_will_do() -> None:
    lines = ("1 Main Street", "Back house", "Second floor", "Springfield")
    bill = bill_of(changed("customer", place=Place(country="US"), address=lines))
    assert bill.buyer.lines == ("1 Main Street", "Back house", "Second floor, Springfield")
    assert cii_errors(cii(bill)) == []
    city = bill_of(changed("customer", place=Place(country="US", city="Springfield")))
    assert (city.buyer.lines, city.buyer.city) == ((), "Springfield")
    assert bill_of(changed("customer", place=Place(country="US"), address=("1 X",))).buyer.lines


def test_peppol_needs_an_electronic_address_which_mail_is_not() -> None:
    place = Place(street="S", country="FR", city="Paris", postal_code="75008")
    bill = bill_of(changed("customer", place=place, email="pay@acme.example"))
    assert bill.buyer.endpoint == ("EM", "pay@acme.example")
    assert cii_errors(cii(bill)) == []
    with pytest.raises(Invalid, match="electronic address") as refused:
        ubl(bill)
    assert refused.value.field == "customers.place.endpoint"
    with pytest.raises(Invalid, match="electronic address"):
        ubl(bill_of(changed("customer", place=place)))


def test_germany_wants_to_know_whom_to_call() -> None:
    bill = bill_of(CASES["standard"]())
    for field in ("contact", "phone", "city", "postal_code"):
        seller = msgspec.structs.replace(bill.seller, **{field: ""})
        with pytest.raises(Invalid) as refused:
            ubl(msgspec.structs.replace(bill, seller=seller))
        assert refused.value.field == f"seller.place.{field}"
    with pytest.raises(Invalid, match="iban"):
        ubl(msgspec.structs.replace(bill, account=None))


def test_the_same_invoice_has_the_same_xml() -> None:
    bill = bill_of(CASES["two rates"]())
    assert cii(bill) == cii(bill)
    assert ubl(bill) == ubl(bill)


def test_a_credit_note_says_what_becomes_of_it() -> None:
    note = sample_note(CASES["standard"]())
    paid_out = msgspec.structs.replace(
        note, reduces_minor=0, credited_minor=0, refund=note.total, refund_minor=note.total_minor
    )
    assert bill_of_note(note).terms.endswith("5.00 EUR credited to the account")
    assert bill_of_note(paid_out, "PO-1").terms == f"{note.total} EUR refunded"
    assert bill_of_note(paid_out, "PO-1").buyer_reference == "PO-1"


def test_parts_without_content_are_left_out() -> None:
    bill = bill_of(CASES["standard"]())
    assert bill.account is not None
    bare = msgspec.structs.replace(
        bill,
        note="",
        terms="",
        due=None,
        first=None,
        last=None,
        items=tuple(msgspec.structs.replace(item, first=None, last=None) for item in bill.items),
        paid=bill.total(),
        account=msgspec.structs.replace(bill.account, bic=""),
        seller=msgspec.structs.replace(
            bill.seller, contact="", phone="", lines=("A", "B", "C"), country="AT"
        ),
    )
    assert cii_errors(cii(bare)) == []
    assert ubl_errors(ubl(bare)) == []
    mute = msgspec.structs.replace(bare.buyer, endpoint=None)
    assert cii_errors(cii(msgspec.structs.replace(bare, buyer=mute))) == []
    by_phone = msgspec.structs.replace(bill.seller, email="")
    assert cii_errors(cii(msgspec.structs.replace(bill, seller=by_phone))) == []
    taxes = (VAT, tax_total(rate="7"))
    unused = sample_invoice(lines=(line(1, "Fee", 1, "1", "EUR", tax=KEY),), taxes=taxes)
    assert len(bill_of(unused).breakdown) == 1


RATES = [Tax(key=f"t{rate}{inclusive}", name="VAT", rate=Decimal(rate), inclusive=inclusive)
         for rate in ("7", "19", "8.1", "5.5") for inclusive in (False, True)]  # fmt: skip
PARTS = st.tuples(
    st.integers(-100_000, 10_000_000),
    st.integers(0, 100),
    st.sampled_from(["1", "-1", "0", "3", "0.000001", "22345.678901", "-7"]),
    st.sampled_from(RATES),
)


@given(st.lists(PARTS, min_size=1, max_size=12))
def test_any_lines_add_up(parts: list[tuple[int, int, str, Tax]]) -> None:
    nets = [minor - int(minor * percent / 100) for minor, percent, _, _ in parts]
    keys = [(tax.key,) for *_, tax in parts]
    taxes = taxes_used(keys, RATES)
    found = taxed(nets, keys, taxes, "EUR")
    lines = tuple(
        msgspec.structs.replace(
            line(at + 1, f"Line {at}", minor, quantity, "EUR"),
            discount_minor=minor - nets[at],
            net_minor=nets[at],
            base_minor=found.bases[at],
            taxes=found.parts[at],
        )
        for at, (minor, _, quantity, _) in enumerate(parts)
    )
    total = sum(nets) + sum(found.added)
    invoice = msgspec.structs.replace(
        CASES["standard"](),
        lines=lines,
        taxes=found.totals,
        total_minor=total,
        total=money_text(total, "EUR"),
        payable_minor=max(total, 0),
    )
    bill = bill_of(invoice)
    for item in bill.items:
        off = item.deduction
        less = Decimal(0) if off is None else off.amount * (-1 if off.charge else 1)
        gross = item.net + less
        assert abs(item.quantity * item.price / item.price_base - gross) < Decimal("1e-18")
        assert item.price >= 0
        assert off is None or off.amount > 0
    assert bill.total() == Decimal(invoice.total)
    assert bill.lines_total() == sum(part.base for part in bill.breakdown)
