"""`tallybook coupon`: put coupons to customers' use, and take them away; what customers hold."""

from typing import Any

import click

from tallybook.serve.cli.common import Target, grouped_money, server_options, table


@click.group()
def coupon() -> None:
    """List and redeem coupons."""


@coupon.command("list")
@server_options
def list_(target: Target) -> None:
    """List coupons by key."""
    with target.client() as client:
        found = list(client.pages("/api/v1/coupons", {"limit": 1000}))
    rows = [
        [one["key"], one["name"], one["amount"] or f"{one['percent']} %", one["duration"]]
        for one in found
    ]
    columns = ("key", "name", "off", "duration")
    target.show(found, lambda: table(columns, rows) if rows else "No coupons.")


@coupon.command()
@click.argument("name", metavar="COUPON")
@click.argument("customer")
@server_options
def redeem(target: Target, name: str, customer: str) -> None:
    """Put a coupon to a customer's use."""
    with target.client() as client:
        made = client.post(f"/api/v1/coupons/{name}/redeem", {"customer": customer})
    target.show(made, lambda: f"{customer} redeemed {name}: {made['id']}")


@coupon.command()
@click.argument("customer")
@click.argument("redemption")
@server_options
def withdraw(target: Target, customer: str, redemption: str) -> None:
    """Take a redeemed coupon away; invoices that used it stay as they are."""
    with target.client() as client:
        client.raw("DELETE", f"/api/v1/customers/{customer}/redemptions/{redemption}")
    target.show({"redemption": redemption}, lambda: f"{redemption} is taken away.")


@coupon.command()
@click.argument("customer")
@server_options
def held(target: Target, customer: str) -> None:
    """Show what a customer owes and holds: credit, coupons, charges that wait."""
    with target.client() as client:
        found = client.get(f"/api/v1/customers/{customer}/account")
    target.show(found, lambda: _held(found))


def _held(found: Any) -> str:
    lines = [
        f"owes {one['currency']} {grouped_money(one['open'])},"
        f" {grouped_money(one['overdue'])} of it overdue"
        for one in found["owed"]
    ]
    lines += [
        f"{one['purpose']} of {one['number']}: {one['currency']} {grouped_money(one['left'])}"
        for one in found["credits"]
    ]
    lines += [
        f"coupon {one['coupon']} ({one['id']}): used on {one['invoices']} invoices"
        for one in found["redemptions"]
        if one["ended"] is None
    ]
    lines += [f"waits: {one['name']} {one['amount']} {one['currency']}" for one in found["waiting"]]
    return "\n".join(lines) or "Nothing."
