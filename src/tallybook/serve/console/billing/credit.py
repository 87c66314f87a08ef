"""The form of a credit note: choose lines or amounts of an invoice, see the note, issue it."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from litestar import Request, Response, get, post
from litestar.types import ControllerRouterHandler

from tallybook.compose import World
from tallybook.invoice.document import Invoice, decode_invoice
from tallybook.kernel.errors import Invalid, Refused
from tallybook.kernel.money import money_text
from tallybook.serve.api.rest.settlement.bodies import minor_of
from tallybook.serve.console.access import BILLING_PAGE, sent_by, session_of
from tallybook.serve.console.auth import Form
from tallybook.serve.console.forms import (
    Confirmation,
    ask,
    carried,
    confirmed,
    needed,
    to,
    unmoved,
)
from tallybook.serve.console.render import html, money
from tallybook.serve.console.session import Session
from tallybook.settle.receivable.crediting import Ask
from tallybook.settle.receivable.flow import Estimate, credit, estimate
from tallybook.settle.receivable.noting import LineAsk

LINES_MAX = 200
"""Lines that a form offers; a longer invoice is credited through the API."""


@get("/invoices/{name:str}/credit", opt=BILLING_PAGE, sync_to_thread=True)
def credit_form(request: "Request[Any, Any, Any]", world: World, name: str) -> Response[bytes]:
    """Ask what of an invoice is to be credited."""
    session = session_of(request)
    invoice = decode_invoice(world.invoices.invoice(session.grant.tenant, name).body)
    return _form(session, invoice, {}, "")


@post("/invoices/{name:str}/credit", opt=BILLING_PAGE, sync_to_thread=True)
def credit_invoice(
    request: "Request[Any, Any, Any]", world: World, name: str, data: Form
) -> Response[Any]:
    """Show the credit note that a form asks for, or issue it."""
    session = sent_by(request, data)
    settling = world.settling(session.grant.tenant)
    invoice = decode_invoice(world.invoices.invoice(session.grant.tenant, name).body)
    try:
        asked = asked_of(invoice, data)
        found = estimate(settling, name, asked)
        if confirmed(data):
            unmoved(data, "creditable", found.creditable_minor)
            return to(f"/credit-notes/{credit(settling, name, asked).head.number}")
    except Refused as error:
        return _form(session, invoice, data, error.message)
    return ask(session, "invoices", _confirmation(invoice, found, data))


def asked_of(invoice: Invoice, data: Mapping[str, str]) -> Ask:
    """Return what a form asks for; raises Invalid."""
    lines = []
    for line in invoice.lines:
        text = data.get(f"line-{line.position}", "").strip()
        if text:
            minor = None if text == "all" else minor_of("amount", _number(text), invoice.currency)
            lines.append(LineAsk(line=line.id, amount_minor=minor))
    if not lines and data.get("what") != "everything":
        message = "choose everything that is left, or write an amount beside a line"
        raise Invalid(message, field="lines")
    chosen = () if data.get("what") == "everything" else tuple(lines)
    return Ask(
        reason=needed(data, "reason"),
        lines=chosen,
        rest="refund" if data.get("rest") == "refund" else "credit",
    )


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise Invalid("an amount is a number such as 12.50, or all", field="amount") from error


def _confirmation(invoice: Invoice, found: Estimate, data: Mapping[str, str]) -> Confirmation:
    note, currency = found.note, found.note.currency
    lines = [(f"Line {line.position}: {line.name}", money(line.net)) for line in note.lines]
    taxes = [(f"{tax.name} {tax.rate} %", money(tax.amount)) for tax in note.taxes]
    sums = [
        ("Total", f"{currency} {money(note.total)}"),
        ("Taken off what is open", money(note.reduces)),
        ("Becomes the customer's credit", money(note.credited)),
        ("To be paid out", money(note.refund)),
        ("Left to credit afterwards", money(money_text(_left(found), currency))),
    ]
    return Confirmation(
        title=f"Issue a credit note for {invoice.number}?",
        text="A credit note takes the next number of its series and is never changed.",
        action=f"/invoices/{invoice.number}/credit",
        button="Issue the credit note",
        back=f"/invoices/{invoice.number}/credit",
        fields=carried(data, creditable=str(found.creditable_minor)),
        details=(*lines, *taxes, *sums),
    )


def _left(found: Estimate) -> int:
    return found.creditable_minor - found.note.total_minor


def _form(
    session: Session, invoice: Invoice, data: Mapping[str, str], wrong: str
) -> Response[bytes]:
    return html(
        "billing/credit.html",
        400 if wrong else 200,
        session=session,
        here="invoices",
        invoice=invoice,
        lines=invoice.lines[:LINES_MAX],
        data=data,
        wrong=wrong,
    )


ROUTES: list[ControllerRouterHandler] = [credit_form, credit_invoice]
