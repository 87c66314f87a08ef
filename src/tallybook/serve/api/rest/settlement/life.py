"""What becomes of invoices: one-off ones are made, others are paid, voided, written off."""

from decimal import Decimal

import msgspec
from litestar import Controller, post

from tallybook.catalog.plan import Share
from tallybook.catalog.plan.parts import shares_ok
from tallybook.catalog.price.fields import amount, positive
from tallybook.catalog.tax import check_tax_keys
from tallybook.compose import World
from tallybook.invoice.manifest import Extra
from tallybook.kernel.decimals import EXACT
from tallybook.kernel.errors import Invalid
from tallybook.kernel.money import from_minor
from tallybook.kernel.period import parse_moment, zone
from tallybook.serve.api.common.access import BILLING
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.invoices import InvoiceView, Name, invoice_view
from tallybook.serve.api.rest.settlement.bodies import written
from tallybook.serve.api.rest.settlement.payments import (
    InvoicePart,
    PaymentSpec,
    PaymentView,
    payment_view,
    received_of,
)
from tallybook.settle.receivable.anew import invoice_now, reissue
from tallybook.settle.receivable.flow import give_up, pay, put_extras, void_invoice

LINES_MAX = 2000


class LineSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A one-off charge, or a credit where the amount is below zero.

    Attributes:
        amount: of one unit, exact; the line is rounded once.
        start, end: what it is for, dates in the customer's zone or RFC 3339; null for today.
        taxes: keys; null for those of the customer.
    """

    name: str
    amount: Decimal
    quantity: Decimal = Decimal(1)
    unit: str = ""
    start: str | None = None
    end: str | None = None
    taxes: list[str] | None = None
    shares: list[Share] = []


class OneOffSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One-off charges; later: on the customer's next invoice instead of one of their own."""

    customer: str
    lines: list[LineSpec]
    later: bool = False


class OneOffView(msgspec.Struct, frozen=True, kw_only=True):
    """The invoice of one-off charges; null where they wait for the next one."""

    invoice: InvoiceView | None
    charges: list[str]


class InvoicePaymentSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A payment of one invoice; what is over becomes credit."""

    amount: Decimal
    method: str
    reference: str = ""
    received: str | None = None


def extra_of(world: World, grant: Grant, customer: str, spec: LineSpec) -> Extra:
    """Return a one-off charge as it is kept; raises Missing, Invalid."""
    owner = world.catalog.load(grant.tenant).customer(customer)
    tz = zone(owner.zone)
    now_us = world.clock.now_us()
    start = now_us if spec.start is None else parse_moment(spec.start, tz, "lines.start")
    end = start + 1 if spec.end is None else parse_moment(spec.end, tz, "lines.end")
    if end <= start:
        raise Invalid("lines.end must be after lines.start", field="lines.end")
    name = written("lines.name", spec.name)
    if not name:
        raise Invalid("lines.name must not be empty", field="lines.name")
    size = amount("lines.amount", spec.amount.copy_abs())
    quantity = positive("lines.quantity", spec.quantity)
    whole = EXACT.multiply(size.copy_sign(spec.amount), quantity)
    most = from_minor(world.billing(grant.tenant).bounds.total_minor_max, owner.currency)
    if whole.copy_abs() > most:
        # No invoice may hold it: one that waits would park its customer's invoices for good.
        raise Invalid(f"lines.amount must come to at most {most:f}", field="lines.amount")
    return Extra(
        id=world.ids.new("ext"),
        name=name,
        amount=whole,
        start_us=start,
        end_us=end,
        quantity=quantity,
        unit=written("lines.unit", spec.unit),
        taxes=None if spec.taxes is None else check_tax_keys(spec.taxes),
        shares=shares_ok(spec.shares),
    )


class InvoiceLife(Controller):
    """What becomes of invoices."""

    path = "/invoices"
    tags = ("invoices",)

    @post("/", opt=BILLING, sync_to_thread=True)
    def create_invoice(self, world: World, grant: Grant, data: OneOffSpec) -> OneOffView:
        """Bill one-off charges: at once on an invoice of their own, or later on the next one."""
        if not 1 <= len(data.lines) <= LINES_MAX:
            raise Invalid(f"an invoice has 1 to {LINES_MAX} lines", field="lines")
        extras = [extra_of(world, grant, data.customer, line) for line in data.lines]
        settling = world.settling(grant.tenant)
        charges = [extra.id for extra in extras]
        if data.later:
            put_extras(settling, data.customer, extras)
            return OneOffView(invoice=None, charges=charges)
        head = invoice_now(settling, data.customer, extras)
        return OneOffView(invoice=invoice_view(head, world.clock.now_us()), charges=charges)

    @post("/{name:str}/pay", opt=BILLING, sync_to_thread=True)
    def pay_invoice(
        self, world: World, grant: Grant, name: Name, data: InvoicePaymentSpec
    ) -> PaymentView:
        """Record a payment of one invoice; what is over becomes the customer's credit."""
        head = world.invoices.invoice(grant.tenant, name).head
        spec = PaymentSpec(
            customer=head.customer,
            amount=data.amount,
            method=data.method,
            currency=head.currency,
            reference=data.reference,
            received=data.received,
            invoices=[InvoicePart(invoice=head.id)],
        )
        received = received_of(world, grant, spec, "pay")
        return payment_view(pay(world.settling(grant.tenant), head.customer, received))

    @post("/{name:str}/void", opt=BILLING, status_code=200, sync_to_thread=True)
    def void(self, world: World, grant: Grant, name: Name) -> InvoiceView:
        """Take an invoice back on which nothing was paid; what it billed is open for a run."""
        head = void_invoice(world.settling(grant.tenant), name)
        return invoice_view(head, world.clock.now_us())

    @post("/{name:str}/write-off", opt=BILLING, status_code=200, sync_to_thread=True)
    def write_off(self, world: World, grant: Grant, name: Name) -> InvoiceView:
        """Give up what is open of an invoice; a payment may still come."""
        head = give_up(world.settling(grant.tenant), name)
        return invoice_view(head, world.clock.now_us())

    @post("/{name:str}/reissue", opt=BILLING, sync_to_thread=True)
    def reissue_invoice(self, world: World, grant: Grant, name: Name) -> InvoiceView:
        """Void an invoice and bill what it billed anew, as things stand now."""
        head = reissue(world.settling(grant.tenant), name)
        return invoice_view(head, world.clock.now_us())
