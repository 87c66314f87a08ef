"""The states of a delivery, as a table.

::

    pending ──deliver──▶ delivered
       │ fail ▲
       ▼      │ replay (from every state)
    retrying ──deliver──▶ delivered
       │ give-up ──▶ given_up
       └ cancel  ──▶ cancelled      the endpoint was removed or disabled

What was cancelled while an attempt was under way is still delivered when that attempt arrives.
"""

from typing import Literal, get_args

from tallybook.kernel.errors import Conflict

DeliveryState = Literal["pending", "retrying", "delivered", "given_up", "cancelled"]
Step = Literal["deliver", "fail", "give-up", "cancel", "replay"]

STATES: tuple[DeliveryState, ...] = get_args(DeliveryState)
OPEN: frozenset[DeliveryState] = frozenset(("pending", "retrying"))
"""On their way: these have a time at which they are tried next."""
UNTOLD: tuple[DeliveryState, ...] = ("given_up", "cancelled")
"""Ended without having arrived."""

TRANSITIONS: dict[tuple[DeliveryState, Step], DeliveryState] = {
    ("pending", "deliver"): "delivered",
    ("pending", "fail"): "retrying",
    ("pending", "give-up"): "given_up",
    ("pending", "cancel"): "cancelled",
    ("pending", "replay"): "pending",
    ("retrying", "deliver"): "delivered",
    ("retrying", "fail"): "retrying",
    ("retrying", "give-up"): "given_up",
    ("retrying", "cancel"): "cancelled",
    ("retrying", "replay"): "pending",
    ("delivered", "replay"): "pending",
    ("given_up", "deliver"): "delivered",
    ("given_up", "replay"): "pending",
    ("cancelled", "deliver"): "delivered",
    ("cancelled", "replay"): "pending",
}
"""(state, step) -> state afterwards; what is not in it does not happen."""


def after(state: DeliveryState, step: Step) -> DeliveryState:
    """Return the state after a step; raises Conflict where the state forbids it."""
    if (state, step) not in TRANSITIONS:
        raise Conflict(f"a {state} delivery cannot {step}", field="state")
    return TRANSITIONS[state, step]
