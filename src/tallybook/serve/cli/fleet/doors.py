"""`tallybook doors`: the front doors for other people's agents, their counts and rules."""

import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec

from tallybook.kernel.errors import Invalid, Unavailable
from tallybook.serve.cli.common import Target, server_options, table

PATH = "/api/v1/doors"
DOOR = click.argument("door")


@click.group()
def doors() -> None:
    """See and rule what Prometheus, OpenTelemetry, Telegraf and Vector send."""


@doors.command("list")
@server_options
def list_(target: Target) -> None:
    """List the doors, and what became of what came in."""
    with target.client() as client:
        found = client.get(PATH)["items"]
    target.show(found, lambda: doors_table(found))


@doors.command()
@DOOR
@server_options
def show(target: Target, door: str) -> None:
    """Show one door: every count with its reason, and its rules."""
    with target.client() as client:
        found = client.get(f"{PATH}/{door}")
    target.show(found, lambda: door_table(found))


@doors.command("set")
@DOOR
@click.argument("file", type=click.Path(path_type=Path))
@server_options
def set_(target: Target, door: str, file: Path) -> None:
    """Set a door's rules from a file in TOML or JSON."""
    rules = read_rules(file)
    with target.client() as client:
        found = client.put(f"{PATH}/{door}", rules)
    target.show(found, lambda: f"{door} has rules, version {found['rules_version']}.")


@doors.command()
@DOOR
@server_options
def reset(target: Target, door: str) -> None:
    """Go back to a door's default rules."""
    with target.client() as client:
        client.delete(f"{PATH}/{door}")
    target.show({"reset": door}, lambda: f"{door} has its default rules again.")


def read_rules(file: Path) -> Any:
    """Return what a file says; raises Unavailable or Invalid."""
    try:
        text = file.read_text()
    except OSError as error:
        raise Unavailable(f"{file} cannot be read: {error.strerror}") from error
    try:
        return tomllib.loads(text) if file.suffix == ".toml" else msgspec.json.decode(text)
    except (tomllib.TOMLDecodeError, msgspec.DecodeError) as error:
        raise Invalid(f"{file} is neither TOML nor JSON: {error}") from error


def doors_table(found: list[Any]) -> object:
    """Return doors as a table."""
    rows = [
        [
            door["door"],
            door["counts"].get("events", 0),
            sum(n for reason, n in door["counts"].items() if reason in {"fell", "overlap"}),
            door["counts"].get("bad", 0) + door["counts"].get("series-limit", 0),
            door["rules_version"] or "default",
            (door["last_time"] or "never")[:19],
        ]
        for door in found
    ]
    columns = ("door", "events", "in doubt", "not counted", "rules", "last")
    return table(columns, rows, numbers=("events", "in doubt", "not counted"))


def door_table(door: Any) -> object:
    """Return one door as a table of its counts and rules."""
    rows: list[list[object]] = [
        [reason, count, door["examples"].get(reason)] for reason, count in door["counts"].items()
    ]
    rows.append(
        ["rules", door["rules_version"] or "default", msgspec.json.encode(door["rules"]).decode()]
    )
    return table(("what", "count", "example"), rows, numbers=("count",))
