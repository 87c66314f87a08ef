"""`tallybook subscription`: who has which plan, and what is decided about it."""

from typing import Any

import click
import msgspec

from tallybook.kernel.errors import Invalid
from tallybook.serve.cli.common import Target, server_options, table

STATES = ("pending", "active", "paused", "cancelled", "ended")
PATH = "/api/v1/subscriptions"

_at = click.option("--at", default="now", show_default=True,
                   help="now, period-end, a date such as 2026-06-01, or RFC 3339.")  # fmt: skip
_dry = click.option("--dry-run", is_flag=True, help="Show what would follow; write nothing.")


@click.group()
def subscription() -> None:
    """See and change subscriptions."""


@subscription.command("list")
@click.option("--customer", help="Only those of this customer.")
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000))
@server_options
def list_(target: Target, customer: str | None, state: str | None, limit: int) -> None:
    """List subscriptions by key."""
    asked = {"customer": customer, "state": state, "limit": limit}
    params = {name: value for name, value in asked.items() if value is not None}
    with target.client() as client:
        found = client.get(PATH, params)
    target.show(found, lambda: _listed(found["items"]) if found["items"] else "None.")


def _listed(items: list[Any]) -> object:
    names = ("key", "customer", "plan", "start", "state")
    return table(names, [[item[name] for name in names] for item in items])


@subscription.command()
@click.argument("name", metavar="KEY")
@server_options
def show(target: Target, name: str) -> None:
    """Show a subscription: its state, its period, and what was decided about it."""
    with target.client() as client:
        found = client.get(f"{PATH}/{name}")
    target.show(found, lambda: _shown(found))


def _shown(found: dict[str, Any]) -> str:
    now = found["now"]
    version = "" if now["plan_version"] is None else f", version {now['plan_version']}"
    phase = f", phase {now['phase']}" if now["phase"] else ""
    lines = [
        f"{found['key']} of {found['customer']}: {found['state']}",
        f"plan         {now['plan']}{version}{phase}",
        f"start        {found['start']}",
        f"end          {now['ends'] or 'none'}",
        f"period       {_span(now['period'])}",
        f"next period  {_span(now['next_period'])}",
    ]
    lines += [f"quantity     {count} of {charge}" for charge, count in now["quantities"].items()]
    lines += [f"own price    {name}" for name in now["prices"]]
    lines += [f"decided      {one['recorded']}: {one['text']}" for one in found["amendments"]]
    return "\n".join(lines)


def _span(span: dict[str, str] | None) -> str:
    return "none" if span is None else f"{span['start']} .. {span['end']}"


@subscription.command()
@click.argument("name", metavar="KEY")
@click.option("--plan", required=True, help="Key of the plan.")
@click.option("--plan-version", type=click.IntRange(1), help="Pinned; else the newest.")
@_at
@_dry
@server_options
def change(target: Target, name: str, plan: str, plan_version: int | None, **when: object) -> None:
    """Change the plan, now, at the end of the period, or on a date."""
    _send(target, name, "change", {"plan": plan, "plan_version": plan_version}, when)


@subscription.command()
@click.argument("name", metavar="KEY")
@click.argument("charge")
@click.argument("units")
@_at
@_dry
@server_options
def quantity(target: Target, name: str, charge: str, units: str, **when: object) -> None:
    """Change how many units of a fixed fee there are, such as seats."""
    _send(target, name, "quantity", {"charge": charge, "quantity": units}, when)


@subscription.command()
@click.argument("name", metavar="KEY")
@click.argument("charge")
@click.option("--price", "text", help="A JSON object; left out for the plan's own price again.")
@_at
@_dry
@server_options
def price(target: Target, name: str, charge: str, text: str | None, **when: object) -> None:
    """Agree on a price of a charge, from the next period on."""
    _send(target, name, "price", {"charge": charge, "price": _price(text)}, when)


def _price(text: str | None) -> object:
    try:
        return None if text is None else msgspec.json.decode(text)
    except msgspec.MsgspecError as error:
        raise Invalid(f"--price is not a JSON object: {error}", field="--price") from error


@subscription.command()
@click.argument("name", metavar="KEY")
@click.argument("anchor")
@_at
@_dry
@server_options
def anchor(target: Target, name: str, anchor: str, **when: object) -> None:
    """Align the periods that start from then on to another instant or date."""
    _send(target, name, "anchor", {"anchor": anchor}, when)


@subscription.command()
@click.argument("name", metavar="KEY")
@_at
@_dry
@server_options
def pause(target: Target, name: str, **when: object) -> None:
    """Charge nothing until it is resumed."""
    _send(target, name, "pause", {}, when)


@subscription.command()
@click.argument("name", metavar="KEY")
@_at
@_dry
@server_options
def resume(target: Target, name: str, **when: object) -> None:
    """Charge again."""
    _send(target, name, "resume", {}, when)


@subscription.command()
@click.argument("name", metavar="KEY")
@click.option("--no-credit", is_flag=True, help="Fees paid in advance are not given back.")
@_at
@_dry
@server_options
def cancel(target: Target, name: str, *, no_credit: bool, **when: object) -> None:
    """End it; a second time moves the date."""
    _send(target, name, "cancel", {"credit": not no_credit}, when)


@subscription.command()
@click.argument("name", metavar="KEY")
@_dry
@server_options
def uncancel(target: Target, name: str, **when: object) -> None:
    """Take a cancellation back whose date has not come."""
    _send(target, name, "uncancel", {}, when)


@subscription.command()
@click.argument("plan")
@click.option("--plan-version", type=click.IntRange(1), help="Pinned; else the newest.")
@_at
@_dry
@server_options
def migrate(target: Target, plan: str, plan_version: int | None, **when: object) -> None:
    """Move all subscriptions of a plan to one of its versions."""
    body = {"plan_version": plan_version, **when}
    with target.client() as client:
        found = client.post(f"/api/v1/plans/{plan}/migrate", body)
    target.show(found, lambda: _moved(found))


def _moved(found: dict[str, Any]) -> str:
    lines = [f"{one['subscription']}  {one['outcome']}  {one['text']}" for one in found["items"]]
    moved = sum(one["outcome"] == "moved" for one in found["items"])
    word = "Moved" if found["written"] else "Would move"
    return "\n".join([*lines, f"{word} {moved} of {len(found['items'])}."])


def _send(
    target: Target, name: str, command: str, body: dict[str, object], when: dict[str, object]
) -> None:
    with target.client() as client:
        found = client.post(f"{PATH}/{name}/{command}", body | when)
    target.show(found, lambda: _told(found))


def _told(found: dict[str, Any]) -> str:
    if found["written"]:
        return str(found["text"])
    lines = [f"Would be: {found['text']}"]
    invoice = found["invoice"]
    if invoice is None:
        return "\n".join([*lines, "Nothing would be due."])
    lines += [
        f"  {line['name']}  {line['quantity']}  {line['amount']}" for line in invoice["lines"]
    ]
    return "\n".join([*lines, f"Total {invoice['total']} {invoice['currency']}"])
