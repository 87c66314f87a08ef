"""`tallybook usage-plan`: what API keys are limited to, and how they stand."""

from pathlib import Path
from typing import Any

import click

from tallybook.kernel.errors import Invalid
from tallybook.serve.cli.common import Target, read_tables, server_options, table

PATH = "/api/v1/usage-plans"


@click.group("usage-plan")
def usage_plan() -> None:
    """Limit API keys: rates, quotas, requests at once."""


@usage_plan.command("list")
@server_options
def list_(target: Target) -> None:
    """List usage plans."""
    with target.client() as client:
        found = list(client.pages(PATH, {"limit": 1000}))
    rows = [
        [one["key"], one["name"], len(one["limits"]), one["keys"], "yes" if one["default"] else ""]
        for one in found
    ]
    columns = ("key", "name", "limits", "keys", "default")
    target.show(found, lambda: table(columns, rows) if rows else "No usage plans.")


@usage_plan.command()
@click.argument("plan")
@server_options
def show(target: Target, plan: str) -> None:
    """Show a usage plan and its limits."""
    with target.client() as client:
        found = client.get(f"{PATH}/{plan}")
    target.show(found, lambda: _limits(found))


@usage_plan.command("set")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@server_options
def set_(target: Target, file: Path) -> None:
    """Declare the usage plans of a TOML file, each under [[usage_plans]]; takes none out of use."""
    plans = read_plans(file)
    with target.client() as client:
        told = [client.put(f"{PATH}/{plan['key']}", plan) for plan in plans]
    names = ", ".join(f"{one['key']} (version {one['version']})" for one in told)
    target.show(told, lambda: f"Declared: {names}.")


@usage_plan.command()
@click.argument("plan")
@server_options
def drop(target: Target, plan: str) -> None:
    """Take a usage plan out of use that no key is on."""
    with target.client() as client:
        client.raw("DELETE", f"{PATH}/{plan}")
    target.show({"dropped": plan}, lambda: f"{plan} is out of use.")


@usage_plan.command()
@click.argument("key_id", metavar="KEY-ID")
@click.argument("plan", required=False, default="")
@server_options
def use(target: Target, key_id: str, plan: str) -> None:
    """Put a key on a usage plan; without one, on the tenant's default."""
    with target.client() as client:
        key = client.get(f"/api/v1/keys/{key_id}")
        change = {"name": key["name"], "usage_plan": plan, "expires_time": key.get("expires_time")}
        told = client.put(f"/api/v1/keys/{key_id}", change)
    target.show(told, lambda: f"{key_id} is on {plan or 'the default plan, where there is one'}.")


@usage_plan.command()
@click.argument("key_id", metavar="KEY-ID")
@server_options
def usage(target: Target, key_id: str) -> None:
    """Show what a key has used, and what is left of its limits."""
    with target.client() as client:
        found = client.get(f"/api/v1/keys/{key_id}/usage")
    target.show(found, lambda: _standings(found))


def read_plans(file: Path) -> list[dict[str, Any]]:
    """Return the usage plans of a TOML file; raises Invalid where it has none."""
    plans = read_tables(file, "usage_plans")
    if not plans:
        raise Invalid(f"{file} has no [[usage_plans]]", field="usage_plans")
    for plan in plans:
        if not isinstance(plan.get("key"), str) or not plan["key"] or "/" in plan["key"]:
            raise Invalid("each usage plan needs a key", field="usage_plans.key")
    return plans


def allows(limit: Any) -> str:
    """Return in words what a limit allows."""
    match limit["type"]:
        case "rate":
            burst = limit.get("burst") or limit["rate"]
            seconds = limit.get("seconds", 1)
            span = "a second" if seconds == 1 else f"in {seconds} s"
            return f"{limit['rate']} {limit.get('counts', 'requests')} {span}, {burst} at once"
        case "quota":
            return f"{limit['limit']} {limit.get('counts', 'requests')} a {limit['window']}"
        case "concurrency":
            return f"{limit['limit']} requests running at once"
        case _:
            return f"while its customer has access to '{limit['feature']}'"


def _limits(found: Any) -> object:
    if not found["limits"]:
        return f"{found['key']} has no limits."
    rows = [
        [
            one["key"],
            allows(one),
            ", ".join(one.get("routes", ["*"])),
            one.get("per", "key"),
            ", ".join(f"{percent} %" for percent in one.get("warn", [])) or None,
        ]
        for one in found["limits"]
    ]
    return table(("limit", "allows", "routes", "per", "warns at"), rows)


def _standings(found: Any) -> object:
    if not found["limits"]:
        return "No limit holds for this key."
    rows = [
        [one["limit"], one["who"], one["used"], one["left"], one["size"], one["reset_seconds"]]
        for one in found["limits"]
    ]
    numbers = ("used", "left", "of", "whole again in s")
    return table(("limit", "who", *numbers), rows, numbers=numbers)
