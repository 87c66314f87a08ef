"""From an invoice to the terms of EN 16931: net of VAT, one VAT category a line, sums that hold.

Source: docs/guides/documents.md
"""

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal

import msgspec

from tallybook.adapters.einvoice.bill import (
    Account,
    Bill,
    Breakdown,
    Deduction,
    Item,
    Rate,
    Trader,
)
from tallybook.adapters.einvoice.codes import (
    CREDIT_TRANSFER,
    EXEMPTIONS,
    OUT_OF_SCOPE,
    PIECES,
    REASONS,
    SEPA,
    unit_code,
)
from tallybook.adapters.einvoice.traders import impossible, needed, trader
from tallybook.invoice.document import Invoice, TaxTotal
from tallybook.invoice.line import Line
from tallybook.kernel.decimals import EXACT, divide
from tallybook.kernel.money import exponent, from_minor
from tallybook.kernel.period import zone
from tallybook.kernel.timestamps import from_us, parse_rfc3339
from tallybook.settle.receivable.credit_note import NoteLine

DIGITS_MAX = 2
NO_TAX = Rate(OUT_OF_SCOPE, None)
ONE = Decimal(1)


def bill_of(invoice: Invoice) -> Bill:
    """Return an invoice in the terms of EN 16931.

    Raises:
        Invalid: something that the standard asks for is not known, or the standard has no way to
            say something; `field` names it.
    """
    check_currency(invoice.currency)
    items = tuple(_items(invoice))
    breakdown = breakdown_of(invoice.taxes, items)
    seller, buyer = trader(invoice.seller, "seller"), trader(invoice.customer, "customer")
    check_traders(seller, buyer, breakdown)
    total = from_minor(invoice.total_minor, invoice.currency)
    payable = from_minor(invoice.payable_minor, invoice.currency)
    days = [day for item in items for day in (item.first, item.last) if day is not None]
    made = Bill(
        kind="380",
        number=invoice.number,
        issued=day_of(invoice.issued, invoice.zone),
        due=day_of(invoice.due, invoice.zone) if payable > 0 else None,
        currency=invoice.currency,
        buyer_reference=invoice.manifest.customer.reference or invoice.customer_key,
        note="\n".join(invoice.notes),
        seller=without_vat(seller, breakdown),
        buyer=without_vat(buyer, breakdown),
        items=items,
        breakdown=breakdown,
        first=min(days, default=None),
        last=max(days, default=None),
        preceding=invoice.replaces,
        account=account_of(invoice),
        terms=invoice.terms,
        paid=total - payable,
    )
    assert made.total() == total, "lines net of VAT and VAT are the invoice's total"
    return made


def check_currency(currency: str) -> None:
    """Refuse a currency whose amounts the standard cannot write."""
    if exponent(currency) > DIGITS_MAX:
        why = f"its amounts have two decimals, those of {currency} have {exponent(currency)}"
        raise impossible(why, "customers.currency")


def check_traders(seller: Trader, buyer: Trader, breakdown: Sequence[Breakdown]) -> None:
    """Refuse what the VAT categories ask of the parties and is not known."""
    categories = {part.rate.category for part in breakdown}
    if categories == {OUT_OF_SCOPE}:
        if not seller.registration:
            raise needed("what identifies a seller without VAT", "seller.place.registration")
        return
    if not (seller.vat or seller.tax_number):
        raise needed("the seller's VAT identifier", "seller.tax_id")
    if categories & {"K", "G", "AE"} and not seller.vat:
        raise needed("the seller's VAT identifier, such as DE123456789", "seller.tax_id")
    if "K" in categories and not buyer.vat:
        raise needed("the VAT identifier of the customer", "customers.tax_id")
    if "AE" in categories and not (buyer.vat or buyer.registration):
        raise needed("the VAT identifier of the customer", "customers.tax_id")


def without_vat(party: Trader, breakdown: Sequence[Breakdown]) -> Trader:
    """Return the party as an invoice outside the scope of VAT names it (BR-O-02)."""
    if any(part.rate.category != OUT_OF_SCOPE for part in breakdown):
        return party
    return msgspec.structs.replace(party, vat="", tax_number="")


def account_of(invoice: Invoice) -> Account | None:
    """Return where to pay, or None where no account is named."""
    if not invoice.bank.iban:
        return None
    return Account(
        means=SEPA if invoice.currency == "EUR" else CREDIT_TRANSFER,
        iban=invoice.bank.iban.replace(" ", ""),
        bic=invoice.bank.bic,
        holder=invoice.seller.name,
        reference=invoice.number,
    )


def _items(invoice: Invoice) -> Iterator[Item]:
    reasons = ", ".join(coupon.name for coupon in invoice.discounts) or "Discount"
    members = {member.key: member.name for member in invoice.manifest.members}
    taxes = taxes_of_lines(invoice.lines, invoice.taxes)
    for line, tax in zip(invoice.lines, taxes, strict=True):
        whose = members.get(line.customer, line.customer)
        yield _item(line, invoice, tax, reasons, whose)


