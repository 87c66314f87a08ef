"""Moving every subscription of a plan to one of its versions: shown first, then done."""

from collections.abc import Mapping
from typing import Any

from litestar import Request, Response, post
from litestar.types import ControllerRouterHandler

from tallybook.catalog.subscription import Decision, Skipped
from tallybook.compose import World
from tallybook.invoice.amend import migrate
from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import format_us
from tallybook.serve.console.access import BILLING_PAGE, sent_by
from tallybook.serve.console.auth import Form
from tallybook.serve.console.customers.commands import when_of
from tallybook.serve.console.forms import (
    Confirmation,
    ask,
    carried,
    confirmed,
    text_of,
    to,
    unmoved,
)

NAMED = 20
"""Subscriptions that the asking page names one by one."""


@post("/plans/{key:str}/migrate", opt=BILLING_PAGE, sync_to_thread=True)
def migrate_plan(
    request: "Request[Any, Any, Any]", world: World, key: str, data: Form
) -> Response[Any]:
    """Show what moving all subscriptions of a plan would do, or move them, all or none."""
    session = sent_by(request, data)
    billing, version = world.billing(session.grant.tenant), _version(data)
    when, catalog = when_of(data), world.catalog.load(session.grant.tenant)
    if confirmed(data):
        unmoved(data, "seen", catalog.version)
        migrate(billing, key, version, when)
        return to(f"/plans/{key}")
    found = migrate(billing, key, version, when, dry=True)
    asked = Confirmation(
        title=f"Move subscriptions of {catalog.plan(key).name}?",
        text="A dry run: nothing is written yet. All of them move, or none; what was billed stays,"
        " and what changes becomes a line of the next invoice.",
        action=f"/plans/{key}/migrate",
        button="Move them",
        back=f"/plans/{key}",
        fields=carried(data, seen=str(catalog.version)),
        details=(
            ("To", "the newest version, always" if version is None else f"version {version}"),
            *_told(found),
        ),
    )
    return ask(session, "plans", asked)


def _version(data: Mapping[str, str]) -> int | None:
    text = text_of(data, "version")
    if text and not text.isdecimal():
        raise Invalid("a version is a number such as 2", field="version")
    return int(text) if text else None


def _told(found: list[Decision | Skipped]) -> list[tuple[str, str]]:
    """Return what becomes of each subscription; of many, how many."""
    moved = [one for one in found if isinstance(one, Decision)]
    left = [one for one in found if isinstance(one, Skipped)]
    rows = [("Would move", str(len(moved))), ("Would stay", str(len(left)))]
    rows += [
        (one.subscription.key, f"from {format_us(one.amendment.at_us)}") for one in moved[:NAMED]
    ]
    return rows + [(one.subscription, f"stays: {one.reason}") for one in left[:NAMED]]


ROUTES: list[ControllerRouterHandler] = [migrate_plan]
