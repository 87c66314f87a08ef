"""The states of an invoice, as tables. What a finalized invoice says is never written again.

What would change it becomes a line of the next one, or a credit note (guarantee 6).

Source: docs/algorithms/invoice-life.md
"""

from typing import Literal

from tallybook.kernel.errors import Conflict

State = Literal["draft", "finalized", "paid", "void", "uncollectible"]
"""A draft waits out its grace period. `overdue` is shown, not stored: finalized and past due."""

Command = Literal["finalize", "discard", "pay", "unpay", "void", "write-off"]

TRANSITIONS: dict[tuple[State, Command], State] = {
    ("draft", "finalize"): "finalized",
    ("finalized", "pay"): "paid",
    ("paid", "unpay"): "finalized",
    ("finalized", "void"): "void",
    ("finalized", "write-off"): "uncollectible",
    ("uncollectible", "pay"): "paid",
    ("uncollectible", "void"): "void",
}
"""(state, command) -> state afterwards; what is not in it is refused."""

IMMUTABLE: dict[State, bool] = {
    "draft": False,
    "finalized": True,
    "paid": True,
    "void": True,
    "uncollectible": True,
}
"""Whether number, lines and amounts are fixed."""

_PAST: dict[Command, str] = {
    "finalize": "finalized",
    "discard": "discarded",
    "pay": "paid",
    "unpay": "unpaid",
    "void": "voided",
    "write-off": "written off",
}


def after(state: State, command: Command) -> State:
    """Return the state after a command; raises Conflict where the state forbids it."""
    if (state, command) not in TRANSITIONS:
        raise Conflict(f"a {state} invoice cannot be {_PAST[command]}", field="state")
    return TRANSITIONS[state, command]


def shown(state: State, due_us: int, now_us: int) -> str:
    """Return the state as people see it: a finalized invoice past its due date is overdue."""
    return "overdue" if state == "finalized" and due_us < now_us else state
