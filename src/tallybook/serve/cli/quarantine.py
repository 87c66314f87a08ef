"""`tallybook quarantine`: what could not be processed, and how to bring it back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from tallybook.adapters.http.client import Client
from tallybook.kernel.errors import Invalid, TallybookError, Unavailable
from tallybook.serve.cli.common import DONE, REFUSED, Target, server_options, table

STATES = ("open", "redriven", "dropped", "all")


@click.group()
def quarantine() -> None:
    """See and redrive events that could not be processed."""


@quarantine.command("list")
@click.option("--state", type=click.Choice(STATES), default="open", show_default=True)
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000))
@click.option("--code", help="Only those there for this reason.")
@click.option("--source", help="Only those of this source.")
@server_options
def list_(target: Target, state: str, limit: int, code: str | None, source: str | None) -> None:
    """List pieces with their reasons, newest first."""
    with target.client() as client:
        found = client.get(
            "/api/v1/quarantine",
            {"state": state, "limit": limit, "code": code, "source": source},
        )
    target.show(found, lambda: pieces_table(found["items"]) if found["items"] else "Nothing.")


def pieces_table(items: list[Any]) -> object:
    """Return pieces as a table."""
    rows = [
        [i["id"], i["event"]["received_time"][:19], i["code"], i["message"], i["state"]]
        for i in items
    ]
    return table(("id", "received", "code", "why", "state"), rows)


@quarantine.command()
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything that is open.")
@click.option("--event", "file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
              help="File with the corrected event, JSON; - is standard input.")  # fmt: skip
@click.option("--reason", default="", help="What was corrected, for the record.")
@server_options
def redrive(
    target: Target, ids: tuple[str, ...], file: Path | None, reason: str, *, everything: bool
) -> int:
    """Send pieces again: corrected with --event, or as they came."""
    if bool(ids) == everything:
        raise click.UsageError("name pieces, or --all")
    if file is not None and len(ids) != 1:
        raise click.UsageError("--event corrects exactly one piece")
    body: dict[str, object] = {"reason": reason}
    if file is not None:
        body["event"] = _event(file)
    with target.client() as client:
        names = ids or tuple(p["id"] for p in client.pages("/api/v1/quarantine"))
        outcomes = [_redriven(client, name, body) for name in names]
    done = [one for one in outcomes if one["state"] == "redriven"]
    target.show(outcomes, lambda: _told(outcomes))
    return DONE if len(done) == len(outcomes) else REFUSED


def _redriven(client: Client, name: str, body: dict[str, object]) -> dict[str, Any]:
    try:
        found = client.post(f"/api/v1/quarantine/{name}/redrive", body)
    except Unavailable:
        raise
    except TallybookError as error:
        return {"id": name, "state": "refused", "code": error.code, "message": error.message}
    return {"id": name, "state": found["state"], "code": "", "message": ""}


def _told(outcomes: list[dict[str, Any]]) -> str:
    if not outcomes:
        return "Nothing is open."
    return "\n".join(f"{one['id']}  {one['state']}  {one['message']}".rstrip() for one in outcomes)


def _event(file: Path) -> msgspec.Raw:
    try:
        content = click.open_file(str(file), "rb").read()
        msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}", field="--event") from error
    except msgspec.MsgspecError as error:
        raise Invalid(f"{file} is not a JSON object: {error}", field="--event") from error
    return msgspec.Raw(content)


@quarantine.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why it is given up, for the record.")
@server_options
def drop(target: Target, name: str, reason: str) -> None:
    """Give a piece up; it stays visible with the reason."""
    with target.client() as client:
        found = client.post(f"/api/v1/quarantine/{name}/drop", {"reason": reason})
    target.show(found, lambda: f"{found['id']}  {found['state']}")


@quarantine.command()
@server_options
def counts(target: Target) -> None:
    """Count pieces by the reason they are there, and what became of them."""
    with target.client() as client:
        found = client.get("/api/v1/quarantine/counts")
    names = ("open", "redriven", "dropped")
    rows = [[one["code"], *(one[name] for name in names)] for one in found]
    target.show(found, lambda: table(("code", *names), rows, numbers=names) if rows else "Nothing.")


def _chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command with the options that name many pieces."""
    for option in reversed(
        (
            click.option("--code", help="Those there for this reason."),
            click.option("--source", help="Those of this source."),
            click.option("--type", "kind", help="Those of this event type."),
            click.option("--from", "start", help="Received at or after, RFC 3339."),
            click.option("--to", "end", help="Received before, RFC 3339."),
            click.option("--yes", is_flag=True, help="Do it; without it, only tell how many."),
        )
    ):
        command = option(command)
    return command


