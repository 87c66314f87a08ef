"""`tallybook edges`: the fleet as the server sees it."""

from typing import Any

import click

from tallybook.serve.cli.common import Target, server_options, table
from tallybook.serve.cli.fleet.rules import rules

PATH = "/api/v1/edges"


@click.group()
def edges() -> None:
    """See edges: last seen, lag, missing batches, clock, certificate."""


edges.add_command(rules)


@edges.command("list")
@server_options
def list_(target: Target) -> None:
    """List edges by name."""
    target.show_list(PATH, edges_table, "No edge was seen yet.", {"limit": 1000})


@edges.command()
@click.argument("name")
@server_options
def show(target: Target, name: str) -> None:
    """Show one edge with its missing and repeated sequence numbers."""
    with target.client() as client:
        found = client.get(f"{PATH}/{name}")
    target.show(found, lambda: edge_table(found))


@edges.command()
@click.argument("name")
@server_options
def forget(target: Target, name: str) -> None:
    """Take an edge off the list; it comes back when it sends again."""
    with target.client() as client:
        client.delete(f"{PATH}/{name}")
    target.show({"forgotten": name}, lambda: f"{name} is off the list; its events stay.")


def edges_table(found: list[Any]) -> object:
    """Return edges as a table."""
    columns = ("edge", "state", "last seen", "lag", "waiting", "missing", "certified until")
    rows = [
        [
            e["name"],
            e["state"],
            e["last_seen_time"][:19],
            f"{e['lag_seconds']:.0f} s",
            e["waiting"]["events"],
            e["missing_batches"],
            _until(e["certificate"]),
        ]
        for e in found
    ]
    return table(columns, rows, numbers=("lag", "waiting", "missing"))


def edge_table(edge: Any) -> object:
    """Return one edge as a table of what is known."""
    waiting = edge["waiting"]
    rows: list[list[object]] = [
        ["state", edge["state"]],
        ["version", edge["version"] or None],
        ["first seen", edge["first_seen_time"]],
        ["last seen", f"{edge['last_seen_time']} ({edge['silent_seconds']} s ago)"],
        ["last stored", edge["stored_time"]],
        ["lag", f"{edge['lag_seconds']} s"],
        ["waiting", f"{waiting['events']} events in {waiting['batches']} batches"],
        ["clock", _clock(edge["clock_offset_seconds"])],
        ["certificate until", _until(edge["certificate"])],
    ]
    for one in edge["sequences"]:
        told = f"up to {one['highest']}"
        for word in ("missing", "repeated"):
            if one[f"{word}_batches"]:
                told += f"; {word} {one[f'{word}_batches']}: {_ranges(one[word])}"
        rows.append([f"batches {one['incarnation'][:8]}", told])
    return table((edge["name"], ""), rows)


def _ranges(ranges: list[list[int]]) -> str:
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def _clock(offset: object) -> str | None:
    return None if offset is None else f"{offset:+.3f} s"


def _until(certificate: Any) -> str | None:
    if certificate is None:
        return None
    if certificate["revoked_time"]:
        return f"revoked {certificate['revoked_time'][:10]}"
    return str(certificate["expires_time"][:10])
