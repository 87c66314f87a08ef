"""Credit notes decided: what they take off an invoice, and what it means to the books.

Source: docs/algorithms/credit-notes.md
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from tallybook.invoice.document import Invoice, number_text
from tallybook.invoice.ledger.holdings import Credit, Holdings, Purpose, withdrawn
from tallybook.invoice.ledger.posting import service
from tallybook.invoice.ports import InvoiceHead
from tallybook.invoice.record import digest_of
from tallybook.kernel.book.entry import Entry, Move, Step, account, posted, reversal
from tallybook.kernel.book.fact import Fact, fact
from tallybook.kernel.errors import Conflict
from tallybook.kernel.timestamps import format_us
from tallybook.settle.receivable.credit_note import (
    CreditNote,
    NoteHead,
    NoteManifest,
    StoredNote,
    decode_note,
    encode_note,
)
from tallybook.settle.receivable.noting import LineAsk, asked_of, compose_note, share_key
from tallybook.settle.receivable.paying import state_facts
from tallybook.settle.receivable.standing import Moves, Standing, opened

NOT_CREDITED = ("void", "draft")


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be credited of an invoice.

    Attributes:
        lines: () for all that is left.
        rest: what becomes of what is no longer open: the customer's credit, or paid out as far as
            it was paid in money.
    """

    reason: str
    lines: tuple[LineAsk, ...] = ()
    rest: Purpose = "credit"


