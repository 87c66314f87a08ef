"""`tallybook users`: people who sign in to the console with a name and a password."""

from typing import Any

import click

from tallybook.serve.cli.common import Target, server_options, table

PATH = "/api/v1/users"
ROLES = ("viewer", "biller", "owner")

_asked = click.option("--ask", is_flag=True, help="Ask for the password; else one is made up.")


@click.group()
def users() -> None:
    """See and change who signs in to the console with a password."""


@users.command("list")
@server_options
def list_(target: Target) -> None:
    """List people by name."""
    target.show_list(PATH, _table, "Nobody; keys sign in too.")


@users.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), default=("viewer",),
              show_default=True, help="What they may do.")  # fmt: skip
@_asked
@server_options
def add(target: Target, name: str, roles: tuple[str, ...], *, ask: bool) -> None:
    """Let NAME sign in."""
    body = {"name": name, "roles": list(roles), "password": _password(asked=ask)}
    with target.client() as client:
        made = client.post(PATH, body)
    target.show(made, lambda: _told(made))


@users.command()
@click.argument("name")
@_asked
@server_options
def password(target: Target, name: str, *, ask: bool) -> None:
    """Give NAME another password; their sessions end."""
    with target.client() as client:
        made = client.post(f"{PATH}/{name}/password", {"password": _password(asked=ask)})
    target.show(made, lambda: _told(made))


@users.command("sign-out")
@click.argument("name")
@server_options
def sign_out(target: Target, name: str) -> None:
    """End all sessions of NAME."""
    with target.client() as client:
        found = client.post(f"{PATH}/{name}/sign-out")
    target.show(found, lambda: f"{name} is signed out, everywhere within a second.")


@users.command()
@click.argument("name")
@server_options
def end(target: Target, name: str) -> None:
    """Let NAME sign in no more."""
    with target.client() as client:
        client.raw("DELETE", f"{PATH}/{name}")
    target.say(f"{name} may not sign in any more.")


def _password(*, asked: bool) -> str | None:
    if not asked:
        return None
    given: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return given


def _told(made: Any) -> str:
    may = f"{made['name']} may sign in: {', '.join(made['scopes'])}."
    return (
        f"{made['password']}\n{may} The password is shown this once."
        if made.get("password")
        else may
    )


def _table(found: list[Any]) -> object:
    rows = [
        [
            one["name"],
            " ".join(one["scopes"]),
            (one.get("last_login_time") or "never")[:16],
            "locked" if one.get("locked_until") else "good" if one["good"] else "ended",
        ]
        for one in found
    ]
    return table(("name", "may", "last signed in", "state"), rows)
