"""`tallybook streams`: what is on outbound streams, and the groups that consume them."""

import time
from typing import Any

import click
import msgspec

from tallybook.adapters.http.client import Client
from tallybook.serve.cli.common import Target, server_options, table

_EXACT = msgspec.json.Encoder(decimal_format="number")
PATH = "/api/v1/streams"
LOOK_SECONDS = 0.5
STARTS = ("earliest", "latest", "time", "offset")


@click.group()
def streams() -> None:
    """See outbound streams and their groups; acknowledge, move, redrive."""


@streams.command("list")
@server_options
def list_(target: Target) -> None:
    """List streams, by name."""
    target.show_list(PATH, _streams, "There are no streams.")


def _streams(found: list[Any]) -> object:
    names = ("records", "bytes", "groups", "lag", "dead_letters", "keep_hours", "keep_mb")
    rows = [[s["name"], *(s[name] for name in names)] for s in found]
    return table(("stream", *names), rows, numbers=names)


@streams.command()
@click.argument("name")
@click.option("--group", help="Get records on a lease, and acknowledge them once printed.")
@click.option("--after", default=0, help="Without a group: records after this id.")
@click.option("--max", "most", default=100, type=click.IntRange(1, 1000), show_default=True)
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C.")
@server_options
def tail(
    target: Target, name: str, group: str | None, after: int, most: int, *, follow: bool
) -> None:
    """Print records, one CloudEvent a line; with --json with what is known of them."""
    with target.client() as client:
        while True:
            found = _batch(client, name, group, after, most, wait=20 if follow and group else 0)
            for record in found["records"]:
                shown = record if target.json else record["event"]
                click.echo(_EXACT.encode(shown).decode())
                after = record["id"]
            if group is not None and found["records"]:
                client.post(f"{PATH}/{name}/ack?group={group}", {"lease": found["lease"]})
            if not follow:
                return
            if not found["records"] and group is None:
                time.sleep(LOOK_SECONDS)


def _batch(client: Client, name: str, group: str | None, after: int, most: int, wait: int) -> Any:
    asked = {"max": most, "wait_seconds": wait}
    asked_of: dict[str, Any] = asked | ({"group": group} if group else {"after": after})
    return client.get(f"{PATH}/{name}/records", asked_of)


@streams.command()
@click.argument("name")
@click.option("--hours", "keep_hours", type=int, help="Since it was routed.")
@click.option("--mb", "keep_mb", type=int, help="Of all records together.")
@server_options
def keep(target: Target, name: str, keep_hours: int | None, keep_mb: int | None) -> None:
    """Set how long a stream keeps records; what comes first counts, what is left out stays."""
    with target.client() as client:
        found = client.put(f"{PATH}/{name}", {"keep_hours": keep_hours, "keep_mb": keep_mb})
    told = f"{name} keeps {found['keep_hours']} h, {found['keep_mb']} MiB"
    target.show(found, lambda: told)


@streams.group()
def groups() -> None:
    """See, make, move and take away groups."""


@groups.command("list")
@click.argument("name")
@server_options
def list_groups(target: Target, name: str) -> None:
    """List the groups of a stream with their lag."""
    target.show_list(f"{PATH}/{name}/groups", _groups, "There are no groups.")


def _groups(found: list[Any]) -> object:
    names = ("next_offset", "lag", "pending", "acknowledged", "lost", "dead_letters")
    rows = [[g["name"], *(g[name] for name in names)] for g in found]
    return table(("group", *names), rows, numbers=names)


