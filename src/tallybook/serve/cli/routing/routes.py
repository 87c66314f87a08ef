"""`tallybook routes`: rules with their versions, tried before they are used."""

from pathlib import Path
from typing import Any

import click
import msgspec

from tallybook.kernel.errors import Invalid
from tallybook.route.declare import pattern_text
from tallybook.serve.cli.common import DONE, REFUSED, Target, read_tables, server_options, table

PATH = "/api/v1/routes"
FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


def read_object(text: str, option: str) -> msgspec.Raw:
    """Return a JSON object given on the command line, or in a file named after an @."""
    try:
        raw = click.open_file(text[1:], "rb").read() if text.startswith("@") else text.encode()
        msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except OSError as error:
        raise Invalid(f"{text[1:]} cannot be read: {error.strerror}", field=option) from error
    except msgspec.MsgspecError as error:
        raise Invalid(f"this is not a JSON object: {error}", field=option) from error
    return msgspec.Raw(raw)


@click.group()
def routes() -> None:
    """See and change the rules that put events on outbound streams."""


@routes.command("list")
@server_options
def list_(target: Target) -> None:
    """List rules, by key."""
    target.show_list(PATH, rules_table, "There are no rules.")


def rules_table(found: list[Any]) -> object:
    """Return rules as a table."""
    rows = [
        [
            r["key"],
            r["version"],
            r["state"],
            ", ".join(r["targets"]),
            r["delivered"],
            r["reason"] or pattern_text(r["pattern"]),
        ]
        for r in found
    ]
    columns = ("key", "version", "state", "targets", "delivered", "pattern")
    return table(columns, rows, numbers=("version", "delivered"))


@routes.command()
@click.argument("rule")
@server_options
def show(target: Target, rule: str) -> None:
    """Show all versions of a rule, newest first, and its replays."""
    with target.client() as client:
        found = client.get(f"{PATH}/{rule}/versions")
    target.show(found, lambda: _history(found))


def _history(found: Any) -> str:
    lines = [
        f"{v['key']} version {v['version']}, {v['state']}, from commit"
        f" {v['effective_from_commit']}, made {v['made_time'][:19]} by {v['made_by']}\n"
        f"  {pattern_text(v['pattern'])} -> {', '.join(v['targets'])}"
        for v in found["versions"]
    ]
    lines += [
        f"replay {r['id']} of version {r['version']}: commits {r['from_commit']} to"
        f" {r['upto_commit']}, {r['delivered']} delivered,"
        f" {'ended' if r['done_time'] else 'running'} {r['reason']}".rstrip()
        for r in found["replays"]
    ]
    return "\n".join(lines)


@routes.command()
@click.argument("rule")
@click.option("--pattern", required=True, help="JSON, or @FILE.")
@click.option("--to", "targets", required=True, multiple=True, help="An outbound stream; repeat.")
@click.option("--paused", is_flag=True, help="Deliver nothing yet.")
@click.option("--description", default="", help="For people.")
@server_options
def put(
    target: Target,
    rule: str,
    pattern: str,
    targets: tuple[str, ...],
    description: str,
    *,
    paused: bool,
) -> None:
    """Make or change a rule; a change is a new version."""
    body = {
        "pattern": read_object(pattern, "--pattern"),
        "targets": list(targets),
        "state": "paused" if paused else "enabled",
        "description": description,
    }
    with target.client() as client:
        found = client.put(f"{PATH}/{rule}", body)
    target.show(found, lambda: f"{found['key']} is version {found['version']}, {found['state']}")


@routes.command("apply")
@click.argument("file", type=FILE)
@server_options
def apply_(target: Target, file: Path) -> None:
    """Apply every [[routes]] of a TOML file: key, pattern, targets; absence changes nothing.

    A pattern is a TOML table or a string of JSON.
    """
    declared = _declared(file)
    with target.client() as client:
        before = {r["key"]: r["version"] for r in client.pages(PATH)}
        made = [client.put(f"{PATH}/{rule['key']}", rule) for rule in declared]
    changed = [r for r in made if before.get(r["key"]) != r["version"]]
    target.show(changed, lambda: rules_table(changed) if changed else "Nothing differs.")


def _declared(file: Path) -> list[dict[str, Any]]:
    rules = read_tables(file, "routes")
    for at, rule in enumerate(rules):
        if "key" not in rule or "pattern" not in rule:
            raise Invalid("a rule needs a key and a pattern", field=f"routes[{at}]")
        if isinstance(rule["pattern"], str):
            rule["pattern"] = read_object(rule["pattern"], f"routes[{at}].pattern")
        elif isinstance(rule["pattern"], dict):
            rule["pattern"] = msgspec.Raw(pattern_text(rule["pattern"]).encode())
    return rules


@routes.command()
@click.argument("rule")
@server_options
def delete(target: Target, rule: str) -> None:
    """Take a rule away; what it delivered stays."""
    with target.client() as client:
        client.delete(f"{PATH}/{rule}")
    target.show({"deleted": rule}, lambda: f"{rule} routes nothing any more")


@routes.command()
@click.option("--pattern", required=True, help="JSON, or @FILE.")
@click.option("--event", required=True, help="JSON, or @FILE.")
@server_options
def test(target: Target, pattern: str, event: str) -> int:
    """Try a pattern on an event: whether it matches, and why not."""
    body = {"pattern": read_object(pattern, "--pattern"), "event": read_object(event, "--event")}
    with target.client() as client:
        found = client.post(f"{PATH}/test", body)
    why = [f"  {miss['message']}" for miss in found["misses"]]
    told = "It matches." if found["matches"] else "\n".join(["It does not match:", *why])
    target.show(found, lambda: told)
    return DONE if found["matches"] else REFUSED


@routes.command()
@click.argument("rule")
@click.option("--from-commit", default=1, show_default=True, help="The first lake commit.")
@click.option("--from-time", help="RFC 3339; events received before are left out.")
@server_options
def replay(target: Target, rule: str, from_commit: int, from_time: str | None) -> None:
    """Run a rule over what is past; its targets get what they have not got from it yet."""
    body = {"from_commit": from_commit, "from_time": from_time}
    with target.client() as client:
        found = client.post(f"{PATH}/{rule}/replay", body)
    target.show(found, lambda: f"{found['id']}: commits up to {found['upto_commit']}")
