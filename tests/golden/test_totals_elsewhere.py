"""OpenMeter's and Kill Bill's worked cases of invoices, credits and taxes."""

from decimal import Decimal

import pytest
from msgspec.structs import replace

from tallybook.catalog.customer import Customer
from tallybook.catalog.price import Price, parse_price
from tallybook.invoice.funds import Funds
from tallybook.settle.receivable.credit_note import Asked, NoteManifest
from tallybook.settle.receivable.noting import compose_note
from tests.golden.totals import numbered, one, span_of, usd
from tests.golden.vectors import require
from tests.support.composing import (
    Fee,
    at,
    credits_of,
    drafted,
    invoiced,
    one_off,
    tax_of,
)


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


# ---------------------------------------------------------------- OpenMeter


def price_of(text: str) -> Price:
    """Return a price as the two cases write it."""
    if text.startswith("unit"):
        return parse_price({"type": "unit", "unit_amount": "100", "maximum_amount": "2000"})
    kind = text.partition(" ")[0]
    tiers: list[dict[str, str]] = [
        {"up_to": "10", "unit_amount": "100"},
        {"up_to": "20", "unit_amount": "90"},
        {"unit_amount": "80"},
    ]
    if "flat 200" in text:
        tiers = [
            {"up_to": "10", "unit_amount": "10", "flat_amount": "100"},
            {"up_to": "20", "unit_amount": "5", "flat_amount": "200"},
            {"unit_amount": "80"},
        ]
    bound = {"minimum_amount": "3000"} if "minimum 3000" in text else {}
    return parse_price({"type": kind, "tiers": tiers, **bound})


def test_openmeter_an_invoice_of_four_prices() -> None:
    case = one("openmeter", "om-invoice-001")
    given, expect = case["given"], case["expect"]
    fees = [
        Fee(
            key=line["name"],
            minor=10_000,
            meter=line["name"] if line["name"] in given["usage"] else None,
            price=price_of(line["price"]) if line["name"] in given["usage"] else None,
            used=Decimal(given["usage"].get(line["name"], 1)),
        )
        for line in given["lines"]
    ]
    found = invoiced(fees)
    totals = {line.charge: Decimal(line.amount) for line in found.lines}
    assert totals == {name: Decimal(line["total"]) for name, line in expect["lines"].items()}
    assert Decimal(found.total) == Decimal(expect["invoice"]["total"])


def test_openmeter_the_first_tiers_flat_amount_is_due_at_the_first_cut() -> None:
    case = one("openmeter", "om-invoice-003")
    given, expect = case["given"], case["expect"]
    totals, before = [], None
    for used in given["cumulative_usage_at_cuts"]:
        fee = Fee(
            key="usage",
            minor=0,
            meter="m",
            price=price_of(given["price"]),
            used=Decimal(used),
            before=before,
        )
        draft = drafted([fee])
        new = 0 if draft is None else draft.invoice.total_minor
        before = ((before or (0, 0))[0] + new, 0)
        totals.append(usd(new))
    assert totals == [Decimal(text) for text in expect["invoice_totals"]]


# ---------------------------------------------------------------- Kill Bill


def test_killbill_a_credit_is_spread() -> None:
    case = one("killbill", "kb-credit-spread")
    fee, credit = 24_995, 100_000
    first = invoiced(numbered([fee]))
    second = invoiced(numbered([fee]), funds=Funds(credits=credits_of(credit)))
    assert second.payable_minor == 0
    left = credit - sum(used.amount_minor for used in second.credits)
    balances = [first.payable_minor, first.payable_minor + second.payable_minor - left]
    assert [usd(minor) for minor in balances] == [
        Decimal(text) for text in case["expect"]["account_balance_after"]
    ]


def test_killbill_a_child_that_leaves_before_its_parents_invoice_is_final() -> None:
    """A draft is composed anew: what the child still owes is one line."""
    case = one("killbill", "kb-parent-cancel-unpaid")
    span = span_of(("2014-06-14", "2014-06-16", "2014-06-14", "2014-07-14"))
    fee = Fee(key="fee", minor=24_995, proration="day", span=span, customer="child")
    members = [Customer(key="child", name="Child", currency="USD")]
    found = invoiced([fee], members=members)
    assert [one.net for one in found.members] == [case["expect"]["parent_summary_item"]]
    paid, repaired = (Decimal(text) for text in case["expect"]["child"][0]["items"])
    assert paid + repaired == Decimal(found.total)


def test_killbill_a_tax_from_elsewhere_is_a_one_off() -> None:
    case = one("killbill", "kb-tax-basic")
    whole = span_of(("2012-05-01", "2012-06-01", "2012-05-01", "2012-06-01"))
    empty = (whole[0], *whole[0:1], *whole[2:])
    told = [
        sorted(Decimal(item["amount"]) for item in items) for items in case["expect"]["invoices"]
    ]
    first = [Fee(key="pistol", minor=2995, span=whole), Fee(key="cleaning", minor=295, span=whole)]
    tax = one_off(100, "tax", ())
    found = invoiced(first, [tax])
    assert sorted(Decimal(line.amount) for line in found.lines) == told[0]
    ended = [replace(fee, span=empty, before=(fee.minor, 0)) for fee in first]
    after = invoiced([*ended, Fee(key="shotgun", minor=24_995, span=whole)], [tax])
    assert sorted(Decimal(line.amount) for line in after.lines) == told[1]


def test_killbill_a_credit_gives_back_its_part_of_the_tax() -> None:
    case = one("killbill", "kb-tax-adjust")
    price, tax = (Decimal(text.removeprefix("tax ")) for text in case["given"]["billed"])
    fee = Fee(key="pistol", minor=int(price * 100), taxes=("10",))
    found = invoiced([fee], taxes=[tax_of("10")])
    assert Decimal(found.taxes[0].amount) == tax
    asked = Asked(line=found.lines[0].id, amount_minor=1000)
    note = compose_note(
        NoteManifest(
            tenant="default",
            invoice=found.id,
            invoice_sha256="",
            issued_us=at("2012-05-08"),
            reason="",
            asked=(asked,),
            rest="credit",
            before=(),
            credited={},
            taxes_credited={},
            shares_credited={},
            total_credited=0,
            open_minor=0,
            refundable_minor=found.total_minor,
        ),
        found,
    )
    (items,) = case["expect"]["invoices"]
    told = {item["type"]: abs(Decimal(item["amount"])) for item in items if "date" in item}
    told["ITEM_ADJ"] = abs(Decimal(items[1]["amount"]))
    assert Decimal(note.subtotal) == told["ITEM_ADJ"]
    assert usd(note.tax_minor) == abs(Decimal(case["given"]["plugin_tax_refund"])) == told["TAX"]
    assert Decimal(note.credited) == abs(Decimal(items[-1]["amount"]))


REPLAYED = {
    "openmeter": {"om-invoice-001", "om-invoice-003"},
    "killbill": {"kb-credit-spread", "kb-parent-cancel-unpaid", "kb-tax-basic", "kb-tax-adjust"},
}
