"""Commands to subscriptions, decided: what a command adds to it, or why it cannot be.

Pure: nothing is written here, and a decision that is not written changes nothing. What it would
cost is the invoice composed with the decision's subscription in place of the stored one.

Source: docs/algorithms/subscriptions.md
"""

from collections.abc import Iterable, Iterator
from typing import assert_never

import msgspec

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
from tallybook.catalog.subscription.calendar import calendar_ok
from tallybook.catalog.subscription.states import Command, State, after, shown, standing
from tallybook.catalog.subscription.subscription import Subscription
from tallybook.catalog.subscription.timeline import timeline
from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Conflict
from tallybook.kernel.timestamps import format_us

AMENDMENTS_MAX = 10_000
COMMAND: dict[type[Amendment], Command] = {
    PlanChange: "change",
    QuantityChange: "quantity",
    PriceChange: "price",
    AnchorChange: "anchor",
    Pause: "pause",
    Resume: "resume",
    Cancel: "cancel",
    Uncancel: "uncancel",
}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a command does.

    Attributes:
        subscription: as it is to be.
        amendment: what is added to it.
        text: the same on one line, for people.
        state: from the amendment's instant on.
    """

    subscription: Subscription
    amendment: Amendment
    text: str
    state: State


class Skipped(msgspec.Struct, frozen=True):
    """A subscription that a migration leaves as it is, and why."""

    subscription: str
    reason: str


def decide(
    subscription: Subscription, amendment: Amendment, base: Subscription | None = None
) -> Decision:
    """Return what an amendment would do.

    Args:
        subscription: as stored.
        amendment: to add.
        base: the subscription that it is an add-on of.

    Raises:
        Conflict: its state at that instant forbids it, it says what holds already, or there are
            too many.
        Invalid: an anchor from which no calendar counts.
    """
    command = COMMAND[type(amendment)]
    # A later end than the one in force is a matter of today, not of a day after the end.
    at_us = amendment.at_us
    at_us = min(at_us, amendment.recorded_us) if isinstance(amendment, Cancel) else at_us
    then = after(standing(subscription, at_us, base), command)
    if len(subscription.amendments) >= AMENDMENTS_MAX:
        message = f"subscription {subscription.key} has {AMENDMENTS_MAX} amendments, the most"
        raise Conflict(message, code="too-many-amendments", field="amendments")
    if isinstance(amendment, PlanChange):
        _differs(subscription, amendment)
    if isinstance(amendment, AnchorChange):
        calendar_ok("anchor", amendment.anchor_us)
    made = msgspec.structs.replace(subscription, amendments=(*subscription.amendments, amendment))
    return Decision(
        subscription=made,
        amendment=amendment,
        text=f"{subscription.key}: {described(amendment)}",
        state=shown(then),
    )


def _differs(subscription: Subscription, change: PlanChange) -> None:
    """Refuse a change to the plan and version that hold already."""
    now = plan_at(subscription, change.at_us)
    if now == (change.plan, change.plan_version):
        message = f"subscription {subscription.key} is on plan {change.plan} then already"
        raise Conflict(message, code="no-change", field="plan")


def plan_at(subscription: Subscription, at_us: int) -> tuple[str, int | None]:
    """Return the plan, and the version it is pinned to, that hold at an instant.

    Before the start, or while nothing is charged, those that follow; at last the newest.
    """
    open_ended = msgspec.structs.replace(
        subscription,
        end_us=None,
        amendments=tuple(a for a in subscription.amendments if isinstance(a, PlanChange)),
    )
    found = timeline(open_ended)
    stretch = next((one for one in found if one.end_us is None or at_us < one.end_us), found[-1])
    return stretch.plan, stretch.plan_version


def described(amendment: Amendment) -> str:
    """Return an amendment on one line, for people."""
    at = format_us(amendment.at_us)
    match amendment:
        case PlanChange(plan=plan, plan_version=version):
            pinned = "" if version is None else f", version {version}"
            text = f"plan {plan}{pinned}"
        case QuantityChange(charge=charge, quantity=quantity):
            text = f"{plain(quantity)} of {charge}"
        case PriceChange(charge=charge, price=None):
            text = f"the plan's price of {charge} again"
        case PriceChange(charge=charge):
            text = f"another price of {charge}"
        case AnchorChange(anchor_us=anchor):
            text = f"periods aligned to {format_us(anchor)}"
        case Cancel(credit=credit):
            text = "cancelled" if credit else "cancelled without credit"
        case Pause():
            text = "paused"
        case Resume():
            text = "resumed"
        case Uncancel():
            text = "no longer cancelled"
        case _:
            assert_never(amendment)
    return f"{text} from {at} on"


def migration(
    subscriptions: Iterable[tuple[Subscription, int, int | None]],
    plan: str,
    version: int | None,
    newest: int,
    recorded_us: int,
) -> Iterator[Decision | Skipped]:
    """Yield what moving the subscriptions of a plan to one of its versions does to each.

    Args:
        subscriptions: each with the instant it is moved at, and the version that its present
            period was opened with; None where none was.
        plan: key.
        version: that they are pinned to; None for the newest, and those after it.
        newest: the plan's newest version.
        recorded_us: now.
    """
    for subscription, at_us, opened in subscriptions:
        on, pinned = plan_at(subscription, at_us)
        if on != plan:
            continue
        if pinned == version and (version is not None or opened in {None, newest}):
            yield Skipped(subscription.key, "is on that version already")
            continue
        change = PlanChange(at_us=at_us, recorded_us=recorded_us, plan=plan, plan_version=version)
        try:
            yield _moved(subscription, change)
        except Conflict as error:
            yield Skipped(subscription.key, error.message)


def _moved(subscription: Subscription, change: PlanChange) -> Decision:
    """Return a plan change that may name the version that holds: it opens a new period."""
    then = after(standing(subscription, change.at_us), "change")
    made = msgspec.structs.replace(subscription, amendments=(*subscription.amendments, change))
    text = f"{subscription.key}: {described(change)}"
    return Decision(subscription=made, amendment=change, text=text, state=shown(then))
