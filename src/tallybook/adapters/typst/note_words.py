"""A credit note in words and numbers of a locale: everything that the template prints."""

from collections.abc import Iterator
from itertools import groupby

from tallybook.adapters.typst.logo import logo_words
from tallybook.adapters.typst.parts import Words, Writer
from tallybook.settle.receivable.credit_note import CreditNote, NoteLine

Row = list[str]
"""Label, text, and how it is set: '' or 'strong'."""


def note_words(note: CreditNote, *, logo: str = "", void: bool = False) -> Words:
    """Return everything that is printed of a credit note.

    Args:
        note: issued.
        logo: a data URL; '' for none.
        void: whether it was voided.
    """
    write = Writer(note.locale, note.currency, note.zone)
    words, say = write.labels, write.say
    facts = [
        [words.credit_note_number, note.number],
        [words.date, say.day(note.issued)],
        [words.corrects, note.invoice_number],
        [words.customer, note.customer_key],
        [words.reason, note.reason],
    ]
    return {
        "lang": write.language,
        "title": words.credit_note,
        "number": note.number,
        "mark": words.void if void else "",
        "page": words.page,
        "logo": logo_words(logo),
        "seller": write.party(note.seller),
        "bill_to": words.bill_to,
        "customer": write.party(note.customer)
        | {"name": words.honorific.format(note.customer.name)},
        "facts": [row for row in facts if row[1]],
        "columns": [words.description, "", "", words.amount],
        "groups": [
            {"name": key, "subtotal": "", "lines": [_line(line, write) for line in lines]}
            for key, lines in groupby(note.lines, key=lambda line: line.customer)
        ],
        "sums": list(_sums(note, write)),
        "taxes": write.taxes(note.taxes) if note.taxes else None,
        "payment": {"title": "", "rows": [], "texts": []},
        "notes": [],
        "charts": [],
        "proof": "",
    }


def _line(line: NoteLine, write: Writer) -> Words:
    return {
        "name": line.name,
        "notes": [write.say.span(line.period_start, max(line.period_end, line.period_start))],
        "quantity": "",
        "unit": "",
        "price": "",
        "amount": write.say.money(line.net),
        "steps": [],
    }


def _sums(note: CreditNote, write: Writer) -> Iterator[Row]:
    """Yield the way from the lines to what becomes of the total."""
    words, say = write.labels, write.say
    if note.tax_minor:
        contained = sum(tax.amount_minor for tax in note.taxes if tax.inclusive)
        yield [words.net, say.minor(note.subtotal_minor - contained), ""]
        yield [words.tax_total, say.minor(note.tax_minor + contained), ""]
    yield [words.credit_total, say.money(note.total), "strong"]
    whither = (
        (words.set_off.format(note.invoice_number), note.reduces_minor),
        (words.credited, note.credited_minor),
        (words.refunded, note.refund_minor),
    )
    for label, minor in whither:
        if minor:
            yield [label, say.minor(minor), "small"]
