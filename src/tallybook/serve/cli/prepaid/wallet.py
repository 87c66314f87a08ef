"""`tallybook wallet`: top wallets up, and see what became of it."""

from typing import Any
from urllib.parse import quote

import click

from tallybook.serve.cli.common import Target, server_options, table
from tallybook.serve.cli.prepaid import given, place


@click.group()
def wallet() -> None:
    """Top wallets up, and see what became of it."""


@wallet.command("list")
@click.option("--customer", help="Only this customer's.")
@server_options
def list_wallets(target: Target, customer: str | None) -> None:
    """List wallets."""
    with target.client() as client:
        found = list(client.pages("/api/v1/wallets", {"customer": customer, "limit": 1000}))
    rows = [
        [one["key"], one["customer"], one["unit"] or one["currency"], one["rate"], one["priority"]]
        for one in found
    ]
    columns = ("key", "customer", "unit", "rate", "priority")
    target.show(found, lambda: table(columns, rows) if rows else "No wallets.")


@wallet.command()
@click.argument("wallet_key", metavar="WALLET")
@click.option("--at", help="An instant of the past, a date or RFC 3339.")
@server_options
def show(target: Target, wallet_key: str, at: str | None) -> None:
    """Show a wallet's balance and what is left of each top-up."""
    with target.client() as client:
        found = client.get(place("wallets", wallet_key), {"at": at})
    target.show(found, lambda: _balance(found))


def _balance(found: Any) -> object:
    from rich.console import Group

    unit = found["unit"] or found["currency"]
    lines = [f"{found['key']}: {found['balance']} {unit} at {found['at']}"]
    if found["ongoing_balance"] is not None:
        lines.append(f"after what is not billed yet: {found['ongoing_balance']} {unit}")
    rows = [
        [one["key"], one["amount"], one["left"], one["expires"], "yes" if one["free"] else ""]
        for one in found["top_ups"]
    ]
    columns = ("top-up", "put in", "left", "expires", "free")
    return Group("\n".join(lines), table(columns, rows, numbers=("put in", "left")))


@wallet.command("top-up")
@click.argument("wallet_key", metavar="WALLET")
@click.argument("amount")
@click.option("--name", help="Name of the top-up; made up where not given.")
@click.option("--free", is_flag=True, help="It costs nothing.")
@click.option("--method", help="How it was paid, such as card.")
@click.option("--reference", help="Of the payment.")
@click.option("--expires", help="A date or RFC 3339.")
@server_options
def top_up(
    target: Target,
    wallet_key: str,
    amount: str,
    name: str | None,
    method: str | None,
    reference: str | None,
    expires: str | None,
    *,
    free: bool,
) -> None:
    """Put AMOUNT into a wallet."""
    said = given(key=name, free=free, method=method, reference=reference, expires=expires)
    with target.client() as client:
        made = client.post(place("wallets", wallet_key, "top-ups"), {"amount": amount, **said})
    target.show(made, lambda: f"Put in {made['amount']} for {made['cost']} as '{made['key']}'.")


@wallet.command("void")
@click.argument("wallet_key", metavar="WALLET")
@click.argument("name")
@click.option("--refund", is_flag=True, help="What is left goes back to how it was paid.")
@server_options
def void_top_up(target: Target, wallet_key: str, name: str, *, refund: bool) -> None:
    """Take back what is left of top-up NAME."""
    with target.client() as client:
        path = place("wallets", wallet_key, "top-ups", quote(name, safe=""), "void")
        made = client.post(path, {"refund": refund})
    target.show(made, lambda: f"'{made['key']}' is taken back from {made['voided']} on.")


@wallet.command()
@click.argument("wallet_key", metavar="WALLET")
@server_options
def recharges(target: Target, wallet_key: str) -> None:
    """Show the payments that a wallet's rule asked for."""
    with target.client() as client:
        found = list(client.pages(place("wallets", wallet_key, "recharges"), {"limit": 1000}))
    columns = ("key", "state", "amount", "cost", "currency", "requested", "settled")
    rows = [[one[name] or "" for name in columns] for one in found]
    shown = table(columns, rows, numbers=("amount", "cost"))
    target.show(found, lambda: shown if rows else "None was asked for.")


@wallet.command()
@click.argument("wallet_key", metavar="WALLET")
@click.argument("name")
@click.option("--method", default="card", show_default=True, help="How it was paid.")
@click.option("--reference", default="", help="Of the payment.")
@server_options
def paid(target: Target, wallet_key: str, name: str, method: str, reference: str) -> None:
    """Say that recharge NAME was paid."""
    body = {"method": method, "reference": reference}
    with target.client() as client:
        path = place("wallets", wallet_key, "recharges", quote(name, safe=""), "paid")
        made = client.post(path, body)
    target.show(made, lambda: f"'{made['key']}' is paid: {made['cost']} {made['currency']}.")


@wallet.command()
@click.argument("wallet_key", metavar="WALLET")
@click.argument("name")
@click.option("--reason", default="", help="Why it was not paid.")
@server_options
def failed(target: Target, wallet_key: str, name: str, reason: str) -> None:
    """Say that recharge NAME was not paid; the rule rests for a day, or until a top-up."""
    with target.client() as client:
        path = place("wallets", wallet_key, "recharges", quote(name, safe=""), "failed")
        made = client.post(path, {"reason": reason})
    target.show(made, lambda: f"'{made['key']}' has failed.")


@wallet.command()
@click.argument("wallet_key", metavar="WALLET")
@server_options
def transactions(target: Target, wallet_key: str) -> None:
    """Show everything that changed a wallet's balance."""
    with target.client() as client:
        found = list(client.pages(place("wallets", wallet_key, "transactions"), {"limit": 1000}))
    rows = [[one[name] for name in ("at", "type", "key", "amount", "balance")] for one in found]
    columns = ("at", "what", "key", "amount", "balance")
    shown = table(columns, rows, numbers=("amount", "balance"))
    target.show(found, lambda: shown if rows else "Nothing happened yet.")
