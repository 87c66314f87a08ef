"""Payments: listed, recorded by a form, taken back."""

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.types import ControllerRouterHandler

from tallybook.catalog.customer import Customer
from tallybook.compose import World
from tallybook.invoice.state import shown
from tallybook.kernel.errors import Refused
from tallybook.kernel.money import money_text
from tallybook.kernel.period import parse_moment, zone
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.common.paging import page, place_of
from tallybook.serve.api.rest.settlement.bodies import minor_of
from tallybook.serve.api.rest.settlement.payments import (
    InvoicePart,
    PaymentSpec,
    payment_view,
    received_of,
)
from tallybook.serve.console.access import BILLING_PAGE, PAGE, sent_by, session_of
from tallybook.serve.console.auth import Form
from tallybook.serve.console.forms import (
    Confirmation,
    ask,
    carried,
    confirmed,
    needed,
    number_of,
    text_of,
    to,
    values,
)
from tallybook.serve.console.once import is_recorded, once_key
from tallybook.serve.console.render import html, money
from tallybook.serve.console.session import Session
from tallybook.settle.receivable.flow import pay, take_back
from tallybook.settle.receivable.payment import Payment

PAGE_ROWS = 50
OPEN_SHOWN = 200
CUSTOMERS_OFFERED = 500


@get("/payments", opt=PAGE, sync_to_thread=True)
def payments_page(
    request: "Request[Any, Any, Any]",
    world: World,
    cursor: str | None = None,
    customer: str | None = None,
) -> Response[bytes]:
    """List payments, refunds and uses of credit in the order in which they were recorded."""
    session = session_of(request)
    tenant = session.grant.tenant
    found = world.settlements.payments(
        tenant, limit=PAGE_ROWS + 1, after=place_of(cursor, str), customer=customer or None
    )
    shown_ = page(found, PAGE_ROWS, lambda payment: payment.id)
    catalog = world.catalog.load(tenant)
    return html(
        "books/payments.html",
        session=session,
        here="payments",
        payments=[
            (payment_view(payment), catalog.customer(payment.customer).name)
            for payment in shown_.items
        ],
        customer=customer,
        next_cursor=shown_.next_cursor,
        may_bill=session.grant.allows("billing"),
    )


@get("/payments/new", opt=BILLING_PAGE, sync_to_thread=True)
def payment_form(
    request: "Request[Any, Any, Any]", world: World, customer: str = "", invoice: str = ""
) -> Response[bytes]:
    """Ask whose payment it is, then what came in."""
    session = session_of(request)
    tenant = session.grant.tenant
    start = {"customer": customer, "invoice": invoice}
    if invoice:
        head = world.invoices.invoice(tenant, invoice).head
        start |= {
            "customer": head.customer,
            "amount": money_text(head.open_minor, head.currency),
            "reference": head.number,
        }
    return _form(session, world, start, "")


@post("/payments", opt=BILLING_PAGE, sync_to_thread=True)
def record_payment(request: "Request[Any, Any, Any]", world: World, data: Form) -> Response[Any]:
    """Show what a payment would pay, or record it; the same form is recorded once."""
    session = sent_by(request, data)
    tenant = session.grant.tenant
    name = f"pay_{once_key(world, needed(data, 'once'))}"
    try:
        customer = world.catalog.load(tenant).customer(needed(data, "customer"))
        spec = spec_of(customer, data)
        received = msgspec.structs.replace(received_of(world, session.grant, spec, "pay"), id=name)
        if not confirmed(data):
            return ask(session, "payments", _confirmation(customer, spec, data))
        if not is_recorded(world, tenant, name):
            pay(world.settling(tenant), customer.key, received)
    except Refused as error:
        return _form(session, world, data, error.message)
    return to(f"/payments/{name}")


def spec_of(customer: Customer, data: Mapping[str, str]) -> PaymentSpec:
    """Return the payment that a form means; raises Invalid."""
    invoice, received = text_of(data, "invoice"), text_of(data, "received")
    if received:
        received = format_us(parse_moment(received, zone(customer.zone), "received"))
    return PaymentSpec(
        customer=customer.key,
        amount=number_of(data, "amount"),
        method=needed(data, "method"),
        reference=text_of(data, "reference"),
        received=received or None,
        invoices=[InvoicePart(invoice=invoice)] if invoice else [],
    )


