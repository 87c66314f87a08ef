"""`tallybook entitlement`: check what customers may use, grant more of it, and look back."""

from typing import Any

import click

from tallybook.serve.cli.common import DONE, REFUSED, Target, server_options, table
from tallybook.serve.cli.prepaid import given, place


@click.group()
def entitlement() -> None:
    """Check what customers may use, grant more of it, and look back."""


@entitlement.command("list")
@click.option("--customer", help="Only this customer's.")
@server_options
def list_entitlements(target: Target, customer: str | None) -> None:
    """List entitlements."""
    with target.client() as client:
        params = {"customer": customer, "limit": 1000}
        found = list(client.pages("/api/v1/entitlements", params))
    rows = [
        [one["key"], one["type"], one["meter"], one["period"], one["included"], one["start"][:10]]
        for one in found
    ]
    columns = ("key", "type", "meter", "period", "included", "since")
    target.show(found, lambda: table(columns, rows) if rows else "No entitlements.")


@entitlement.command()
@click.argument("feature", metavar="CUSTOMER:FEATURE")
@click.option("--at", help="An instant of the past, a date or RFC 3339.")
@click.option("--amount", help="Ask whether so much may be used, whole.")
@server_options
def check(target: Target, feature: str, at: str | None, amount: str | None) -> int:
    """Tell whether CUSTOMER:FEATURE may be used; exit code 1 where it may not."""
    with target.client() as client:
        params = {"at": at, "amount": amount}
        found = client.get(place("entitlements", feature, "value"), params)
    target.show(found, lambda: _answer(feature, found))
    return DONE if found["hasAccess"] else REFUSED


def _answer(key: str, found: Any) -> str:
    access = "may be used" if found["hasAccess"] else "may NOT be used"
    left = f"{found['balance']} left, {found['usage']} used, {found['overage']} over"
    return f"{key} {access}: {left}" if found["period"] else f"{key} {access}"


@entitlement.command()
@click.argument("feature", metavar="CUSTOMER:FEATURE")
@click.argument("amount")
@click.option("--name", required=True, help="Name of the grant.")
@click.option("--effective", required=True, help="From when on, a date or RFC 3339.")
@click.option("--expires-after", help="A duration, such as P30D.")
@click.option("--every", help="Filled up again each time this has passed, such as P1M.")
@click.option("--priority", type=int, default=1, show_default=True, help="Lower burns first.")
@server_options
def grant(
    target: Target,
    feature: str,
    amount: str,
    name: str,
    effective: str,
    expires_after: str | None,
    every: str | None,
    priority: int,
) -> None:
    """Grant AMOUNT more of CUSTOMER:FEATURE."""
    said = given(expires_after=expires_after, every=every)
    body = {"key": name, "amount": amount, "effective": effective, "priority": priority, **said}
    with target.client() as client:
        made = client.post(place("entitlements", feature, "grants"), body)
    target.show(made, lambda: f"Granted {made['amount']} as '{made['key']}'.")


@entitlement.command()
@click.argument("feature", metavar="CUSTOMER:FEATURE")
@click.option("--keep-anchor", is_flag=True, help="Later periods end as if nothing had been done.")
@server_options
def reset(target: Target, feature: str, *, keep_anchor: bool) -> None:
    """End the usage period of CUSTOMER:FEATURE now."""
    with target.client() as client:
        found = client.post(place("entitlements", feature, "reset"), {"keep_anchor": keep_anchor})
    target.show(found, lambda: _answer(feature, found))
