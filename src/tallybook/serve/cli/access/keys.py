"""`tallybook keys`: make, list, change, rotate and revoke API keys; come back in without one."""

import getpass
from pathlib import Path
from typing import Any

import click

from tallybook.kernel.errors import Missing
from tallybook.serve.cli.common import DATA_DEFAULT, Target, server_options, show_json, table

PATH = "/api/v1/keys"
ROLES = ("sender", "viewer", "biller", "owner", "operator")


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke API keys."""


@keys.command("list")
@click.option("--all", "dead", is_flag=True, help="Revoked and expired keys too.")
@server_options
def list_(target: Target, *, dead: bool) -> None:
    """List keys by age."""
    target.show_list(PATH, _table, "None.", {"all": "true" if dead else "false"})


@keys.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), help="What it may do.")
@click.option("--scope", "scopes", multiple=True, help="Instead, or besides: ingest, read, …")
@click.option("--subject", "subjects", multiple=True, help="Only for this subject; repeatable.")
@click.option("--customer", default="", help="Only for this customer.")
@click.option("--usage-plan", default="", help="What limits it.")
@click.option("--expires", "expires_time", metavar="TIME", help="RFC 3339; without it, never.")
@server_options
def add(target: Target, name: str, **terms: Any) -> None:
    """Make a key named NAME; its text is shown this once."""
    lists = {part: list(terms.pop(part)) for part in ("roles", "scopes", "subjects")}
    with target.client() as client:
        made = client.post(PATH, {"name": name, **lists, **terms})
    target.show(made, lambda: shown_once(made))


@keys.command()
@click.argument("key_id")
@click.option("--overlap", "overlap_seconds", type=int, default=24 * 3600, show_default=True,
              metavar="SECONDS", help="For how long both keys are good.")  # fmt: skip
@click.option("--expires", "expires_time", metavar="TIME", help="Of the successor; RFC 3339.")
@server_options
def rotate(target: Target, key_id: str, overlap_seconds: int, expires_time: str | None) -> None:
    """Make the successor of KEY_ID with the same rights; KEY_ID ends after the overlap."""
    asked = {"overlap_seconds": overlap_seconds, "expires_time": expires_time}
    with target.client() as client:
        made = client.post(f"{PATH}/{key_id}/rotate", asked)
    target.show(made, lambda: shown_once(made))


@keys.command()
@click.argument("key_id")
@server_options
def revoke(target: Target, key_id: str) -> None:
    """Refuse KEY_ID from now on."""
    with target.client() as client:
        client.raw("DELETE", f"{PATH}/{key_id}")
    target.say(f"{key_id} is revoked, everywhere within a second.")


@keys.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), default=DATA_DEFAULT,
              show_default=True, help="The server's data folder.")  # fmt: skip
@click.option("--tenant", default="default", show_default=True, help="Whose key.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def recover(data: Path, tenant: str, *, as_json: bool) -> None:
    """Make an owner's key at the machine itself, where none is at hand any more.

    Whoever may read the data folder owns the server; this writes into the audit log who did.
    """
    from tallybook.admit.issue import KeySpec
    from tallybook.compose import TENANT, World
    from tallybook.serve.api.rest.access.keys import make_key
    from tallybook.settings import load

    if not (data / "secret").exists():
        raise Missing(f"{data} is no data folder of a server", field="data")
    world = World(load(overrides={"data_dir": data}))
    if tenant != TENANT:
        world.tenants.get(tenant)
    role = "operator" if tenant == TENANT else "owner"
    with world.acting(f"cli:{somebody()}", "tallybook keys recover"):
        made = make_key(world, tenant, KeySpec(name="recovered", roles=[role]))
    if as_json:
        show_json(made)
    else:
        click.echo(f"{made.key}\nThis is shown once. Revoke what was lost: tallybook keys revoke")


def somebody() -> str:
    """Return who runs this command, as the machine knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


def shown_once(made: Any) -> str:
    """Return a new key for people."""
    ends = f"until {made['expires_time'][:16]}" if made.get("expires_time") else "without an end"
    return (
        f"{made['key']}\n"
        f"{made['id']}: {', '.join(made['scopes'])}, good {ends}."
        " The key is shown this once; the server cannot show it again."
    )


def _table(found: list[Any]) -> object:
    columns = ("id", "name", "starts", "scopes", "for", "last used", "ends", "state")
    return table(columns, [_row(key) for key in found])


def _row(key: Any) -> list[object]:
    only = ", ".join([*key.get("subjects", [])[:3], *filter(None, [key.get("customer", "")])])
    ends = key.get("expires_time") or key.get("revoked_time")
    used = key.get("last_used_time")
    return [
        key["id"],
        key["name"],
        key["shown"],
        " ".join(key["scopes"]),
        only or "all",
        used[:16] if used else None,
        ends[:16] if ends else None,
        "good" if key["good"] else "revoked" if key.get("revoked_time") else "expired",
    ]