def _confirmation(customer: Customer, spec: PaymentSpec, data: Mapping[str, str]) -> Confirmation:
    pays = spec.invoices[0].invoice if spec.invoices else "the oldest open invoices first"
    return Confirmation(
        title="Record this payment?",
        text="It is posted to the ledger. What is more than is open becomes the customer's credit.",
        action="/payments",
        button="Record the payment",
        back=f"/payments/new?customer={customer.key}",
        fields=carried(data),
        details=(
            ("Customer", customer.name),
            ("Amount", f"{customer.currency} {money(_exact(customer, spec))}"),
            ("Pays", pays),
            ("Method", spec.method),
            ("Reference", spec.reference or "–"),
            ("Received", spec.received or "now"),
        ),
    )


def _exact(customer: Customer, spec: PaymentSpec) -> str:
    """Return the amount with the currency's digits; raises Invalid where it has more."""
    return money_text(minor_of("amount", spec.amount, customer.currency), customer.currency)


def _form(session: Session, world: World, data: Mapping[str, str], wrong: str) -> Response[bytes]:
    tenant, now_us = session.grant.tenant, world.clock.now_us()
    catalog = world.catalog.load(tenant)
    chosen = catalog.customers.get(data.get("customer", ""))
    heads = [] if chosen is None else world.settlements.standing(tenant, chosen.key).invoices
    due = [head for head in heads if head.open_minor and head.state == "finalized"][:OPEN_SHOWN]
    start = {
        "customer": "",
        "invoice": "",
        "amount": "",
        "method": "bank-transfer",
        "reference": "",
        "received": "",
        "once": world.ids.new("form"),
    }
    payers = [
        one
        for one in sorted(catalog.customers.values(), key=lambda one: one.name)
        if catalog.live("customer", one.key) and not one.parent
    ]
    return html(
        "books/payment_form.html",
        400 if wrong else 200,
        session=session,
        here="payments",
        customer=chosen,
        customers=payers[:CUSTOMERS_OFFERED],
        due=[
            (
                head,
                shown(head.state, head.due_us, now_us),
                money_text(head.open_minor, head.currency),
            )
            for head in due
        ],
        form=values(data, **start),
        wrong=wrong,
    )


@get("/payments/{name:str}", opt=PAGE, sync_to_thread=True)
def payment_page(request: "Request[Any, Any, Any]", world: World, name: str) -> Response[bytes]:
    """Show a payment: what it paid, and what became of the rest."""
    session = session_of(request)
    tenant = session.grant.tenant
    payment = world.settlements.payment(tenant, name)
    return html(
        "books/payment.html",
        session=session,
        here="payments",
        payment=payment_view(payment),
        customer=world.catalog.load(tenant).customer(payment.customer),
        may_bill=session.grant.allows("billing") and payment.state == "recorded",
    )


@post("/payments/{name:str}/reverse", opt=BILLING_PAGE, sync_to_thread=True)
def reverse_payment(
    request: "Request[Any, Any, Any]", world: World, name: str, data: Form
) -> Response[Any]:
    """Ask whether a payment shall be taken back, or take it back."""
    session = sent_by(request, data)
    tenant, reason = session.grant.tenant, needed(data, "reason")
    payment = world.settlements.payment(tenant, name)
    if confirmed(data):
        take_back(world.settling(tenant), name, reason)
        return to(f"/payments/{name}")
    return ask(session, "payments", _reversal(payment, reason, data))


def _reversal(payment: Payment, reason: str, data: Mapping[str, str]) -> Confirmation:
    return Confirmation(
        title="Take this payment back?",
        text="What it paid is open again, and credit that came of it is taken back as far as it is"
        " not spent.",
        action=f"/payments/{payment.id}/reverse",
        button="Take it back",
        back=f"/payments/{payment.id}",
        fields=carried(data),
        details=(
            ("Amount", f"{payment.currency} {money(payment.amount)}"),
            ("Paid", ", ".join(one.number for one in payment.allocations) or "no invoice"),
            ("Why", reason),
        ),
        danger=True,
    )


ROUTES: list[ControllerRouterHandler] = [
    payments_page,
    payment_form,
    record_payment,
    payment_page,
    reverse_payment,
]
