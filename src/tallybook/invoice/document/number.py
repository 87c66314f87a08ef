"""Numbers of invoices, and the canonical JSON that is kept.

Source: docs/algorithms/invoice-totals.md; guarantee 5
"""

import msgspec

from tallybook.invoice.document.invoice import Draft, Invoice
from tallybook.invoice.document.totals import DRAFT_NUMBER
from tallybook.invoice.manifest import canonical
from tallybook.kernel.errors import Corrupt, Invalid

NUMBER_DIGITS = 6
_UNNUMBERED = f'"number":"{DRAFT_NUMBER}"'


def number_text(series: str, number: int) -> str:
    """Return the number as people read it, such as INV-000042."""
    return f"{series}-{number:0{NUMBER_DIGITS}d}"


def number_place(text: str) -> tuple[str, int]:
    """Return series and ordinal of a number, the order of a list; raises Invalid."""
    series, _, ordinal = text.rpartition("-")
    if not series or not ordinal.isdecimal() or not ordinal.isascii():
        raise Invalid(f"'{text}' is not an invoice number such as INV-000042", field="number")
    return series, int(ordinal)


def with_number(draft: Draft, number: int) -> Invoice:
    """Return the invoice with the number it was given."""
    invoice = draft.invoice
    return msgspec.structs.replace(invoice, number=number_text(invoice.series, number))


def numbered_json(body: str, number: str) -> str:
    """Return the JSON of an invoice, or of a fact about one, with the number it was given.

    Args:
        body: made before it had one; no value after its number is an object with a number.
        number: of a series, so that nothing of it is escaped in JSON.

    Guarantees: the same bytes as if it had been made with the number.
    """
    before, _, after = body.rpartition(_UNNUMBERED)
    assert before, "what has no number yet says so"
    return f'{before}"number":"{number}"{after}'


def encode_invoice(invoice: Invoice) -> bytes:
    """Return the canonical JSON that is stored and recomputed."""
    assert_sums(invoice)
    return canonical(invoice)


def assert_sums(invoice: Invoice) -> None:
    """Fail where an invoice does not add up."""
    subtotal = sum(line.amount_minor for line in invoice.lines)
    assert subtotal == invoice.subtotal_minor, "the subtotal is the sum of the lines"
    net = sum(line.net_minor for line in invoice.lines)
    discount = invoice.discount_minor - invoice.taken_back_minor
    assert net == subtotal - discount, "the discounts are those of the lines"
    assert invoice.total_minor == net + invoice.tax_minor, "the total is lines and taxes"
    used = sum(one.amount_minor for one in invoice.credits)
    used += sum(one.amount_minor for one in invoice.prepaid)
    paid = used + invoice.payable_minor - invoice.carried_minor
    assert invoice.total_minor == paid, "what is paid, payable or carried is the total"


def decode_invoice(body: bytes | str) -> Invoice:
    """Return a stored invoice.

    Raises:
        Corrupt: the stored JSON is not an invoice.
    """
    try:
        return msgspec.json.decode(body, type=Invoice)
    except msgspec.DecodeError as error:
        raise Corrupt(f"a stored invoice cannot be read: {error}") from error
