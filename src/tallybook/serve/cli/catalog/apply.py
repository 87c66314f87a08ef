"""`tallybook apply catalog.toml`: the catalog as code; the difference is shown first."""

import sys
from pathlib import Path

import click
import msgspec

from tallybook.adapters.http.client import Client
from tallybook.kernel.errors import Invalid
from tallybook.serve.cli.catalog.backtest import TOML, show_backtest
from tallybook.serve.cli.common import DONE, REFUSED, Target, server_options

_SIGNS = {"create": "+", "restore": "+", "update": "~", "new-version": "~", "archive": "-"}


class Change(msgspec.Struct, frozen=True):
    """One thing that differs."""

    action: str
    kind: str
    key: str
    details: list[str] = []


class Changes(msgspec.Struct, frozen=True):
    """Everything that differs, and what is not declared and stays, with the reason."""

    changes: list[Change]
    kept: list[Change] = []


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--diff", "diff_only", is_flag=True, help="Show what would change, and stop.")
@click.option("--backtest", "tested", is_flag=True, help="Price history with it, and stop.")
@click.option("--from", "start", metavar="TIME", help="Of --backtest: first day or instant.")
@click.option("--to", "end", metavar="TIME", help="Of --backtest: first day or instant after it.")
@click.option("--prune", is_flag=True, help="Archive what the file does not name.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@server_options
def apply(
    target: Target,
    file: Path,
    *,
    diff_only: bool,
    tested: bool,
    start: str | None,
    end: str | None,
    prune: bool,
    yes: bool,
) -> int:
    """Apply catalog.toml: meters, plans, taxes, coupons, customers, usage plans of API keys.

    Shows the difference first. Applied twice, the second time changes nothing.
    """
    content = _content(file)
    if tested:
        return show_backtest(target, content, _span(start, end), prune=prune)
    with target.client() as client:
        changes = send_catalog(client, "diff", content, prune=prune)
        if diff_only or not changes.changes:
            target.show(changes, lambda: described(changes))
            return DONE
        if not yes and not _agreed(target, changes):
            target.say("Nothing was changed.")
            return REFUSED
        applied = send_catalog(client, "apply", content, prune=prune)
    if yes:
        target.show(applied, lambda: described(applied))
    target.say(f"Applied {len(applied.changes)} changes.")
    return DONE


def _span(start: str | None, end: str | None) -> tuple[str, str]:
    if start is None or end is None:
        raise click.UsageError("--backtest needs --from and --to, such as 2026-05-01 2026-06-01")
    return start, end


def send_catalog(client: Client, action: str, content: bytes, *, prune: bool = False) -> Changes:
    """Ask for the difference ('diff') or apply it ('apply')."""
    path = f"/api/v1/catalog/{action}"
    params = {"prune": "true"} if prune else {}
    answer = client.raw("POST", path, content=content, headers=TOML, params=params)
    return msgspec.json.decode(answer.content, type=Changes)


def described(changes: Changes) -> str:
    """Return changes for people, one a line."""
    lines = [f"= {one.kind} {one.key} stays: {one.details[0]}" for one in changes.kept]
    if not changes.changes:
        return "\n".join([*lines, "Everything is as declared; nothing to change."])
    for change in changes.changes:
        lines.append(f"{_SIGNS.get(change.action, '~')} {change.kind} {change.key}")
        lines += [f"    {detail}" for detail in change.details]
    return "\n".join(lines)


def _agreed(target: Target, changes: Changes) -> bool:
    if target.json or not sys.stdin.isatty():
        message = "nobody can be asked here: repeat with --yes, or look with --diff"
        raise Invalid(message, code="not-confirmed")
    click.echo(described(changes))
    return click.confirm(f"Apply these {len(changes.changes)} changes?")


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}", field="FILE") from error
