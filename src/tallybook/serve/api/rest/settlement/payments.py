"""Payments, refunds, and credit put on open invoices."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated

import msgspec
from litestar import Controller, get, post
from litestar.params import Parameter

from tallybook.catalog.meter import name_ok
from tallybook.compose import World
from tallybook.invoice.ports import InvoiceHead
from tallybook.invoice.state import shown_as
from tallybook.kernel.money import money_text
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.paging import (
    LIMIT_DEFAULT,
    Cursor,
    Limit,
    Page,
    keyed_page,
    page,
    place_of,
)
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.settlement.bodies import (
    REASON_CHARS_MAX,
    instant_of,
    minor_of,
    written,
)
from tallybook.settle.receivable.flow import pay, pay_from_credit, pay_out, take_back
from tallybook.settle.receivable.owing import requests
from tallybook.settle.receivable.paying import Received, Wanted
from tallybook.settle.receivable.payment import Payment

HEADS_AT_ONCE = 5_000
"""Overdue invoices that are read together."""


class InvoicePart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An invoice to be paid, by id or number; without an amount as much as is open of it."""

    invoice: str
    amount: Decimal | None = None


class PaymentSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A payment that came in.

    Attributes:
        currency: null for the customer's.
        method: such as 'bank-transfer'; the name of the cash account.
        reference: where it is the number of an open invoice, that one is paid first.
        received: RFC 3339; null for now.
        invoices: exactly these; none for the oldest first.
    """

    customer: str
    amount: Decimal
    method: str
    currency: str | None = None
    reference: str = ""
    received: str | None = None
    invoices: list[InvoicePart] = []


class CreditSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Open invoices to be paid from the customer's credit; amount: at most so much."""

    customer: str
    amount: Decimal
    currency: str | None = None
    invoices: list[InvoicePart] = []


class RefundSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Credit that was paid out; source: id or number of the credit note or payment it is from."""

    customer: str
    amount: Decimal
    method: str
    currency: str | None = None
    reference: str = ""
    received: str | None = None
    source: str | None = None


class ReversalSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a payment is taken back, such as 'charge-back'."""

    reason: str


class AllocationView(msgspec.Struct, frozen=True, kw_only=True):
    """What a payment paid of an invoice."""

    invoice: str
    number: str
    amount: str


class SourceView(msgspec.Struct, frozen=True, kw_only=True):
    """What a refund or a use of credit was taken from."""

    source: str
    number: str
    amount: str


class PaymentView(msgspec.Struct, frozen=True, kw_only=True):
    """A payment, refund or use of credit; money is a string, times are RFC 3339.

    Attributes:
        kind: payment, credit or refund.
        state: recorded or reversed.
        credited: more than was open, which became the customer's credit.
        lost: credited, spent and reversed.
    """

    id: str
    kind: str
    state: str
    customer: str
    currency: str
    amount: str
    method: str
    reference: str
    received: str
    recorded: str
    reversed: str | None
    reason: str
    allocations: list[AllocationView]
    credited: str
    sources: list[SourceView]
    lost: str


def payment_view(payment: Payment) -> PaymentView:
    """Return a payment as the API shows it."""
    back = payment.reversed_us
    return PaymentView(
        id=payment.id,
        kind=payment.kind,
        state=payment.state,
        customer=payment.customer,
        currency=payment.currency,
        amount=payment.amount,
        method=payment.method,
        reference=payment.reference,
        received=format_us(payment.received_us),
        recorded=format_us(payment.recorded_us),
        reversed=None if back is None else format_us(back),
        reason=payment.reason,
        allocations=[
            AllocationView(invoice=one.invoice, number=one.number, amount=one.amount)
            for one in payment.allocations
        ],
        credited=money_text(payment.credited_minor, payment.currency),
        sources=[
            SourceView(source=one.source, number=one.number, amount=one.amount)
            for one in payment.credits
        ],
        lost=money_text(payment.lost_minor, payment.currency),
    )


def received_of(
    world: World,
    grant: Grant,
    spec: PaymentSpec | CreditSpec | RefundSpec,
    prefix: str,
) -> Received:
    """Return a payment as the flow takes it; raises Missing, Invalid."""
    customer = world.catalog.load(grant.tenant).customer(spec.customer)
    currency = spec.currency or customer.currency
    now_us = world.clock.now_us()
    parts = [] if isinstance(spec, RefundSpec) else spec.invoices
    told = None if isinstance(spec, CreditSpec) else spec
    return Received(
        id=world.ids.new(prefix),
        currency=currency,
        amount_minor=minor_of("amount", spec.amount, currency),
        method="credit" if told is None else name_ok("method", told.method),
        reference="" if told is None else written("reference", told.reference),
        received_us=now_us if told is None else instant_of("received", told.received, now_us),
        recorded_us=now_us,
        wanted=tuple(
            Wanted(
                invoice=part.invoice,
                amount_minor=None
                if part.amount is None
                else minor_of("invoices", part.amount, currency),
            )
            for part in parts
        ),
    )


