"""From an invoice and what is to be taken back of it to a credit note.

Source: docs/algorithms/credit-notes.md
"""

from collections.abc import Mapping, Sequence

import msgspec

from tallybook.invoice.document import Invoice, TaxTotal
from tallybook.invoice.line import Line, LineShare, LineTax
from tallybook.invoice.manifest import canonical
from tallybook.kernel.errors import Conflict, Corrupt, Invalid, Missing
from tallybook.kernel.ids import derived_id
from tallybook.kernel.money import money_text, rounded_parts
from tallybook.kernel.timestamps import format_us
from tallybook.settle.receivable.credit_note import (
    SERIES,
    Asked,
    CreditNote,
    NoteLine,
    NoteManifest,
)

DRAFT_NUMBER = "DRAFT"


class LineAsk(msgspec.Struct, frozen=True, kw_only=True):
    """A line as it is asked for.

    Attributes:
        line: id or position.
        amount_minor: of its net, with its sign; None for all that is left of it.
    """

    line: str
    amount_minor: int | None = None


def net_left(
    invoice: Invoice, credited: Mapping[str, int], bounds: Mapping[str, int]
) -> dict[str, int]:
    """Return what may be credited of each line's net, by its id; see `asked_of`."""
    left = {line.id: line.net_minor - credited.get(line.id, 0) for line in invoice.lines}
    return {line: min(minor, bounds.get(line, minor)) for line, minor in left.items()}


def asked_of(
    invoice: Invoice,
    wanted: Sequence[LineAsk],
    credited: Mapping[str, int],
    bounds: Mapping[str, int],
) -> tuple[Asked, ...]:
    """Return what is asked for, checked, by the place of the lines.

    Args:
        invoice: finalized.
        wanted: () for all that is left of every line.
        credited: of each line's net by earlier notes.
        bounds: of lines' nets, what is not given back yet in another way.

    Raises:
        Missing: there is no such line.
        Invalid: twice the same line, nothing, or more than is left of a line.
    """
    left = net_left(invoice, credited, bounds)
    asked = dict(_one(invoice, want, left) for want in wanted)
    if len(asked) < len(wanted):
        raise Invalid("a line is named twice", field="lines")
    if not wanted:
        asked = {line: minor for line, minor in left.items() if minor}
    if not asked:
        message = f"nothing is left of invoice {invoice.number} to be credited"
        raise Conflict(message, code="credit-exceeds")
    return tuple(
        Asked(line=line.id, amount_minor=asked[line.id])
        for line in invoice.lines
        if line.id in asked
    )


def _one(invoice: Invoice, want: LineAsk, left: Mapping[str, int]) -> tuple[str, int]:
    line = _line(invoice, want.line)
    most = left[line.id]
    minor = most if want.amount_minor is None else want.amount_minor
    inside = 0 < minor <= most or most <= minor < 0
    if not inside:
        text = money_text(most, invoice.currency)
        message = f"of line {line.position} at most {text} {invoice.currency} can be credited"
        raise Invalid(message, code="credit-exceeds", field="lines")
    return line.id, minor


def _line(invoice: Invoice, name: str) -> Line:
    for line in invoice.lines:
        if name in {line.id, str(line.position)}:
            return line
    raise Missing(f"invoice {invoice.number} has no line '{name}'", field="lines")


def compose_note(manifest: NoteManifest, invoice: Invoice) -> CreditNote:
    """Return the credit note that a manifest makes, without a number.

    Args:
        manifest: of a note of this invoice.
        invoice: finalized.

    Raises:
        Invalid: more than is left of the invoice's total, or a total that is not above zero.
        Corrupt: the manifest names a line that the invoice does not have.
    """
    lines = {line.id: line for line in invoice.lines}
    if any(asked.line not in lines for asked in manifest.asked):
        raise Corrupt(f"a credit note names lines that invoice {invoice.number} does not have")
    nets = {asked.line: asked.amount_minor for asked in manifest.asked}
    taxes = {tax.tax: _tax_minor(tax, invoice, nets, manifest) for tax in invoice.taxes}
    parts = _tax_parts(invoice, nets, taxes)
    contained = {tax.tax for tax in invoice.taxes if tax.inclusive}
    made = tuple(
        _note_line(invoice, lines[line], net, parts[line], contained, manifest)
        for line, net in nets.items()
    )
    added = sum(minor for tax, minor in taxes.items() if tax not in contained)
    subtotal = sum(nets.values())
    _check_total(invoice, subtotal + added, manifest.total_credited)
    totals = tuple(
        _tax_total(tax, taxes[tax.tax], _base_of(made, tax.tax), invoice.currency)
        for tax in invoice.taxes
        if any(part.tax == tax.tax for line in made for part in line.taxes)
    )
    return _note(manifest, invoice, made, totals, added)


def _check_total(invoice: Invoice, total: int, credited: int) -> None:
    left = invoice.total_minor - credited
    if total <= 0:
        raise Invalid("a credit note takes back more than nothing", field="lines")
    if total > left:
        text = money_text(left, invoice.currency)
        message = f"of invoice {invoice.number} at most {text} {invoice.currency} can be credited"
        raise Invalid(message, code="credit-exceeds", field="lines")


