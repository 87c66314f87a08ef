"""Void and write-off decided: what an invoice leaves behind when it is taken back or given up.

Source: docs/algorithms/invoice-life.md
"""

from collections.abc import Iterator, Sequence

import msgspec

from tallybook.catalog.subscription import StoredPeriod
from tallybook.invoice.document import Invoice
from tallybook.invoice.ledger.facts import told
from tallybook.invoice.ledger.holdings import Holdings, PendingExtra, after_void
from tallybook.invoice.ledger.posting import voided
from tallybook.invoice.manifest import Billed, Group, Item, Position
from tallybook.invoice.ports import Books, StoredInvoice
from tallybook.invoice.record import group_text
from tallybook.invoice.state import after
from tallybook.kernel.book.entry import Entry, Move, Step, account, posted
from tallybook.kernel.errors import Conflict
from tallybook.settle.receivable.crediting import earlier
from tallybook.settle.receivable.standing import Changed, Moves, Returned, Standing


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """Where billing stands without an invoice, to be stored in place of what it was.

    Attributes:
        billed: figures as they were before it.
        periods: those it closed are open again, so that a run bills them anew.
    """

    billed: tuple[tuple[Position, Billed], ...]
    periods: tuple[StoredPeriod, ...]


def released(stored: StoredInvoice, invoice: Invoice, books: Books) -> Released:
    """Return where billing stands once an invoice is taken back.

    Args:
        stored: the invoice.
        invoice: its document.
        books: of its subscriptions, as they are.

    Raises:
        Conflict: a later invoice builds on what it billed; code 'later-document'.
    """
    items = {item.position: item for item in invoice.manifest.items}
    billed = []
    for line in stored.lines:
        now = books.billed.get(line.position, {})
        current = next((one for one in now.values() if group_text(one.group) == line.group), None)
        if current is None:
            continue  # a one-off leaves nothing behind
        if current.invoice != invoice.id:
            message = f"a later invoice builds on line {line.number} of {invoice.number}"
            raise Conflict(f"{message}; void it first", code="later-document")
        billed.append((line.position, _before(items.get(line.position), current)))
    return Released(billed=tuple(billed), periods=tuple(_reopened(stored, invoice, books)))


def _before(item: Item | None, current: Billed) -> Billed:
    """Return what was billed before; nothing where it was the first time."""
    found = _nothing(current.group)
    for one in () if item is None else item.before:
        if one.group == current.group:
            found = one
    return msgspec.structs.replace(found, forgiven_minor=current.forgiven_minor)


def _nothing(group: Group) -> Billed:
    return Billed(
        group=group,
        amount_minor=0,
        quantity="0",
        events=0,
        digest="0",
        until_us=0,
        cut=0,
        invoice="",
    )


def _reopened(stored: StoredInvoice, invoice: Invoice, books: Books) -> Iterator[StoredPeriod]:
    """Yield the periods that an invoice billed or corrected, as a run must find them.

    Those that it billed as current ones are open, and unbilled since then. Where it corrected any
    of a subscription, the next run rates them again, whichever month it bills: what was decided
    about them does not tell it to, because they know that already.
    """
    with_line = {line.position for line in stored.lines}
    of: dict[str, list[Item]] = {}
    for item in invoice.manifest.items:
        of.setdefault(item.position.subscription, []).append(item)
    for subscription, items in sorted(of.items()):
        corrects = any(item.adjustment and item.position in with_line for item in items)
        for period in books.periods.get(subscription, ()):
            mine = [item for item in items if _of(item, period)]
            current = [item for item in mine if not item.adjustment]
            found = _open_again(period, current) if current else period
            replaced = [item for item in mine if _terms(item) != _terms(period)]
            if mine and (corrects or replaced):
                found = msgspec.structs.replace(found, again=True)
            for item in replaced:
                # It gave back what another plan had charged: so that plan is the one billed.
                found = msgspec.structs.replace(
                    found, plan=item.plan, plan_version=item.plan_version, phase=item.phase
                )
            if found != period:
                yield found


def _terms(of: Item | StoredPeriod) -> tuple[str, int, str]:
    return of.plan, of.plan_version, of.phase


def _open_again(period: StoredPeriod, items: Sequence[Item]) -> StoredPeriod:
    """Return a period that is open since before some of its items were billed."""
    usage = [item for item in items if item.meter is not None]
    until = max((b.until_us for i in usage for b in i.before), default=period.start_us)
    until = min(until, period.until_us) if usage else period.until_us
    return msgspec.structs.replace(period, closed=False, until_us=until)


def _of(item: Item, period: StoredPeriod) -> bool:
    place = (item.position.subscription, item.position.start_us, item.full_end_us)
    return place == (period.subscription, period.start_us, period.full_end_us)


def void(
    invoice: Invoice, standing: Standing, extras: tuple[PendingExtra, ...], now_us: int
) -> Moves:
    """Return what voiding an invoice does to the books and to what its customer holds.

    Coupons, credits and wallet draws are given back, its one-off charges wait again.

    Args:
        invoice: finalized.
        standing: of its customer.
        extras: its one-off charges, as they are stored.
        now_us: when.

    Raises:
        Conflict: something was paid on it or credited of it, what it gave is used, or its state
            forbids it.
    """
    head = standing.invoice(invoice.id)
    # One with nothing to pay is paid from the beginning; whether money came is asked below.
    state = after(after("paid", "unpay") if head.state == "paid" else head.state, "void")
    if earlier(standing, invoice.id):
        message = f"invoice {head.number} was credited; void the credit notes first"
        raise Conflict(message, code="later-document")
    if head.open_minor != head.payable_minor:
        message = f"something was paid on invoice {head.number}; reverse the payment first"
        raise Conflict(message, code="invoice-paid")
    entries = voided(invoice, now_us)
    if head.state == "uncollectible":
        entries = (*_given_up(invoice, -head.open_minor, now_us, "recover"), *entries)
    held = Holdings(
        redemptions=standing.held.redemptions, credits=standing.held.credits, extras=extras
    )
    return Moves(
        customer=standing.customer,
        version=standing.version,
        entries=entries,
        facts=(told("invoice.voided", invoice, now_us),),
        changed=(Changed(head.id, state, 0),),
        held=after_void(invoice, held),
        returned=(Returned(invoice=invoice.id, at_us=now_us),) if invoice.prepaid else (),
    )


def write_off(invoice: Invoice, standing: Standing, now_us: int) -> Moves:
    """Return what giving up what is open of an invoice does; a payment may still come.

    Raises:
        Conflict: its state forbids it.
    """
    head = standing.invoice(invoice.id)
    state = after(head.state, "write-off")
    return Moves(
        customer=standing.customer,
        version=standing.version,
        entries=_given_up(invoice, head.open_minor, now_us, f"write-off-{standing.version}"),
        facts=(told("invoice.written_off", invoice, now_us, str(standing.version)),),
        changed=(Changed(head.id, state, head.open_minor),),
    )


def _given_up(invoice: Invoice, minor: int, now_us: int, step: str) -> tuple[Entry, ...]:
    """Return the entries of an amount of an invoice that is given up; negative to take it back."""
    booking = Step(document=invoice.id, name=step, at_us=now_us, currency=invoice.currency)
    move = Move(
        debit=account("bad-debt", invoice.customer_key),
        credit=account("receivable", invoice.customer_key),
        amount_minor=minor,
        invoice=invoice.id,
    )
    return posted(booking, [move])
