"""Payments decided: what of them goes where, and what it means to the books.

Source: docs/algorithms/payments.md
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from tallybook.invoice.funds import CreditUsed
from tallybook.invoice.ledger.holdings import Credit, Holdings, drawn
from tallybook.invoice.ports import InvoiceHead
from tallybook.invoice.state import after
from tallybook.kernel.book.entry import Move, Step, account, posted
from tallybook.kernel.book.fact import Fact, fact
from tallybook.kernel.errors import Conflict, Invalid
from tallybook.kernel.money import money_text
from tallybook.settle.receivable.payment import Allocation, Payment
from tallybook.settle.receivable.standing import Changed, Moves, Standing, opened


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice to be paid; amount_minor: None for as much as is open of it."""

    invoice: str
    amount_minor: int | None = None


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A payment as it is told.

    Attributes:
        id: fresh.
        reference: where it is the number of an open invoice, that one is paid first.
        wanted: exactly these; () for the oldest first.
    """

    id: str
    currency: str
    amount_minor: int
    method: str
    reference: str = ""
    received_us: int
    recorded_us: int
    wanted: tuple[Wanted, ...] = ()


class PaymentTold(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a fact about a payment; money is a string."""

    id: str
    kind: str
    customer: str
    currency: str
    amount: str
    method: str
    reference: str
    invoices: tuple[str, ...]
    credited: str


def receive(received: Received, standing: Standing) -> Moves:
    """Return what a payment does: it pays invoices, and what is over becomes credit.

    Raises:
        Missing: it names an invoice that the customer does not have.
        Invalid: not above zero, another currency, or more than is open of a named invoice.
        Conflict: a named invoice is void.
    """
    _check_amount(received.amount_minor)
    targets = _targets(received, standing)
    allocations = tuple(_allocation(head, minor) for head, minor in targets)
    over = received.amount_minor - sum(minor for _, minor in targets)
    payment = Payment(
        id=received.id,
        kind="payment",
        customer=standing.customer,
        currency=received.currency,
        amount=money_text(received.amount_minor, received.currency),
        amount_minor=received.amount_minor,
        method=received.method,
        reference=received.reference,
        received_us=received.received_us,
        recorded_us=received.recorded_us,
        allocations=allocations,
        credited_minor=over,
    )
    cash = account("cash", payment.method)
    credit = Credit(
        source=payment.id,
        number=payment.reference or payment.id,
        customer=payment.customer,
        currency=payment.currency,
        at_us=payment.recorded_us,
        amount_minor=over,
        left_minor=over,
    )
    moves = [
        *_paid(targets, cash, standing.customer),
        Move(debit=cash, credit=account("credit", standing.customer), amount_minor=over),
    ]
    held = Holdings(credits=(credit,) if over else ())
    return _moves(payment, standing, targets, moves, held, "payment.received")


def use_credit(received: Received, standing: Standing) -> Moves:
    """Return what paying open invoices from the customer's credit does, oldest credit first.

    Args:
        received: amount_minor is the most to use.
        standing: of the customer.

    Raises:
        Missing, Invalid: as `receive`.
        Conflict: there is no credit, or nothing is open.
    """
    _check_amount(received.amount_minor)
    usable = [c for c in standing.held.credits if _usable(c, received.currency)]
    most = min(received.amount_minor, sum(credit.left_minor for credit in usable))
    limited = msgspec.structs.replace(received, amount_minor=most)
    targets = _targets(limited, standing)
    minor = sum(part for _, part in targets)
    if not minor:
        raise Conflict("there is no credit, or nothing is open", code="nothing-open")
    used, credits_ = _take(usable, minor)
    payment = Payment(
        id=received.id,
        kind="credit",
        customer=standing.customer,
        currency=received.currency,
        amount=money_text(minor, received.currency),
        amount_minor=minor,
        method="credit",
        reference=received.reference,
        received_us=received.received_us,
        recorded_us=received.recorded_us,
        allocations=tuple(_allocation(head, part) for head, part in targets),
        credits=used,
    )
    moves = _paid(targets, account("credit", standing.customer), standing.customer)
    held = Holdings(credits=credits_)
    return _moves(payment, standing, targets, list(moves), held, "payment.received")


