"""`tallybook tenants`: make, list, close and open tenants."""

from typing import Any

import click

from tallybook.serve.cli.access.keys import shown_once
from tallybook.serve.cli.common import Target, server_options, table

PATH = "/api/v1/tenants"


@click.group()
def tenants() -> None:
    """Make, list, close and open tenants; needs an operator's key."""


@tenants.command("list")
@server_options
def list_(target: Target) -> None:
    """List the tenants that were made; the first one, `default`, is always there."""
    target.show_list(PATH, _table, "None besides `default`.")


@tenants.command()
@click.argument("tenant")
@click.option("--name", default="", help="For people.")
@click.option("--key-name", default="first key", show_default=True, help="Of its first key.")
@server_options
def add(target: Target, tenant: str, name: str, key_name: str) -> None:
    """Make TENANT and its first key, an owner's, which is shown this once."""
    with target.client() as client:
        made = client.post(PATH, {"tenant": tenant, "name": name, "key_name": key_name})
    target.show(made, lambda: shown_once(made["first_key"]))


@tenants.command()
@click.argument("tenant")
@server_options
def close(target: Target, tenant: str) -> None:
    """Refuse all keys and people of TENANT from now on; its data stays as it is."""
    with target.client() as client:
        found = client.post(f"{PATH}/{tenant}/close")
    target.show(found, lambda: f"{tenant} is closed, everywhere within a second.")


@tenants.command("open")
@click.argument("tenant")
@server_options
def open_(target: Target, tenant: str) -> None:
    """Accept the keys of TENANT again."""
    with target.client() as client:
        found = client.post(f"{PATH}/{tenant}/open")
    target.show(found, lambda: f"{tenant} is open.")


def _table(found: list[Any]) -> object:
    rows = [
        [one["tenant"], one["name"], one["created_time"][:16], "open" if one["open"] else "closed"]
        for one in found
    ]
    return table(("tenant", "name", "since", "state"), rows)
