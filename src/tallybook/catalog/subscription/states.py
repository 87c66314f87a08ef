"""The states of a subscription, as two tables that move together.

One says whether it is charged: pending, active, paused, ended. The other whether a cancellation is
in force. A command must be in both. No state is stored: each follows from what was decided, for
any instant, also one in the past or to come.

Source: docs/algorithms/subscriptions.md
"""

from typing import Literal

import msgspec

from tallybook.catalog.subscription.subscription import Subscription
from tallybook.catalog.subscription.timeline import ending, pauses
from tallybook.kernel.errors import Conflict

Charging = Literal["pending", "active", "paused", "ended"]
Leaving = Literal["staying", "cancelled"]
Command = Literal["change", "quantity", "price", "anchor", "pause", "resume", "cancel", "uncancel"]
State = Literal["pending", "active", "paused", "cancelled", "ended"]
"""As people see it; cancelled: it is charged up to the date that it was cancelled for."""

CHARGING: dict[tuple[Charging, Command], Charging] = {
    ("pending", "change"): "pending",
    ("pending", "quantity"): "pending",
    ("pending", "price"): "pending",
    ("pending", "anchor"): "pending",
    ("pending", "cancel"): "ended",
    ("pending", "uncancel"): "pending",
    ("active", "change"): "active",
    ("active", "quantity"): "active",
    ("active", "price"): "active",
    ("active", "anchor"): "active",
    ("active", "pause"): "paused",
    ("active", "cancel"): "ended",
    ("active", "uncancel"): "active",
    ("paused", "change"): "paused",
    ("paused", "quantity"): "paused",
    ("paused", "price"): "paused",
    ("paused", "anchor"): "paused",
    ("paused", "resume"): "active",
    ("paused", "cancel"): "ended",
    ("paused", "uncancel"): "paused",
}
"""(state, command) -> state from then on; what is not in it is refused."""

LEAVING: dict[tuple[Leaving, Command], Leaving] = {
    ("staying", "change"): "staying",
    ("staying", "quantity"): "staying",
    ("staying", "price"): "staying",
    ("staying", "anchor"): "staying",
    ("staying", "pause"): "staying",
    ("staying", "resume"): "staying",
    ("staying", "cancel"): "cancelled",
    ("cancelled", "change"): "cancelled",
    ("cancelled", "quantity"): "cancelled",
    ("cancelled", "price"): "cancelled",
    ("cancelled", "anchor"): "cancelled",
    ("cancelled", "pause"): "cancelled",
    ("cancelled", "resume"): "cancelled",
    ("cancelled", "cancel"): "cancelled",
    ("cancelled", "uncancel"): "staying",
}
"""(state, command) -> state afterwards; a second cancellation moves the date."""

_PAST: dict[Command, str] = {
    "change": "changed",
    "quantity": "changed in quantity",
    "price": "changed in price",
    "anchor": "aligned otherwise",
    "pause": "paused",
    "resume": "resumed",
    "cancel": "cancelled",
    "uncancel": "taken back from its cancellation",
}


class Standing(msgspec.Struct, frozen=True):
    """Where a subscription stands at an instant, in both tables."""

    charging: Charging
    leaving: Leaving


def standing(subscription: Subscription, at_us: int, base: Subscription | None = None) -> Standing:
    """Return where a subscription stands at an instant.

    Args:
        subscription: with everything decided about it.
        at_us: microseconds UTC.
        base: the subscription that it is an add-on of.
    """
    stop = ending(subscription, base)
    leaving: Leaving = "cancelled" if stop.cancelled else "staying"
    if stop.at_us is not None and at_us >= stop.at_us:
        return Standing("ended", leaving)
    if at_us < subscription.start_us or (base is not None and at_us < base.start_us):
        return Standing("pending", leaving)
    holes = pauses(subscription) + ([] if base is None else pauses(base))
    if any(start <= at_us and (end is None or at_us < end) for start, end in holes):
        return Standing("paused", leaving)
    return Standing("active", leaving)


def state_at(subscription: Subscription, at_us: int, base: Subscription | None = None) -> State:
    """Return the state of a subscription at an instant, as people see it."""
    return shown(standing(subscription, at_us, base))


def shown(where: Standing) -> State:
    """Return both states as one word: what is charged to a known end is cancelled."""
    if where.leaving == "cancelled" and where.charging in {"pending", "active"}:
        return "cancelled"
    return where.charging


def after(where: Standing, command: Command) -> Standing:
    """Return the states after a command; raises Conflict where one of them forbids it."""
    charging = CHARGING.get((where.charging, command))
    leaving = LEAVING.get((where.leaving, command))
    if charging is None or leaving is None:
        state = where.charging if charging is None else where.leaving
        word = "which is not cancelled" if state == "staying" else f"which is {state} then"
        message = f"a subscription {word} cannot be {_PAST[command]}"
        raise Conflict(message, code="state-forbids", field="state")
    return Standing(charging, leaving)