@groups.command()
@click.argument("name")
@click.argument("group")
@click.option("--to", type=click.Choice(STARTS), default="latest", show_default=True)
@click.option("--time", "when", help="With --to time: RFC 3339.")
@click.option("--offset", default=0, help="With --to offset.")
@click.option("--lease-seconds", default=60, show_default=True)
@click.option("--attempts", default=3, show_default=True)
@click.option("--ordered", is_flag=True, help="One batch at a time, for order in all the group.")
@server_options
def create(
    target: Target,
    name: str,
    group: str,
    to: str,
    when: str | None,
    offset: int,
    lease_seconds: int,
    attempts: int,
    *,
    ordered: bool,
) -> None:
    """Make a group."""
    body = {
        "name": group,
        "to": to,
        "time": when,
        "offset": offset,
        "lease_seconds": lease_seconds,
        "attempts_max": attempts,
        "ordered": ordered,
    }
    with target.client() as client:
        found = client.post(f"{PATH}/{name}/groups", body)
    target.show(found, lambda: f"{group} begins at {found['next_offset']}")


@groups.command()
@click.argument("name")
@click.argument("group")
@click.option("--to", type=click.Choice((*STARTS, "after-loss")), required=True)
@click.option("--time", "when", help="With --to time: RFC 3339.")
@click.option("--offset", default=0, help="With --to offset.")
@server_options
def seek(target: Target, name: str, group: str, to: str, when: str | None, offset: int) -> None:
    """Move a group."""
    body = {"to": to, "time": when, "offset": offset}
    with target.client() as client:
        found = client.post(f"{PATH}/{name}/groups/{group}/seek", body)
    target.show(found, lambda: f"{group} goes on at {found['next_offset']}, lag {found['lag']}")


@groups.command("delete")
@click.argument("name")
@click.argument("group")
@server_options
def delete_group(target: Target, name: str, group: str) -> None:
    """Take a group away, with its dead letters."""
    with target.client() as client:
        client.delete(f"{PATH}/{name}/groups/{group}")
    target.show({"deleted": group}, lambda: f"{group} is gone")


@streams.command()
@click.argument("name")
@click.option("--group", required=True)
@click.option("--lease", required=True, help="That the records were handed out under.")
@click.option(
    "--id", "ids", multiple=True, type=int, help="A record; repeat. Else the whole lease."
)
@server_options
def ack(target: Target, name: str, group: str, lease: str, ids: tuple[int, ...]) -> None:
    """Acknowledge records."""
    body = {"lease": lease, "ids": list(ids) or None}
    with target.client() as client:
        found = client.post(f"{PATH}/{name}/ack?group={group}", body)
    target.show(found, lambda: f"{len(found['acknowledged'])} acknowledged")


@streams.command()
@click.argument("name")
@click.option("--group", required=True)
@click.option("--lease", required=True, help="That the records were handed out under.")
@server_options
def extend(target: Target, name: str, group: str, lease: str) -> None:
    """Give a lease its whole time again, for work that takes longer."""
    with target.client() as client:
        found = client.post(f"{PATH}/{name}/extend?group={group}", {"lease": lease})
    target.show(found, lambda: f"until {found['until'][:19]}")


@streams.command("dead-letters")
@click.argument("name")
@click.option("--group", required=True)
@server_options
def dead_letters(target: Target, name: str, group: str) -> None:
    """List what a group could not process."""
    with target.client() as client:
        found = list(client.pages(f"{PATH}/{name}/dead-letters", {"group": group}))
    rows = [
        [d["record"]["id"], d["record"]["attempts"], d["dead_time"][:19], d["reason"]]
        for d in found
    ]
    columns = ("id", "attempts", "given up", "reason")
    numbers = ("id", "attempts")
    target.show(found, lambda: table(columns, rows, numbers=numbers) if found else "Nothing.")


@streams.command()
@click.argument("name")
@click.option("--group", required=True)
@click.option("--id", "ids", multiple=True, type=int, help="A dead letter; repeat.")
@click.option("--all", "everything", is_flag=True, help="Every dead letter of the group.")
@server_options
def redrive(
    target: Target, name: str, group: str, ids: tuple[int, ...], *, everything: bool
) -> None:
    """Hand dead letters out again, each alone."""
    if bool(ids) == everything:
        raise click.UsageError("name dead letters with --id, or --all")
    with target.client() as client:
        found = client.post(
            f"{PATH}/{name}/redrive?group={group}", {"ids": None if everything else list(ids)}
        )
    target.show(found, lambda: f"{found['redriven']} handed out again")
