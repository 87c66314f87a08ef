"""`tallybook quarantine`: what could not be processed, and how to bring it back."""

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
@server_options
def list_(target: Target, state: str, limit: int) -> None:
    """List pieces with their reasons, newest first."""
    with target.client() as client:
        found = client.get("/api/v1/quarantine", {"state": state, "limit": limit})
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