def refund(received: Received, standing: Standing, source: str | None) -> Moves:
    """Return what paying credit out does.

    Args:
        received: how much, and how it is paid out.
        standing: of the customer.
        source: id or number of the credit note or payment whose credit is paid out; None for the
            oldest credits, those that wait to be refunded first.

    Raises:
        Invalid: not above zero, or more than there is.
    """
    _check_amount(received.amount_minor)
    usable = [
        credit
        for credit in sorted(standing.held.credits, key=lambda c: c.purpose == "credit")
        if credit.currency == received.currency
        and credit.left_minor
        and (source is None or source in _names(credit))
    ]
    most = sum(credit.left_minor for credit in usable)
    if received.amount_minor > most:
        text = money_text(most, received.currency)
        message = f"at most {text} {received.currency} can be refunded"
        raise Invalid(message, code="refund-exceeds", field="amount")
    used, credits_ = _take(usable, received.amount_minor)
    payment = Payment(
        id=received.id,
        kind="refund",
        customer=standing.customer,
        currency=received.currency,
        amount=money_text(received.amount_minor, received.currency),
        amount_minor=received.amount_minor,
        method=received.method,
        reference=received.reference,
        received_us=received.received_us,
        recorded_us=received.recorded_us,
        credits=used,
    )
    moves = _paid_out(used, {c.source: c for c in usable}, payment)
    held = Holdings(credits=credits_)
    return _moves(payment, standing, (), list(moves), held, "payment.refunded")


def reverse(payment: Payment, standing: Standing, at_us: int, reason: str) -> Moves:
    """Return what taking a payment back does: a charge-back, a bounced refund, a mistake.

    What it paid is open again. Credit that it gave is taken back, where it is spent from the
    customer's other credits, the oldest first; what is still missing is lost.

    Raises:
        Conflict: it is reversed already, or the state of an invoice forbids it.
    """
    if payment.state == "reversed":
        raise Conflict(f"payment {payment.id} is reversed already", code="payment-reversed")
    targets = [(standing.invoice(a.invoice), -a.amount_minor) for a in payment.allocations]
    given, moves, lost = _given_back(payment, standing)
    done = msgspec.structs.replace(
        payment, state="reversed", reversed_us=at_us, reason=reason, lost_minor=lost
    )
    source = account("credit" if payment.kind == "credit" else "cash", _source_name(payment))
    moves = [*_paid(targets, source, standing.customer), *moves]
    held = Holdings(credits=given)
    return _moves(done, standing, targets, moves, held, "payment.reversed", step="reversal")


def _source_name(payment: Payment) -> str:
    return payment.customer if payment.kind == "credit" else payment.method


def _given_back(payment: Payment, standing: Standing) -> tuple[tuple[Credit, ...], list[Move], int]:
    """Return the credits after a reversal, what is posted for them, and what is lost."""
    by_source = {credit.source: credit for credit in standing.held.credits}
    if payment.kind != "payment":
        given = tuple(drawn(by_source[u.source], -u.amount_minor) for u in payment.credits)
        if payment.kind == "credit":
            return given, [], 0
        out = _paid_out(payment.credits, by_source, payment)
        back = [msgspec.structs.replace(move, amount_minor=-move.amount_minor) for move in out]
        return given, back, 0
    own = [credit for credit in (by_source.get(payment.id),) if credit is not None]
    others = [
        credit
        for credit in standing.held.credits
        if _usable(credit, payment.currency) and credit.source != payment.id
    ]
    taken = min(payment.credited_minor, sum(credit.left_minor for credit in (*own, *others)))
    lost = payment.credited_minor - taken
    _, credits_ = _take([*own, *others], taken)
    cash = account("cash", payment.method)
    moves = [
        Move(debit=account("credit", payment.customer), credit=cash, amount_minor=taken),
        Move(debit=account("bad-debt", payment.customer), credit=cash, amount_minor=lost),
    ]
    return credits_, moves, lost


def _check_amount(amount_minor: int) -> None:
    if amount_minor <= 0:
        raise Invalid("amount must be above zero", field="amount")


def _usable(credit: Credit, currency: str) -> bool:
    return bool(credit.currency == currency and credit.left_minor and credit.purpose == "credit")


def _names(credit: Credit) -> set[str]:
    return {credit.source, credit.number, credit.source.removesuffix(".refund")}


def _targets(received: Received, standing: Standing) -> list[tuple[InvoiceHead, int]]:
    """Return which invoices are paid how much."""
    if received.wanted:
        return list(_named(received, standing))
    left = received.amount_minor
    found: list[tuple[InvoiceHead, int]] = []
    for head in sorted(standing.invoices, key=lambda head: head.number != received.reference):
        part = min(left, head.open_minor) if _payable(head, received.currency) else 0
        if part:
            found.append((head, part))
            left -= part
    return found


def _payable(head: InvoiceHead, currency: str) -> bool:
    return head.state == "finalized" and head.currency == currency


