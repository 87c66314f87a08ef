"""Commands of `tallybook invoice` on what becomes of invoices."""

from typing import Any

import click

from tallybook.serve.cli.billing import invoice
from tallybook.serve.cli.common import Target, grouped_money, server_options
from tallybook.serve.cli.settlement.payment import described


@invoice.command()
@click.argument("customer")
@click.option("--line", "lines", multiple=True, required=True,
              help="NAME=AMOUNT; repeatable; an amount below zero is a credit.")  # fmt: skip
@click.option("--later", is_flag=True, help="On the customer's next invoice.")
@server_options
def charge(target: Target, customer: str, lines: tuple[str, ...], *, later: bool) -> None:
    """Bill one-off charges: on an invoice of their own, or later."""
    pairs = [text.rpartition("=") for text in lines]
    written = [{"name": name, "amount": amount} for name, _, amount in pairs]
    body = {"customer": customer, "lines": written, "later": later}
    with target.client() as client:
        made = client.post("/api/v1/invoices", body)
    target.show(made, lambda: _charged(made))


def _charged(made: Any) -> str:
    if made["invoice"] is None:
        return f"{len(made['charges'])} charges wait for the next invoice: " + ", ".join(
            made["charges"]
        )
    return _became(made["invoice"])


@invoice.command("withdraw-charge")
@click.argument("customer")
@click.argument("charge_id", metavar="CHARGE")
@server_options
def withdraw_charge(target: Target, customer: str, charge_id: str) -> None:
    """Take back a one-off charge that waits for the next invoice."""
    with target.client() as client:
        client.raw("DELETE", f"/api/v1/customers/{customer}/charges/{charge_id}")
    target.show({"charge": charge_id}, lambda: f"{charge_id} is withdrawn.")


@invoice.command()
@click.argument("name")
@click.argument("amount")
@click.option("--method", default="bank-transfer", show_default=True, help="How it was paid.")
@click.option("--reference", default="", help="For people.")
@server_options
def pay(target: Target, name: str, amount: str, method: str, reference: str) -> None:
    """Record a payment of one invoice."""
    body = {"amount": amount, "method": method, "reference": reference}
    with target.client() as client:
        made = client.post(f"/api/v1/invoices/{name}/pay", body)
    target.show(made, lambda: described(made))


@invoice.command()
@click.argument("name")
@server_options
def void(target: Target, name: str) -> None:
    """Take an invoice back on which nothing was paid; its number stays used."""
    _command(target, name, "void")


@invoice.command("write-off")
@click.argument("name")
@server_options
def write_off(target: Target, name: str) -> None:
    """Give up what is open of an invoice; a payment may still come."""
    _command(target, name, "write-off")


@invoice.command()
@click.argument("name")
@server_options
def reissue(target: Target, name: str) -> None:
    """Void an invoice and bill what it billed anew, as things stand now."""
    _command(target, name, "reissue")


def _command(target: Target, name: str, command: str) -> None:
    with target.client() as client:
        made = client.post(f"/api/v1/invoices/{name}/{command}", None)
    target.show(made, lambda: _became(made))


def _became(made: Any) -> str:
    return (
        f"{made['number']} is {made['state']}: {made['currency']}"
        f" {grouped_money(made['total'])}, open {grouped_money(made['open'])}"
    )


__all__ = ["invoice"]
