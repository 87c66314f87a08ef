"""`tallybook credit-note`: issue, estimate, list, show, verify and void credit notes."""

from typing import Any

import click
import msgspec

from tallybook.serve.cli.common import DONE, REFUSED, Target, grouped_money, server_options, table

REST = click.Choice(["credit", "refund"])


@click.group("credit-note")
def credit_note() -> None:
    """Issue, list, verify and void credit notes."""


@credit_note.command("list")
@click.option("--customer", help="Only this customer's.")
@click.option("--invoice", help="Only those of this invoice.")
@server_options
def list_(target: Target, customer: str | None, invoice: str | None) -> None:
    """List credit notes in the order of their numbers."""
    params = {"customer": customer, "invoice": invoice, "limit": 1000}
    target.show_list("/api/v1/credit-notes", notes_table, "No credit notes.", params)


@credit_note.command()
@click.argument("invoice")
@click.option("--reason", required=True, help="As the document says it.")
@click.option("--line", "lines", multiple=True, help="POSITION or POSITION=AMOUNT; repeatable.")
@click.option("--rest", type=REST, default="credit", show_default=True,
              help="What becomes of what is no longer open.")  # fmt: skip
@click.option("--estimate", is_flag=True, help="Show what it would be; store nothing.")
@server_options
def issue(
    target: Target, invoice: str, reason: str, lines: tuple[str, ...], rest: str, *, estimate: bool
) -> None:
    """Credit lines of an invoice, or all that is left of it."""
    pairs = (text.partition("=") for text in lines)
    body = {
        "invoice": invoice,
        "reason": reason,
        "lines": [{"line": line, "amount": amount or None} for line, _, amount in pairs],
        "rest": rest,
    }
    path = "/api/v1/credit-notes/estimate" if estimate else "/api/v1/credit-notes"
    with target.client() as client:
        made = client.post(path, body)
    target.show(made, lambda: described(made["credit_note"] if estimate else made))


@credit_note.command()
@click.argument("name")
@server_options
def show(target: Target, name: str) -> None:
    """Show a credit note with its lines."""
    with target.client() as client:
        content = client.raw("GET", f"/api/v1/credit-notes/{name}").content
    found = msgspec.json.decode(content)
    target.show(msgspec.Raw(content), lambda: _shown(found))


@credit_note.command()
@click.argument("name")
@server_options
def verify(target: Target, name: str) -> int:
    """Recompute a credit note from its invoice and compare it byte by byte."""
    with target.client() as client:
        found = client.get(f"/api/v1/credit-notes/{name}/verify")
    verdict = "verified" if found["ok"] else "DIFFERS"
    lines = [f"{found['number']}  {verdict}", *(f"  {text}" for text in found["differences"])]
    target.show(found, lambda: "\n".join(lines))
    return DONE if found["ok"] else REFUSED


@credit_note.command()
@click.argument("name")
@server_options
def void(target: Target, name: str) -> None:
    """Take a credit note back while nothing of what it gave is used."""
    with target.client() as client:
        found = client.post(f"/api/v1/credit-notes/{name}/void", None)
    target.show(found, lambda: f"{found['number']} is {found['state']}.")


def notes_table(notes: list[Any]) -> object:
    """Return credit notes as a table."""
    rows = [
        [one["number"], one["state"], one["invoice_number"], one["customer"], one["issued"][:10],
         one["currency"], grouped_money(one["total"])]
        for one in notes
    ]  # fmt: skip
    columns = ("number", "state", "invoice", "customer", "issued", "currency", "total")
    return table(columns, rows, numbers=("total",))


def described(made: Any) -> str:
    """Return what a credit note does, for people."""
    currency = made["currency"]
    return "\n".join(
        [
            (
                f"{made['number']} of {made['invoice_number']}: {currency}"
                f" {grouped_money(made['total'])}"
            ),
            f"  taken off what was open  {grouped_money(made['reduces'])}",
            f"  credit of the customer   {grouped_money(made['credited'])}",
            f"  to be paid out           {grouped_money(made['refund'])}",
        ]
    )


def _shown(found: Any) -> object:
    from rich.console import Group

    rows = [[line["position"], line["name"], grouped_money(line["net"])] for line in found["lines"]]
    taxes = [[tax["name"], tax["rate"], grouped_money(tax["amount"])] for tax in found["taxes"]]
    return Group(
        described(found),
        f"Reason: {found['reason']}",
        table(("#", "line", "net"), rows, numbers=("net",)),
        table(("tax", "rate", "amount"), taxes, numbers=("rate", "amount")),
    )
