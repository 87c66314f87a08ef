"""`tallybook webhooks`: who is told facts, what became of it, and sending again."""

from typing import Any

import click

from tallybook.serve.cli.common import Target, server_options, table

PATH = "/api/v1/webhooks"


@click.group()
def webhooks() -> None:
    """Tell facts to other programs, and see what became of it."""


@webhooks.command("list")
@server_options
def list_(target: Target) -> None:
    """List endpoints with their health."""
    with target.client() as client:
        found = list(client.pages(PATH, {"limit": 1000}))
    rows = [
        [one["id"], one["url"], " ".join(one["kinds"]), one["state"], one["reason"]]
        for one in found
    ]
    columns = ("id", "url", "kinds", "state", "why")
    target.show(found, lambda: table(columns, rows) if rows else "No endpoints.")


@webhooks.command()
@server_options
def kinds(target: Target) -> None:
    """List what can be told."""
    with target.client() as client:
        found = client.get(f"{PATH}/kinds")
    rows = [[one["kind"], one["about"]] for one in found]
    target.show(found, lambda: table(("kind", "told when"), rows))


@webhooks.command()
@click.argument("address", metavar="URL_TO_TELL")
@click.option("--kind", "patterns", multiple=True, help="Such as 'invoice.*'; all without it.")
@click.option("--customer", "customers", multiple=True, help="Whose facts; all without it.")
@click.option("--description", default="", help="For people.")
@server_options
def add(
    target: Target,
    address: str,
    patterns: tuple[str, ...],
    customers: tuple[str, ...],
    description: str,
) -> None:
    """Add an endpoint; its secret is shown once."""
    body = {
        "url": address,
        "kinds": list(patterns) or ["*"],
        "customers": list(customers),
        "description": description,
    }
    with target.client() as client:
        made = client.post(PATH, body)
    target.show(made, lambda: _secret(made))


@webhooks.command()
@click.argument("endpoint")
@click.option("--overlap-hours", default=24, show_default=True, help="The old secret signs too.")
@server_options
def rotate(target: Target, endpoint: str, overlap_hours: int) -> None:
    """Make a new secret; it is shown once."""
    with target.client() as client:
        made = client.post(f"{PATH}/{endpoint}/rotate-secret", {"overlap_hours": overlap_hours})
    target.show(made, lambda: _secret(made))


@webhooks.command()
@click.argument("endpoint")
@server_options
def enable(target: Target, endpoint: str) -> None:
    """Tell a disabled endpoint facts again, from now on."""
    _switch(target, endpoint, enabled=True)


@webhooks.command()
@click.argument("endpoint")
@server_options
def disable(target: Target, endpoint: str) -> None:
    """Tell an endpoint nothing until it is enabled."""
    _switch(target, endpoint, enabled=False)


@webhooks.command()
@click.argument("endpoint")
@server_options
def test(target: Target, endpoint: str) -> None:
    """Send webhook.test to an endpoint."""
    with target.client() as client:
        made = client.post(f"{PATH}/{endpoint}/test")
    target.show(made, lambda: f"On its way; see: tallybook webhooks delivery {made['id']}")


@webhooks.command()
@click.argument("endpoint", required=False)
@click.option("--state", help="pending, retrying, delivered, given_up or cancelled.")
@click.option("--kind", help="Only facts of this kind.")
@click.option("--since", help="Only facts since then, RFC 3339.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@server_options
def deliveries(
    target: Target,
    endpoint: str | None,
    state: str | None,
    kind: str | None,
    since: str | None,
    limit: int,
) -> None:
    """List deliveries, the newest fact first; of all endpoints where none is named."""
    path = f"{PATH}/{endpoint}/deliveries" if endpoint else f"{PATH}/deliveries"
    asked = {"state": state, "kind": kind, "since": since, "limit": limit}
    with target.client() as client:
        found = client.get(path, {name: told for name, told in asked.items() if told is not None})
    rows = [
        [one["id"], one["time"], one["kind"], one["state"], one["attempts"], one["next_time"] or ""]
        for one in found["items"]
    ]
    columns = ("id", "fact of", "kind", "state", "attempts", "next")
    target.show(found, lambda: table(columns, rows) if rows else "No deliveries.")


@webhooks.command()
@click.argument("name", metavar="DELIVERY")
@server_options
def delivery(target: Target, name: str) -> None:
    """Show a delivery: what is sent, and every attempt."""
    with target.client() as client:
        found = client.get(f"{PATH}/deliveries/{name}")
    target.show(found, lambda: _delivery(found))


@webhooks.command()
@click.argument("name", metavar="DELIVERY|ENDPOINT")
@click.option("--since", help="Of an endpoint: everything not delivered since then, RFC 3339.")
@server_options
def replay(target: Target, name: str, since: str | None) -> None:
    """Send a delivery again, or everything that an endpoint was not told since a time."""
    with target.client() as client:
        if since is None:
            again = client.post(f"{PATH}/deliveries/{name}/replay")
        else:
            again = client.post(f"{PATH}/{name}/replay", {"since": since})
    one = "On its way again." if since is None else f"{again['deliveries']} are on their way again."
    target.show(again, lambda: one)


@webhooks.command()
@click.argument("endpoint")
@server_options
def remove(target: Target, endpoint: str) -> None:
    """Remove an endpoint; what was on its way to it is cancelled."""
    with target.client() as client:
        client.delete(f"{PATH}/{endpoint}")
    target.show({"removed": endpoint}, lambda: f"{endpoint} is removed.")


def _switch(target: Target, endpoint: str, *, enabled: bool) -> None:
    with target.client() as client:
        made = client.patch(f"{PATH}/{endpoint}", {"enabled": enabled})
    target.show(made, lambda: f"{endpoint} is {made['state']}.")


def _secret(made: Any) -> str:
    return (
        f"{made['id']} is told {', '.join(made['kinds'])} at {made['url']}\n"
        f"Its secret, shown only now: {made['secret']}"
    )


def _delivery(found: Any) -> str:
    lines = [
        f"{found['id']}: {found['kind']} of {found['time']} to {found['endpoint']}",
        f"{found['state']}"
        + (f", tried next at {found['next_time']}" if found["next_time"] else ""),
    ]
    for one in found["tried"]:
        said = one["error"] or f"{one['outcome']} ({one['status']})"
        lines.append(f"  {one['number']}. {one['time']}  {one['seconds']:.3f} s  {said}")
        if one["answer"]:
            lines.append(f"     {one['answer'][:200]}")
    return "\n".join(lines)