def _filter(asked: dict[str, Any]) -> dict[str, Any]:
    """Return what the options name, as the API takes it."""
    names = {"kind": "type", "start": "from", "end": "to"}
    found = {names.get(name, name): text for name, text in asked.items() if text}
    if not found:
        raise click.UsageError("name a --code, --source, --type, --from or --to")
    return found


@quarantine.command("redrive-all")
@_chosen
@click.option("--reason", default="", help="What was put right, for the record.")
@server_options
def redrive_all(target: Target, reason: str, *, yes: bool, **asked: Any) -> int:
    """Send all open pieces of a filter again, as they came; first a dry run."""
    return _all(target, "redrive", "sent again", _filter(asked) | {"reason": reason}, yes=yes)


@quarantine.command("drop-all")
@_chosen
@click.option("--reason", required=True, help="Why they are given up, for the record.")
@server_options
def drop_all(target: Target, reason: str, *, yes: bool, **asked: Any) -> int:
    """Give up all open pieces of a filter; first a dry run."""
    return _all(target, "drop", "dropped", _filter(asked) | {"reason": reason}, yes=yes)


def _all(target: Target, what: str, verb: str, asked: dict[str, Any], *, yes: bool) -> int:
    """Do something to all pieces of a filter, a thousand a request, while that gets on."""
    done: list[str] = []
    refused: dict[str, Any] = {}
    more = on = True
    with target.client() as client:
        while on:
            found = client.post(f"/api/v1/quarantine/{what}", asked | {"dry_run": not yes})
            done += found["done"]
            refused |= {one["id"]: one for one in found["refused"]}
            more = found["more"]
            on = more and yes and bool(found["done"])
    told = {"dry_run": not yes, "done": done, "refused": list(refused.values()), "more": more}
    target.show(told, lambda: _told_all(told, verb))
    return REFUSED if yes and (refused or more) else DONE


def _told_all(told: dict[str, Any], verb: str) -> str:
    count = len(told["done"])
    if told["dry_run"]:
        return f"{count}{' and more' if told['more'] else ''} would be {verb}; --yes does it"
    left = "; more stand behind those that are refused: name them apart" if told["more"] else ""
    lines = [f"{one['id']}  refused  {one['message']}" for one in told["refused"]]
    return "\n".join([f"{count} {verb}{left}", *lines])


@quarantine.command()
@click.option("--state", type=click.Choice(STATES), default="all", show_default=True)
@server_options
def export(target: Target, state: str) -> None:
    """Write pieces to standard output, JSON, one a line."""
    with target.client() as client:
        content = client.raw("GET", "/api/v1/quarantine/export", params={"state": state}).content
    click.echo(content.decode(), nl=False)


@quarantine.command()
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000))
@server_options
def decisions(target: Target, limit: int) -> None:
    """List what was decided, newest first: who, when and why."""
    with target.client() as client:
        found = client.get("/api/v1/quarantine/decisions", {"limit": limit})["items"]
    rows = [[d["id"], d["decided_time"][:19], d["action"], d["by"], d["reason"]] for d in found]
    columns = ("id", "when", "what", "by", "why")
    target.show(found, lambda: table(columns, rows) if found else "Nothing.")