def _bearing(invoice: Invoice, tax: str) -> list[Line]:
    """Return the lines that have a tax."""
    return [line for line in invoice.lines if any(part.tax == tax for part in line.taxes)]


def _tax_minor(
    tax: TaxTotal, invoice: Invoice, nets: Mapping[str, int], manifest: NoteManifest
) -> int:
    """Return a note's part of a tax: in proportion, never more than is left, the last the rest."""
    bearing = _bearing(invoice, tax.tax)
    whole = sum(line.net_minor for line in bearing)
    net = sum(nets.get(line.id, 0) for line in bearing)
    before = manifest.taxes_credited.get(tax.tax, 0)
    left = tax.amount_minor - before
    if net and net + sum(manifest.credited.get(line.id, 0) for line in bearing) == whole:
        return left
    if not whole:
        return 0
    sign = -1 if whole < 0 else 1
    part = rounded_parts([sign * tax.amount_minor * net], abs(whole))[0]
    return min(part, left) if tax.amount_minor > 0 else max(part, left)


def _tax_parts(
    invoice: Invoice, nets: Mapping[str, int], taxes: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """Return each line's part of each of its taxes."""
    parts: dict[str, dict[str, int]] = {line: {} for line in nets}
    for tax, minor in taxes.items():
        mine = [line.id for line in _bearing(invoice, tax) if line.id in nets]
        split = _in_proportion(minor, [nets[line] for line in mine])
        for line, part in zip(mine, split, strict=True):
            parts[line][tax] = part
    return parts


def _in_proportion(minor: int, nets: Sequence[int]) -> list[int]:
    """Split an amount over nets, each part in proportion to its net; they may differ in sign."""
    total = sum(nets)
    if not total:
        return [minor if at == 0 else 0 for at in range(len(nets))]
    sign = -1 if total < 0 else 1
    return rounded_parts([sign * minor * net for net in nets], abs(total))


def _note_line(
    invoice: Invoice,
    line: Line,
    net: int,
    parts: Mapping[str, int],
    contained: set[str],
    manifest: NoteManifest,
) -> NoteLine:
    currency = invoice.currency
    base = net - sum(minor for tax, minor in parts.items() if tax in contained)
    return NoteLine(
        line=line.id,
        position=line.position,
        name=line.name,
        customer=line.customer,
        period_start=line.period_start,
        period_end=line.period_end,
        net=money_text(net, currency),
        net_minor=net,
        base=money_text(base, currency),
        base_minor=base,
        taxes=tuple(
            LineTax(tax=tax, amount=money_text(minor, currency), amount_minor=minor)
            for tax, minor in parts.items()
        ),
        shares=tuple(_share(line, share, net, currency, manifest) for share in line.shares),
    )


def share_key(line: str, party: str) -> str:
    """Return the name under which a manifest counts what notes took of a share."""
    return f"{line}/{party}"


def _share(
    line: Line, share: LineShare, net: int, currency: str, manifest: NoteManifest
) -> LineShare:
    """Return a note's part of a share: of all credited so far, less what was taken before."""
    whole = net + manifest.credited.get(line.id, 0)
    sign = -1 if line.net_minor < 0 else 1
    so_far = rounded_parts([sign * share.amount_minor * whole], abs(line.net_minor))[0]
    minor = so_far - manifest.shares_credited.get(share_key(line.id, share.party), 0)
    return LineShare(
        party=share.party,
        percent=share.percent,
        amount=money_text(minor, currency),
        amount_minor=minor,
    )


def _base_of(lines: Sequence[NoteLine], tax: str) -> int:
    bearing = [line for line in lines if any(part.tax == tax for part in line.taxes)]
    return sum(line.base_minor for line in bearing)


def _tax_total(tax: TaxTotal, minor: int, base: int, currency: str) -> TaxTotal:
    return msgspec.structs.replace(
        tax,
        base=money_text(base, currency),
        base_minor=base,
        amount=money_text(minor, currency),
        amount_minor=minor,
    )


def _note(
    manifest: NoteManifest,
    invoice: Invoice,
    lines: tuple[NoteLine, ...],
    taxes: tuple[TaxTotal, ...],
    added: int,
) -> CreditNote:
    currency = invoice.currency
    subtotal = sum(line.net_minor for line in lines)
    total = subtotal + added
    reduces = min(total, manifest.open_minor)
    rest = total - reduces
    refund = min(rest, manifest.refundable_minor) if manifest.rest == "refund" else 0
    return CreditNote(
        id=derived_id("cn", canonical(manifest).decode()),
        number=DRAFT_NUMBER,
        series=SERIES,
        issued=format_us(manifest.issued_us),
        invoice=invoice.id,
        invoice_number=invoice.number,
        seller=invoice.seller,
        customer_key=invoice.customer_key,
        customer=invoice.customer,
        locale=invoice.locale,
        zone=invoice.zone,
        currency=currency,
        reason=manifest.reason,
        lines=lines,
        subtotal=money_text(subtotal, currency),
        subtotal_minor=subtotal,
        taxes=taxes,
        tax_minor=added,
        total=money_text(total, currency),
        total_minor=total,
        reduces=money_text(reduces, currency),
        reduces_minor=reduces,
        credited=money_text(rest - refund, currency),
        credited_minor=rest - refund,
        refund=money_text(refund, currency),
        refund_minor=refund,
        manifest=manifest,
    )
