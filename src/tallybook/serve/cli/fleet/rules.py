"""`tallybook edges rules`: what edges add up before they send it."""

from pathlib import Path
from typing import Any

import click

from tallybook.collect.aggregate.document import parse_rules
from tallybook.kernel.errors import Invalid
from tallybook.serve.cli.common import Target, server_options, table

PATH = "/api/v1/edges/rules"

_edge = click.option("--edge", default="", help="Of this edge alone; without it, of all.")


@click.group()
def rules() -> None:
    """See and declare what edges add up before they send it."""


@rules.command()
@_edge
@server_options
def show(target: Target, edge: str) -> None:
    """Show the rules that an edge goes by."""
    with target.client() as client:
        found = client.get(PATH, {"edge": edge})
    target.show(found, lambda: _table(found))


@rules.command("set")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_edge
@server_options
def set_(target: Target, file: Path, edge: str) -> None:
    """Declare the rules of a TOML file; edges follow within a minute."""
    try:
        told = parse_rules(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{file}: {error}", field="file") from error
    with target.client() as client:
        answer = client.raw(
            "PUT",
            PATH,
            content=_body(told),
            params={"edge": edge},
            headers={"Content-Type": "application/json"},
        )
        found = _decoded(answer.content)
    target.show(found, lambda: _table(found))


@rules.command()
@_edge
@server_options
def clear(target: Target, edge: str) -> None:
    """Take an edge's own rules back, so that those for all count; without --edge, those."""
    with target.client() as client:
        client.raw("DELETE", PATH, params={"edge": edge})
    target.show({"cleared": edge}, lambda: f"{edge or 'all edges'}: no rules of their own.")


def _body(told: Any) -> bytes:
    import msgspec

    return msgspec.json.encode({"rules": told})


def _decoded(content: bytes) -> Any:
    from tallybook.adapters.http.client import decoded

    return decoded(content)


def _table(found: Any) -> object:
    if not found["rules"]:
        return "No rules are declared: every event is sent as it is."
    rows = [
        [
            rule["name"],
            rule["match"],
            ", ".join(f"{path} in {'|'.join(ok)}" for path, ok in rule.get("where", {}).items()),
            ", ".join(rule.get("group_by", {})) or None,
            rule.get("value"),
            rule.get("type") or f"{rule['match']}.minute",
        ]
        for rule in found["rules"]
    ]
    whose = found["edge"] or "all edges"
    columns = ("rule", "takes", "where", "keys", "adds up", "makes")
    return table(columns, rows, title=f"{whose}, version {found['version']}")