def _named(received: Received, standing: Standing) -> Iterator[tuple[InvoiceHead, int]]:
    left = received.amount_minor
    seen: set[str] = set()
    for want in received.wanted:
        head = standing.invoice(want.invoice)
        if head.currency != received.currency:
            message = f"invoice {head.number} is in {head.currency}"
            raise Invalid(message, field="currency")
        if head.id in seen:
            raise Invalid(f"invoice {head.number} is named twice", field="invoices")
        seen.add(head.id)
        after(head.state, "pay")
        part = min(left, head.open_minor) if want.amount_minor is None else want.amount_minor
        if not 0 < part <= min(left, head.open_minor):
            text = money_text(head.open_minor, head.currency)
            message = f"of invoice {head.number} {text} {head.currency} is open"
            raise Invalid(message, code="allocation-exceeds", field="invoices")
        left -= part
        yield head, part


def _allocation(head: InvoiceHead, minor: int) -> Allocation:
    return Allocation(
        invoice=head.id,
        number=head.number,
        amount=money_text(minor, head.currency),
        amount_minor=minor,
    )


def _paid(targets: Iterable[tuple[InvoiceHead, int]], source: str, customer: str) -> Iterator[Move]:
    """Yield what paying invoices from an account posts; written off ones are put back first."""
    owed, lost = account("receivable", customer), account("bad-debt", customer)
    for head, minor in targets:
        if head.state == "uncollectible":
            yield Move(debit=owed, credit=lost, amount_minor=minor, invoice=head.id)
        yield Move(debit=source, credit=owed, amount_minor=minor, invoice=head.id)


def _paid_out(
    used: Iterable[CreditUsed], credits_: dict[str, Credit], payment: Payment
) -> Iterator[Move]:
    for one in used:
        kind = credits_[one.source].purpose
        yield Move(
            debit=account(kind, payment.customer),
            credit=account("cash", payment.method),
            amount_minor=one.amount_minor,
        )


def _take(
    credits_: Sequence[Credit], minor: int
) -> tuple[tuple[CreditUsed, ...], tuple[Credit, ...]]:
    """Return what is taken from credits in this order, and the changed credits."""
    used: list[CreditUsed] = []
    changed: list[Credit] = []
    for credit in credits_:
        part = min(minor, credit.left_minor)
        if part:
            minor -= part
            text = money_text(part, credit.currency)
            one = CreditUsed(
                source=credit.source, number=credit.number, amount=text, amount_minor=part
            )
            used.append(one)
            changed.append(drawn(credit, part))
    assert not minor, "no more is taken than there is"
    return tuple(used), tuple(changed)


def _moves(
    payment: Payment,
    standing: Standing,
    targets: Sequence[tuple[InvoiceHead, int]],
    moves: Sequence[Move],
    held: Holdings,
    kind: str,
    *,
    step: str = "",
) -> Moves:
    at_us = payment.reversed_us or payment.received_us
    booking = Step(document=payment.id, name=step, at_us=at_us, currency=payment.currency)
    changed = tuple(opened(head, -minor) for head, minor in targets)
    return Moves(
        customer=standing.customer,
        version=standing.version,
        entries=posted(booking, moves),
        facts=(_told(payment, kind), *_paid_facts(payment, standing, changed)),
        changed=changed,
        held=held,
        payments=(payment,),
    )


def _told(payment: Payment, kind: str) -> Fact:
    body = PaymentTold(
        id=payment.id,
        kind=payment.kind,
        customer=payment.customer,
        currency=payment.currency,
        amount=payment.amount,
        method=payment.method,
        reference=payment.reference,
        invoices=tuple(one.number for one in payment.allocations),
        credited=money_text(payment.credited_minor, payment.currency),
    )
    at_us = payment.reversed_us or payment.recorded_us
    return fact(kind, payment.id, payment.customer, at_us, body)


class InvoicePaid(msgspec.Struct, frozen=True, kw_only=True):
    """The body of the fact that an invoice's state changed after a document; money is a string."""

    id: str
    number: str
    customer: str
    currency: str
    open: str
    document: str


def state_facts(
    standing: Standing, changed: Iterable[Changed], document: str, at_us: int, step: str = ""
) -> Iterator[Fact]:
    """Yield that invoices became paid, or open again, by a document."""
    for one in changed:
        head = standing.invoice(one.invoice)
        if one.state == head.state:
            continue
        body = InvoicePaid(
            id=head.id,
            number=head.number,
            customer=head.customer,
            currency=head.currency,
            open=money_text(one.open_minor, head.currency),
            document=document,
        )
        kind = "invoice.paid" if one.state == "paid" else "invoice.unpaid"
        yield fact(kind, head.id, head.customer, at_us, body, f"{document}{step}")


def _paid_facts(payment: Payment, standing: Standing, changed: Iterable[Changed]) -> Iterator[Fact]:
    at_us = payment.reversed_us or payment.recorded_us
    return state_facts(standing, changed, payment.id, at_us, payment.state)
