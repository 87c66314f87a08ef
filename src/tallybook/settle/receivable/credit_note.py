"""A credit note: a document that takes back lines of a finalized invoice, or parts of them.

Like an invoice it is a function of its manifest, here the invoice and what was credited before; it
is kept as canonical JSON with its digest, and never written again.

Source: docs/algorithms/credit-notes.md
"""

from typing import Literal

import msgspec

from tallybook.invoice.document import Party, TaxTotal
from tallybook.invoice.ledger.holdings import Purpose
from tallybook.invoice.line import LineShare, LineTax
from tallybook.invoice.manifest import canonical
from tallybook.kernel.errors import Corrupt

SERIES = "CN"
NoteState = Literal["issued", "void"]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A line to be taken back.

    Attributes:
        line: id.
        amount_minor: of its net, with its sign.
    """

    line: str
    amount_minor: int


class NoteManifest(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of a credit note.

    Attributes:
        invoice: id; invoice_sha256: of its canonical JSON.
        asked: by the place of the lines.
        rest: what becomes of what is no longer open.
        before: ids of the notes of this invoice that were issued before and not voided.
        credited: by line, what they took of its net.
        taxes_credited: by tax, what they took of it.
        shares_credited: by line and party, what they took of it.
        total_credited: what they took of its total.
        open_minor: of the invoice.
        refundable_minor: paid in money and not refunded.
    """

    tenant: str
    invoice: str
    invoice_sha256: str
    issued_us: int
    reason: str
    asked: tuple[Asked, ...]
    rest: Purpose
    before: tuple[str, ...]
    credited: dict[str, int]
    taxes_credited: dict[str, int]
    shares_credited: dict[str, int]
    total_credited: int
    open_minor: int
    refundable_minor: int


class NoteLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a credit note; amounts as they stand on the invoice, to be taken off.

    Attributes:
        line: id of the invoice's line; position: its place on the invoice.
        customer: whose it is, where another one pays.
        net: of the line, coupons taken off.
        base: net less the taxes that its price contains.
        taxes: its part of each tax.
        shares: parts of the base that belonged to others.
    """

    line: str
    position: int
    name: str
    customer: str
    period_start: str
    period_end: str
    net: str
    net_minor: int
    base: str
    base_minor: int
    taxes: tuple[LineTax, ...] = ()
    shares: tuple[LineShare, ...] = ()


class CreditNote(msgspec.Struct, frozen=True, kw_only=True):
    """A credit note; every number is a plain decimal text, every time RFC 3339.

    Attributes:
        id: derived from the manifest.
        number: gapless in its series.
        invoice: id; invoice_number: of what it takes back.
        subtotal: sum of the lines' nets.
        taxes: by rate.
        total: subtotal plus the taxes that prices do not contain.
        reduces: what is taken off what was open.
        credited: what becomes the customer's credit.
        refund: what is to be paid out.
    """

    id: str
    number: str
    series: str
    issued: str
    invoice: str
    invoice_number: str
    seller: Party
    customer_key: str
    customer: Party
    locale: str
    zone: str
    currency: str
    reason: str
    lines: tuple[NoteLine, ...]
    subtotal: str
    subtotal_minor: int
    taxes: tuple[TaxTotal, ...]
    tax_minor: int
    total: str
    total_minor: int
    reduces: str
    reduces_minor: int
    credited: str
    credited_minor: int
    refund: str
    refund_minor: int
    manifest: NoteManifest


class NoteHead(msgspec.Struct, frozen=True, kw_only=True):
    """A credit note in a list.

    Attributes:
        sha256: of the canonical JSON, hexadecimal.
    """

    id: str
    number: str
    state: NoteState
    invoice: str
    invoice_number: str
    customer: str
    currency: str
    total_minor: int
    reduces_minor: int
    credited_minor: int
    refund_minor: int
    issued_us: int
    sha256: str


class StoredNote(msgspec.Struct, frozen=True, kw_only=True):
    """A credit note as it is kept; body: the canonical JSON."""

    head: NoteHead
    body: str


def encode_note(note: CreditNote) -> bytes:
    """Return the canonical JSON that is stored and recomputed."""
    settled = note.reduces_minor + note.credited_minor + note.refund_minor
    assert note.total_minor == settled, "all of a note's total goes somewhere"
    assert note.subtotal_minor == sum(line.net_minor for line in note.lines), "it adds up"
    return canonical(note)


def decode_note(body: bytes | str) -> CreditNote:
    """Return a stored credit note; raises Corrupt where it is none."""
    try:
        return msgspec.json.decode(body, type=CreditNote)
    except msgspec.DecodeError as error:
        raise Corrupt(f"a stored credit note cannot be read: {error}") from error