class Payments(Controller):
    """What customers paid."""

    path = "/payments"
    tags = ("settlement",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_payments(
        self,
        world: World,
        grant: Grant,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        customer: str | None = None,
        invoice: Annotated[
            str | None, Parameter(description="Those that paid the invoice with this id or number.")
        ] = None,
    ) -> Page[PaymentView]:
        """List payments, refunds and uses of credit, the oldest first."""
        paid = None if invoice is None else world.invoices.invoice(grant.tenant, invoice).head.id
        found = world.settlements.payments(
            grant.tenant,
            limit=limit + 1,
            after=place_of(cursor, str),
            customer=customer,
            invoice=paid,
        )
        shown = page(found, limit, lambda payment: payment.id)
        return Page([payment_view(payment) for payment in shown.items], shown.next_cursor)

    @post("/", opt=BILLING, sync_to_thread=True)
    def record_payment(self, world: World, grant: Grant, data: PaymentSpec) -> PaymentView:
        """Record a payment: it pays invoices, the oldest first, and what is over is credit."""
        received = received_of(world, grant, data, "pay")
        return payment_view(pay(world.settling(grant.tenant), data.customer, received))

    @post("/from-credit", opt=BILLING, sync_to_thread=True)
    def use_credit(self, world: World, grant: Grant, data: CreditSpec) -> PaymentView:
        """Pay open invoices from the customer's credit."""
        received = received_of(world, grant, data, "pay")
        return payment_view(pay_from_credit(world.settling(grant.tenant), data.customer, received))

    @get("/{name:str}", opt=READ, sync_to_thread=True)
    def get_payment(self, world: World, grant: Grant, name: str) -> PaymentView:
        """Show a payment."""
        return payment_view(world.settlements.payment(grant.tenant, name))

    @post("/{name:str}/reverse", opt=BILLING, status_code=200, sync_to_thread=True)
    def reverse_payment(
        self, world: World, grant: Grant, name: str, data: ReversalSpec
    ) -> PaymentView:
        """Take a payment or refund back: what it paid is open again."""
        reason = written("reason", data.reason, REASON_CHARS_MAX)
        return payment_view(take_back(world.settling(grant.tenant), name, reason))


class RequestView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a customer has overdue, to be asked for at once."""

    customer: str
    currency: str
    amount: str
    invoices: list[str]


@get("/payment-requests", opt=READ, tags=["settlement"], sync_to_thread=True)
def list_payment_requests(
    world: World,
    grant: Grant,
    currency: str,
    threshold: Decimal = Decimal(0),
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Page[RequestView]:
    """List what is to be asked for, by customer: one request where the overdue sum is large enough.

    Every overdue invoice counts, however many there are.
    """
    now_us = world.clock.now_us()
    smallest = minor_of("threshold", threshold, currency)
    found = requests(_overdue(world, grant.tenant, now_us), currency, smallest, now_us)
    some = keyed_page(found, limit, cursor, lambda one: one.customer)
    views = [
        RequestView(
            customer=one.customer,
            currency=one.currency,
            amount=money_text(one.amount_minor, one.currency),
            invoices=list(one.invoices),
        )
        for one in some.items
    ]
    return Page(views, some.next_cursor)


def _overdue(world: World, tenant: str, now_us: int) -> Iterator[InvoiceHead]:
    """Yield every overdue invoice in the order of their numbers."""
    late, after = shown_as("overdue", now_us), None
    while True:
        heads = world.invoices.invoices(tenant, limit=HEADS_AT_ONCE, after=after, shown=late)
        yield from heads
        if len(heads) < HEADS_AT_ONCE:
            return
        after = heads[-1].number


class Refunds(Controller):
    """What customers were paid out."""

    path = "/refunds"
    tags = ("settlement",)

    @post("/", opt=BILLING, sync_to_thread=True)
    def record_refund(self, world: World, grant: Grant, data: RefundSpec) -> PaymentView:
        """Record that credit, or what a credit note promised, was paid out."""
        received = received_of(world, grant, data, "ref")
        settling = world.settling(grant.tenant)
        return payment_view(pay_out(settling, data.customer, received, data.source))