def taxes_of_lines(
    lines: Sequence[Line | NoteLine], totals: Sequence[TaxTotal]
) -> list[TaxTotal | None]:
    """Return the one tax of each line; None for all of them where none has any.

    Raises:
        Invalid: a line has several, or none beside lines that have one.
    """
    taxes = {tax.tax: tax for tax in totals}
    mixed = {bool(line.taxes) for line in lines} == {True, False}
    for line in lines:
        if len(line.taxes) > 1:
            why = f"line {line.position} has {len(line.taxes)} taxes, and a line has one VAT rate"
            raise impossible(why, "plans.charges.taxes")
        if mixed and not line.taxes:
            why = f"line {line.position} has no tax and others have: give it one of category Z or E"
            raise impossible(why, "plans.charges.taxes")
    return [taxes[line.taxes[0].tax] if line.taxes else None for line in lines]


def _item(line: Line, invoice: Invoice, tax: TaxTotal | None, reason: str, whose: str) -> Item:
    inclusive = tax is not None and tax.inclusive
    net = from_minor(line.base_minor, invoice.currency)
    off = from_minor(line.discount_minor, invoice.currency)
    if inclusive and tax is not None:
        off = divide(off * 100, 100 + Decimal(tax.rate), exponent(invoice.currency))
    quantity, unit, price, base = _priced(line, net + off, exact=not inclusive)
    first, last = days_of(line.period_start, line.until, invoice.zone)
    about = [f"{name}: {value}" for name, value in line.dimensions.items() if value]
    return Item(
        id=str(line.position),
        name=line.name,
        description=", ".join([whose, *about] if whose else about),
        seller_item="/".join(part for part in (line.plan, line.charge) if part),
        note=f"Adjustment for {first} to {last}" if line.adjustment else "",
        attributes=tuple((name, value) for name, value in line.dimensions.items() if value),
        quantity=quantity,
        unit=unit,
        price=price,
        price_base=base,
        net=net,
        rate=NO_TAX if tax is None else rate_of(tax),
        deduction=Deduction(charge=off < 0, amount=abs(off), reason=reason) if off else None,
        first=first,
        last=last,
    )


def _priced(line: Line, amount: Decimal, *, exact: bool) -> tuple[Decimal, str, Decimal, Decimal]:
    """Return quantity, unit code, price, and how many units the price is for.

    A price is never negative, so a credit has a negative quantity. What no single unit price gives,
    such as tiers, is priced as a whole: the price is for all of the units.

    Args:
        line: of the invoice.
        amount: net of VAT, before discounts.
        exact: whether prices are net of VAT.
    """
    quantity, sign = Decimal(line.quantity), -1 if amount < 0 else 1
    if not quantity or ((quantity < 0) != (amount < 0) and amount):
        return Decimal(sign), PIECES, abs(amount), ONE
    unit = unit_code(line.unit)
    prices = {step.unit_amount for step in line.steps} if len(line.steps) == 1 else set()
    for text in prices:
        if exact and text and EXACT.multiply(Decimal(text), quantity) == amount:
            return quantity, unit, Decimal(text), ONE
    return quantity, unit, abs(amount), abs(quantity)


def rate_of(tax: TaxTotal) -> Rate:
    """Return category and rate of a tax."""
    if tax.category == OUT_OF_SCOPE:
        return NO_TAX
    return Rate(tax.category, Decimal(tax.rate))


def breakdown_of(taxes: Sequence[TaxTotal], items: Sequence[Item]) -> tuple[Breakdown, ...]:
    """Return the VAT of each category and rate; taxes of the same rate are one.

    Raises:
        Invalid: out of scope beside other categories, which the standard forbids (BR-O-11).
    """
    bases: dict[Rate, Decimal] = {}
    for item in items:
        bases[item.rate] = bases.get(item.rate, Decimal(0)) + item.net
    if NO_TAX in bases and len(bases) > 1:
        raise impossible("some lines are outside the scope of VAT, others not", "taxes.category")
    amounts, reasons = dict.fromkeys(bases, Decimal(0)), dict.fromkeys(bases, "")
    for tax in taxes:
        rate = rate_of(tax)
        if rate in amounts:
            amounts[rate] += Decimal(tax.amount)
            reasons[rate] = reasons[rate] or tax.reason
    return tuple(
        Breakdown(
            rate=rate,
            base=bases[rate],
            tax=amounts[rate],
            reason=(reasons[rate] or REASONS[rate.category]) if rate.category in EXEMPTIONS else "",
            reason_code=EXEMPTIONS.get(rate.category, ""),
        )
        for rate in sorted(bases, key=lambda rate: (rate.category, rate.percent or Decimal(0)))
    )


def days_of(start_text: str, end_text: str, zone_name: str) -> tuple[date, date]:
    """Return the first and the last day of a line, both included."""
    start, end = _us(start_text), _us(end_text)
    first = _local(start, zone_name)
    return first, max(first, _local(end - 1, zone_name))


def _us(text: str) -> int:
    us = parse_rfc3339(text)
    assert us is not None, "an invoice's times are RFC 3339"
    return us


def day_of(text: str, zone_name: str) -> date:
    """Return the date of an instant in a zone."""
    return _local(_us(text), zone_name)


def _local(us: int, zone_name: str) -> date:
    return from_us(us).astimezone(zone(zone_name)).date()
