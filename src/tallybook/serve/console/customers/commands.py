"""Commands to subscriptions: the first post is a dry run with its invoice, the second writes."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.types import ControllerRouterHandler

from tallybook.catalog.amendment import (
    Amendment,
    AnchorChange,
    Cancel,
    Pause,
    PlanChange,
    PriceChange,
    QuantityChange,
    Resume,
    Uncancel,
)
from tallybook.catalog.price.fields import amount
from tallybook.catalog.subscription import Decision
from tallybook.catalog.subscription.spec import price_ok
from tallybook.compose import World
from tallybook.invoice.amend import amend, known
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import preview
from tallybook.kernel.errors import Invalid, Missing
from tallybook.kernel.period import parse_moment, zone
from tallybook.kernel.timestamps import format_us
from tallybook.serve.console.access import BILLING_PAGE, sent_by
from tallybook.serve.console.auth import Form
from tallybook.serve.console.forms import (
    Confirmation,
    ask,
    carried,
    confirmed,
    needed,
    number_of,
    text_of,
    to,
    unmoved,
)
from tallybook.serve.console.render import day, moment

Fields = Mapping[str, str]
Made = Callable[[int, int], Amendment]


class Command(msgspec.Struct, frozen=True):
    """A command: what it is called, and how its amendment is made from a form."""

    title: str
    button: str
    made: Callable[[Fields], Made]
    danger: bool = False


def _change(data: Fields) -> Made:
    plan, _, version = needed(data, "plan").partition("@")
    pinned = _version(version) if version else None
    return lambda at, now: PlanChange(at_us=at, recorded_us=now, plan=plan, plan_version=pinned)


def _version(text: str) -> int:
    if not text.isdecimal():
        raise Invalid("a version is a number such as 2", field="plan")
    return int(text)


def _quantity(data: Fields) -> Made:
    charge, units = needed(data, "charge"), amount("quantity", number_of(data, "quantity"))
    return lambda at, now: QuantityChange(at_us=at, recorded_us=now, charge=charge, quantity=units)


def _cancel(data: Fields) -> Made:
    credit = data.get("credit") == "yes"
    return lambda at, now: Cancel(at_us=at, recorded_us=now, credit=credit)


def _price(data: Fields) -> Made:
    charge, text = needed(data, "charge"), text_of(data, "price")
    price = price_ok("price", _object(text)) if text else None
    return lambda at, now: PriceChange(at_us=at, recorded_us=now, charge=charge, price=price)


def _object(text: str) -> dict[str, object]:
    """Return a JSON object as a person wrote it; raises Invalid."""
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError as error:
        example = '{"type":"unit","unit_amount":"0.01"}'
        raise Invalid(f"a price is one such as {example}: {error}", field="price") from error


def _anchor(data: Fields) -> Made:
    zone_name, text = needed(data, "zone"), needed(data, "anchor")
    anchor_us = parse_moment(text, zone(zone_name), "anchor")
    return lambda at, now: AnchorChange(at_us=at, recorded_us=now, anchor_us=anchor_us)


COMMANDS: dict[str, Command] = {
    "price": Command("Change a price of", "Change the price", _price),
    "anchor": Command("Move the periods of", "Move the periods", _anchor),
    "change": Command("Change the plan of", "Change the plan", _change),
    "quantity": Command("Change the quantity of", "Change the quantity", _quantity),
    "pause": Command("Pause", "Pause", lambda _: lambda at, now: Pause(at_us=at, recorded_us=now)),
    "resume": Command(
        "Resume", "Resume", lambda _: lambda at, now: Resume(at_us=at, recorded_us=now)
    ),
    "cancel": Command("Cancel", "Cancel the subscription", _cancel, danger=True),
    "uncancel": Command(
        "Take back the cancellation of",
        "Take it back",
        lambda _: lambda at, now: Uncancel(at_us=at, recorded_us=now),
    ),
}


@post("/subscriptions/{key:str}/{name:str}", opt=BILLING_PAGE, sync_to_thread=True)
def command_subscription(
    request: "Request[Any, Any, Any]", world: World, key: str, name: str, data: Form
) -> Response[Any]:
    """Show what a command would do to a subscription and to its next invoice, or do it."""
    session = sent_by(request, data)
    if name not in COMMANDS:
        raise Missing(f"there is no command '{name}'", field="command")
    command, billing = COMMANDS[name], world.billing(session.grant.tenant)
    stored = known(world.catalog.load(session.grant.tenant), key)
    made, when = command.made(data), when_of(data)
    if confirmed(data):
        unmoved(data, "seen", len(stored.amendments))
        amend(billing, key, made, when)
        return to(f"/subscriptions/{key}")
    decision = amend(billing, key, made, when, dry=True)
    at_us, now_us = decision.amendment.at_us, world.clock.now_us()
    customer = world.catalog.load(session.grant.tenant).customer(stored.customer)
    draft = preview(
        billing,
        BillRequest(until_us=max(at_us, now_us)),
        stored.customer,
        instead=[decision.subscription],
    )
    asked = Confirmation(
        title=f"{command.title} {key}?",
        text="A dry run: nothing is written yet. Nothing that was billed is ever rewritten; what"
        " changes becomes a line of the next invoice.",
        action=f"/subscriptions/{key}/{name}",
        button=command.button,
        back=f"/subscriptions/{key}",
        fields=carried(data, seen=str(len(stored.amendments)), at=fixed(data, decision)),
        details=(
            ("Subscription", f"{key} of {customer.name}"),
            ("What changes", decision.text.partition(": ")[2].partition(" from ")[0]),
            ("From", f"{moment(at_us, customer.zone)} {customer.zone}"),
            ("State from then on", decision.state),
        ),
        danger=command.danger,
        invoice=None if draft is None else draft.invoice,
        invoice_title=f"The invoice that would follow, of {day(max(at_us, now_us), customer.zone)}",
    )
    return ask(session, "subscriptions", asked)


def when_of(data: Fields) -> str:
    """Return when a form wants a command to hold from: 'now', 'period-end' or a date."""
    chosen = text_of(data, "at") or "now"
    if chosen != "date":
        return chosen
    return needed(data, "date")


def fixed(data: Fields, decision: Decision) -> str:
    """Return the instant that the asking page names, so that it is the one that is written.

    'now' stays 'now': it is when the button is pressed.
    """
    if when_of(data) == "now":
        return "now"
    return format_us(decision.amendment.at_us)


ROUTES: list[ControllerRouterHandler] = [command_subscription]
