"""`tallybook payment`: record, list and reverse payments; refunds; use of credit."""

from typing import Any

import click

from tallybook.serve.cli.common import Target, grouped_money, moment, server_options, table


@click.group()
def payment() -> None:
    """Record, list and reverse payments and refunds."""


def parts_of(texts: tuple[str, ...]) -> list[dict[str, str | None]]:
    """Return invoices to be paid from texts such as INV-000001 or INV-000001=12.50."""
    pairs = (text.partition("=") for text in texts)
    return [{"invoice": name, "amount": amount or None} for name, _, amount in pairs]


@payment.command("list")
@click.option("--customer", help="Only this customer's.")
@server_options
def list_(target: Target, customer: str | None) -> None:
    """List payments, refunds and uses of credit, the oldest first."""
    target.show_list(
        "/api/v1/payments", payments_table, "No payments.", {"customer": customer, "limit": 1000}
    )


@payment.command()
@click.argument("customer")
@click.argument("amount")
@click.option("--method", default="bank-transfer", show_default=True, help="How it was paid.")
@click.option("--reference", default="", help="Of the payer; an invoice's number pays that first.")
@click.option("--received", help="Date, RFC 3339 or age; now where not given.")
@click.option("--invoice", "invoices", multiple=True, help="NUMBER or NUMBER=AMOUNT; repeatable.")
@server_options
def record(
    target: Target,
    customer: str,
    amount: str,
    method: str,
    reference: str,
    received: str | None,
    invoices: tuple[str, ...],
) -> None:
    """Record a payment: it pays the oldest invoices first, or those that are named."""
    body = {
        "customer": customer,
        "amount": amount,
        "method": method,
        "reference": reference,
        "received": moment(received, "--received"),
        "invoices": parts_of(invoices),
    }
    with target.client() as client:
        made = client.post("/api/v1/payments", body)
    target.show(made, lambda: described(made))


@payment.command("from-credit")
@click.argument("customer")
@click.argument("amount")
@click.option("--invoice", "invoices", multiple=True, help="NUMBER or NUMBER=AMOUNT; repeatable.")
@server_options
def from_credit(target: Target, customer: str, amount: str, invoices: tuple[str, ...]) -> None:
    """Pay open invoices from a customer's credit."""
    body = {"customer": customer, "amount": amount, "invoices": parts_of(invoices)}
    with target.client() as client:
        made = client.post("/api/v1/payments/from-credit", body)
    target.show(made, lambda: described(made))


@payment.command()
@click.argument("customer")
@click.argument("amount")
@click.option("--method", default="bank-transfer", show_default=True, help="How it was paid out.")
@click.option("--reference", default="", help="For people.")
@click.option("--source", help="Number of the credit note, or id of the payment, it is from.")
@server_options
def refund(
    target: Target, customer: str, amount: str, method: str, reference: str, source: str | None
) -> None:
    """Record that credit was paid out."""
    body = {
        "customer": customer,
        "amount": amount,
        "method": method,
        "reference": reference,
        "source": source,
    }
    with target.client() as client:
        made = client.post("/api/v1/refunds", body)
    target.show(made, lambda: described(made))


@payment.command()
@click.argument("name")
@click.option("--reason", required=True, help="Such as charge-back.")
@server_options
def reverse(target: Target, name: str, reason: str) -> None:
    """Take a payment or refund back: what it paid is open again."""
    with target.client() as client:
        made = client.post(f"/api/v1/payments/{name}/reverse", {"reason": reason})
    target.show(made, lambda: described(made))


@payment.command()
@click.argument("currency")
@click.option("--threshold", default="0", show_default=True, help="Smallest sum to ask for.")
@server_options
def requests(target: Target, currency: str, threshold: str) -> None:
    """List who is to be asked for what is overdue: one request a customer."""
    with target.client() as client:
        asked = {"currency": currency, "threshold": threshold, "limit": "1000"}
        found = list(client.pages("/api/v1/payment-requests", {**asked}))
    rows = [
        [one["customer"], one["currency"], grouped_money(one["amount"]), ", ".join(one["invoices"])]
        for one in found
    ]
    columns = ("customer", "currency", "overdue", "invoices")
    target.show(
        found,
        lambda: table(columns, rows, numbers=("overdue",)) if rows else "Nothing is overdue.",
    )


def payments_table(payments: list[Any]) -> object:
    """Return payments as a table."""
    rows = [
        [one["id"], one["kind"], one["state"], one["customer"], one["received"][:10],
         one["currency"], grouped_money(one["amount"]), one["reference"]]
        for one in payments
    ]  # fmt: skip
    columns = (
        "id", "kind", "state", "customer", "received", "currency", "amount", "reference",
    )  # fmt: skip
    return table(columns, rows, numbers=("amount",))


def described(made: Any) -> str:
    """Return a payment for people."""
    parts = [
        (
            f"{made['kind']} {made['id']} of {made['customer']}, {made['state']}:"
            f" {made['currency']} {grouped_money(made['amount'])}"
        )
    ]
    parts += [f"  {one['number']}  {grouped_money(one['amount'])}" for one in made["allocations"]]
    if made["credited"].strip("0."):
        parts.append(f"  credit of the customer  {grouped_money(made['credited'])}")
    parts += [f"  from {one['number']}  {grouped_money(one['amount'])}" for one in made["sources"]]
    if made["lost"].strip("0."):
        parts.append(f"  lost, because it was spent  {grouped_money(made['lost'])}")
    return "\n".join(parts)
