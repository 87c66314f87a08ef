"""`tallybook ledger`: entries, balances, and the audit of the money."""

from typing import Any

import click

from tallybook.adapters.http.client import Client, decoded
from tallybook.serve.cli.common import DONE, REFUSED, Target, grouped_money, server_options, table

TIMEOUT_SECONDS = 3600
"""An audit reads everything; it may take its time."""


@click.group()
def ledger() -> None:
    """See entries and balances, and prove that the money adds up."""


@ledger.command()
@click.option("--document", help="Id of an invoice, payment, credit note or top-up.")
@click.option("--account", help="Such as receivable:acme.")
@server_options
def entries(target: Target, document: str | None, account: str | None) -> None:
    """List entries; those of a document, or those on an account."""
    params = {"document": document, "account": account, "limit": 1000}
    target.show_list("/api/v1/ledger/entries", entries_table, "No entries.", params)


@ledger.command()
@click.argument("account", default="")
@server_options
def balances(target: Target, account: str) -> None:
    """Show every account's balance, or those of accounts whose name begins so."""
    with target.client() as client:
        found = client.get("/api/v1/ledger/balances", {"account": account})
    rows = [
        [one["account"], one["currency"], grouped_money(one["balance"])]
        for one in found["balances"]
    ]
    columns = ("account", "currency", "balance")
    target.show(found, lambda: table(columns, rows, numbers=("balance",)))


@ledger.command()
@server_options
def audit(target: Target) -> int:
    """Prove that invoices, payments, credits and wallets are what the ledger says."""
    with target.client() as client:
        found = audit_of(client)
    target.show(found, lambda: audited(found))
    return DONE if found["ok"] else REFUSED


def audit_of(client: Client) -> Any:
    """Return the server's audit of its money."""
    path = "/api/v1/ledger/audit"
    return decoded(client.raw("GET", path, timeout_seconds=TIMEOUT_SECONDS).content)


def entries_table(entries: list[Any]) -> object:
    """Return entries as a table."""
    rows = [
        [one["at"][:10], one["debit"], one["credit"], one["currency"],
         grouped_money(one["amount"]), one["document"]]
        for one in entries
    ]  # fmt: skip
    columns = ("date", "debit", "credit", "currency", "amount", "document")
    return table(columns, rows, numbers=("amount",))


def audited(found: Any) -> str:
    """Return an audit for people."""
    counts = (
        f"{found['invoices']:,} invoices, {found['credit_notes']:,} credit notes,"
        f" {found['payments']:,} payments, {found['entries']:,} ledger entries"
    )
    verdict = "the money adds up." if found["ok"] else "the money does not add up:"
    return "\n".join([f"{counts}: {verdict}", *(f"  {text}" for text in found["differences"])])