class NoteTold(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a fact about a credit note; money is a string, times are RFC 3339."""

    id: str
    number: str
    invoice: str
    customer: str
    currency: str
    total: str
    reduces: str
    credited: str
    refund: str
    reason: str
    issued: str


def note_manifest(
    tenant: str,
    invoice: Invoice,
    ask: Ask,
    standing: Standing,
    bounds: Mapping[str, int],
    now_us: int,
) -> NoteManifest:
    """Return the inputs of a credit note.

    Args:
        tenant: whose.
        invoice: finalized; the standing has its head.
        ask: what is to be credited.
        standing: of its customer.
        bounds: of lines' nets, what is not given back yet in another way.
        now_us: the note's date.

    Raises:
        Missing, Invalid: the lines asked for are not there, or not so much is left of them.
        Conflict: the invoice's state forbids it, or nothing is left of it.
    """
    head = standing.invoice(invoice.id)
    if head.state in NOT_CREDITED:
        raise Conflict(f"a {head.state} invoice is not credited", field="state")
    before = earlier(standing, invoice.id)
    credited = {
        line.id: sum(one.net_minor for note in before for one in note.lines if one.line == line.id)
        for line in invoice.lines
    }
    return NoteManifest(
        tenant=tenant,
        invoice=invoice.id,
        invoice_sha256=head.sha256,
        issued_us=now_us,
        reason=ask.reason,
        asked=asked_of(invoice, ask.lines, credited, bounds),
        rest=ask.rest,
        before=tuple(note.id for note in before),
        credited={line: minor for line, minor in credited.items() if minor},
        taxes_credited=_taxes(before),
        shares_credited=_shares(before),
        total_credited=sum(note.total_minor for note in before),
        open_minor=head.open_minor,
        refundable_minor=refundable(head, before),
    )


def earlier(standing: Standing, invoice: str) -> list[CreditNote]:
    """Return the notes of an invoice that count."""
    return [
        decode_note(note.body)
        for note in standing.notes
        if note.head.invoice == invoice and note.head.state == "issued"
    ]


def refundable(head: InvoiceHead, before: Sequence[CreditNote]) -> int:
    """Return what was paid on an invoice in money or credit, and is not promised back yet."""
    reduced = sum(note.reduces_minor for note in before)
    promised = sum(note.refund_minor for note in before)
    return max(head.payable_minor - head.open_minor - reduced - promised, 0)


def _taxes(before: Sequence[CreditNote]) -> dict[str, int]:
    found: dict[str, int] = {}
    for note in before:
        for tax in note.taxes:
            found[tax.tax] = found.get(tax.tax, 0) + tax.amount_minor
    return found


def _shares(before: Sequence[CreditNote]) -> dict[str, int]:
    found: dict[str, int] = {}
    for note in before:
        for line in note.lines:
            for share in line.shares:
                key = share_key(line.line, share.party)
                found[key] = found.get(key, 0) + share.amount_minor
    return found


def numbered(note: CreditNote, number: int) -> StoredNote:
    """Return a credit note as it is stored, with the number it was given."""
    note = msgspec.structs.replace(note, number=number_text(note.series, number))
    body = encode_note(note)
    head = NoteHead(
        id=note.id,
        number=note.number,
        state="issued",
        invoice=note.invoice,
        invoice_number=note.invoice_number,
        customer=note.customer_key,
        currency=note.currency,
        total_minor=note.total_minor,
        reduces_minor=note.reduces_minor,
        credited_minor=note.credited_minor,
        refund_minor=note.refund_minor,
        issued_us=note.manifest.issued_us,
        sha256=digest_of(body),
    )
    return StoredNote(head=head, body=body.decode())


def issue(stored: StoredNote, invoice: Invoice, standing: Standing) -> Moves:
    """Return what a numbered credit note does.

    Args:
        stored: composed from this standing.
        invoice: that it is of.
        standing: of the customer.
    """
    note = decode_note(stored.body)
    head = standing.invoice(note.invoice)
    changed = (opened(head, -note.reduces_minor),)
    at_us = note.manifest.issued_us
    return Moves(
        customer=standing.customer,
        version=standing.version,
        entries=note_postings(note, invoice, written_off=head.state == "uncollectible"),
        facts=(
            told("credit_note.issued", note, at_us),
            *state_facts(standing, changed, note.id, at_us),
        ),
        changed=changed,
        held=Holdings(credits=tuple(_given(note))),
        notes=(stored,),
    )


def told(kind: str, note: CreditNote, at_us: int) -> Fact:
    """Return a fact about a credit note."""
    body = NoteTold(
        id=note.id,
        number=note.number,
        invoice=note.invoice_number,
        customer=note.customer_key,
        currency=note.currency,
        total=note.total,
        reduces=note.reduces,
        credited=note.credited,
        refund=note.refund,
        reason=note.reason,
        issued=note.issued,
    )
    return fact(kind, note.id, note.customer_key, at_us, body)


def note_postings(
    note: CreditNote, invoice: Invoice, *, written_off: bool = False
) -> tuple[Entry, ...]:
    """Return the entries of a credit note.

    Args:
        note: numbered.
        invoice: that it is of.
        written_off: what was open of it was given up, so the note puts that back first.
    """
    step = Step(document=note.id, at_us=note.manifest.issued_us, currency=note.currency)
    owed = account("receivable", note.customer_key)
    moves = [
        *_line_moves(note, invoice, owed),
        *(
            Move(
                debit=account("tax", tax.tax),
                credit=owed,
                amount_minor=tax.amount_minor,
                invoice=note.invoice,
            )
            for tax in note.taxes
        ),
    ]
    settled = [
        ("bad-debt", note.reduces_minor if written_off else 0),
        ("credit", note.credited_minor),
        ("refund", note.refund_minor),
    ]
    for kind, minor in settled:
        to = f"{kind}:{note.customer_key}"
        moves.append(Move(debit=owed, credit=to, amount_minor=minor, invoice=note.invoice))
    return posted(step, moves)


def _line_moves(note: CreditNote, invoice: Invoice, owed: str) -> Iterator[Move]:
    lines = {line.id: line for line in invoice.lines}
    for line in note.lines:
        start_us, end_us = service(lines[line.line])
        earned = account("revenue", line.customer or note.customer_key)
        yield Move(
            debit=earned,
            credit=owed,
            amount_minor=line.base_minor,
            invoice=note.invoice,
            line=line.line,
            service_start_us=start_us,
            service_end_us=end_us,
        )
        for share in line.shares:
            yield Move(
                debit=account("share", share.party),
                credit=earned,
                amount_minor=share.amount_minor,
                line=line.line,
                service_start_us=start_us,
                service_end_us=end_us,
            )


def _given(note: CreditNote) -> Iterator[Credit]:
    parts: tuple[tuple[Purpose, str, int], ...] = (
        ("credit", note.id, note.credited_minor),
        ("refund", f"{note.id}.refund", note.refund_minor),
    )
    for purpose, source, minor in parts:
        if minor:
            yield Credit(
                source=source,
                number=note.number,
                customer=note.customer_key,
                currency=note.currency,
                at_us=note.manifest.issued_us,
                amount_minor=minor,
                left_minor=minor,
                purpose=purpose,
            )


def void_note(stored: StoredNote, invoice: Invoice, standing: Standing, now_us: int) -> Moves:
    """Return what taking a credit note back does: what it took off is open again.

    Raises:
        Conflict: it is void already, a later note of the invoice builds on it, or what it gave is
            used or paid out.
    """
    note = decode_note(stored.body)
    if stored.head.state == "void":
        raise Conflict(f"credit note {note.number} is void already", field="state")
    later = [
        one.number for one in earlier(standing, note.invoice) if note.id in one.manifest.before
    ]
    if later:
        message = f"credit note {later[-1]} builds on {note.number}; void it first"
        raise Conflict(message, code="later-document")
    sources = {note.id, f"{note.id}.refund"}
    given = tuple(withdrawn(c) for c in standing.held.credits if c.source in sources)
    head = standing.invoice(note.invoice)
    changed = (opened(head, note.reduces_minor),)
    step = Step(document=note.id, name="void", at_us=now_us, currency=note.currency)
    entries = note_postings(note, invoice, written_off=head.state == "uncollectible")
    return Moves(
        customer=standing.customer,
        version=standing.version,
        entries=reversal(step, entries),
        facts=(
            told("credit_note.voided", note, now_us),
            *state_facts(standing, changed, note.id, now_us, "void"),
        ),
        changed=changed,
        held=Holdings(credits=given),
        notes=(
            msgspec.structs.replace(
                stored, head=msgspec.structs.replace(stored.head, state="void")
            ),
        ),
    )


class CheckedNote(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a credit note is what its manifest and its invoice make."""

    id: str
    number: str
    ok: bool
    sha256: str
    differences: tuple[str, ...]


def verify_note(stored: StoredNote, invoice: Invoice, invoice_body: bytes) -> CheckedNote:
    """Recompute a credit note from its manifest and its invoice, and compare bytes."""
    body = stored.body.encode()
    note = decode_note(body)
    found = []
    if digest_of(body) != stored.head.sha256:
        found.append("the stored JSON is not what was stored: its digest differs")
    if digest_of(invoice_body) != note.manifest.invoice_sha256:
        found.append(f"invoice {invoice.number} is not the one that was credited")
    again = msgspec.structs.replace(compose_note(note.manifest, invoice), number=note.number)
    if encode_note(again) != body:
        found.append(f"recomputed at {format_us(note.manifest.issued_us)} it differs")
    return CheckedNote(
        id=note.id,
        number=note.number,
        ok=not found,
        sha256=digest_of(body),
        differences=tuple(found),
    )
