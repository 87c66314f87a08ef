"""An invoice in words and numbers of a locale: everything that the template prints."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from tallybook.adapters.typst.logo import logo_words
from tallybook.adapters.typst.parts import Words, Writer
from tallybook.invoice.audit.chart import UsageChart
from tallybook.invoice.document import DRAFT_NUMBER, Invoice
from tallybook.invoice.line import Line

Row = list[str]
"""Label, text, and how it is set: '' or 'strong'."""


def invoice_words(
    invoice: Invoice, charts: Sequence[UsageChart] = (), *, logo: str = "", void: bool = False
) -> Words:
    """Return everything that is printed of an invoice.

    Args:
        invoice: with a number, or a draft.
        charts: usage over time.
        logo: a data URL; '' for none.
        void: whether it was voided.
    """
    write = Writer(invoice.locale, invoice.currency, invoice.zone)
    words, draft = write.labels, invoice.number == DRAFT_NUMBER
    number = "" if draft else invoice.number
    return {
        "lang": write.language,
        "title": words.draft_invoice if draft else words.invoice,
        "number": number,
        "mark": words.void if void else words.draft if draft else "",
        "page": words.page,
        "logo": logo_words(logo),
        "seller": write.party(invoice.seller),
        "bill_to": words.bill_to,
        "customer": write.party(invoice.customer)
        | {"name": words.honorific.format(invoice.customer.name)},
        "facts": [row for row in _facts(invoice, write, number) if row[1]],
        "columns": [words.description, words.quantity, words.unit_price, words.amount],
        "groups": [_group(invoice, key, lines, write) for key, lines in _by_customer(invoice)],
        "sums": list(_sums(invoice, write)),
        "taxes": write.taxes(invoice.taxes) if invoice.taxes else None,
        "payment": _payment(invoice, write, asked=not (void or draft)),
        "notes": list(invoice.notes),
        "charts": [write.chart(chart) for chart in charts],
        "proof": "" if draft else words.proof.format(invoice.number),
    }


def _facts(invoice: Invoice, write: Writer, number: str) -> Iterator[Row]:
    words, say = write.labels, write.say
    yield [words.number, number]
    yield [words.date, say.day(invoice.issued)]
    if invoice.payable_minor > 0:
        yield [words.payable_by, say.day(invoice.due)]
    yield [words.service_period, say.span(invoice.period_start, invoice.period_end)]
    yield [words.customer, invoice.customer_key]
    yield [words.your_reference, invoice.manifest.customer.reference]
    yield [words.replaces, invoice.replaces]


def _by_customer(invoice: Invoice) -> list[tuple[str, list[Line]]]:
    """Return the lines by whose they are: the payer's own first, then in order of appearance."""
    order = {"": -1}
    for line in invoice.lines:
        order.setdefault(line.customer, line.position)
    ordered = sorted(invoice.lines, key=lambda line: order[line.customer])
    return [(key, list(lines)) for key, lines in groupby(ordered, key=lambda line: line.customer)]


def _group(invoice: Invoice, key: str, lines: list[Line], write: Writer) -> Words:
    """Return the lines of one customer; with a heading where the invoice is for more than one."""
    members = {member.key: member.name for member in invoice.manifest.members}
    name = members.get(key, key) if key else invoice.customer.name
    alone = all(line.customer == "" for line in invoice.lines)
    many = len({line.subscription for line in lines if not line.subscription.startswith("@")}) > 1
    subtotal = sum(line.amount_minor for line in lines)
    return {
        "name": "" if alone else name,
        "subtotal": "" if alone else f"{write.labels.subtotal} {write.say.minor(subtotal)}",
        "lines": [write.line(line, many=many) for line in lines],
    }


def _sums(invoice: Invoice, write: Writer) -> Iterator[Row]:
    """Yield the way from the lines to what is left to pay."""
    words, say = write.labels, write.say
    if invoice.discounts or invoice.taken_back_minor:
        yield [words.subtotal, say.money(invoice.subtotal), ""]
    for coupon in invoice.discounts:
        yield [words.discount.format(coupon.name), say.minor(-coupon.amount_minor), ""]
    if invoice.taken_back_minor:
        yield [words.taken_back, say.money(invoice.taken_back), ""]
    added = sum(tax.amount_minor for tax in invoice.taxes if not tax.inclusive)
    contained = sum(tax.amount_minor for tax in invoice.taxes if tax.inclusive)
    used = bool(invoice.credits or invoice.prepaid or invoice.carried_minor)
    if any(not tax.inclusive for tax in invoice.taxes):
        yield [words.net, say.minor(invoice.total_minor - added - contained), ""]
        yield [words.tax_total, say.minor(added + contained), ""]
    if used:
        yield [words.total, say.money(invoice.total), ""]
    for credit in invoice.credits:
        yield [words.credit_used.format(credit.number), say.minor(-credit.amount_minor), ""]
    for wallet in invoice.prepaid:
        units = f"{say.number(wallet.units)} {wallet.unit}" if wallet.unit else wallet.wallet
        yield [words.prepaid_used.format(units), say.minor(-wallet.amount_minor), ""]
    if invoice.total_minor < 0:
        yield [words.in_your_favour, say.minor(-invoice.total_minor), "strong"]
    else:
        yield [words.payable, say.money(invoice.payable), "strong"]
    if contained and not added:
        yield [words.tax_included, say.minor(contained), "small"]


def _payment(invoice: Invoice, write: Writer, *, asked: bool) -> Words:
    """Return how to pay, where anything is to be paid and asked for."""
    words, say = write.labels, write.say
    due = invoice.payable_minor > 0 and asked
    reference = " ".join(text for text in (invoice.number, invoice.reference) if text)
    rows = write.bank(invoice.bank, invoice.seller.name, reference) if due else []
    if due and not rows:
        rows = [[words.payment_reference, reference]]
    told = [invoice.terms] if invoice.terms and due else []
    if invoice.carried_minor:
        told.append(words.carried.format(say.money(invoice.carried)))
    return {"title": words.payment if rows else "", "rows": rows, "texts": told}
