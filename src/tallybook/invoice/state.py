"""The states of an invoice, as tables. What a finalized invoice says is never written again.

What would change it becomes a line of the next one, or a credit note (guarantee 6).

Source: docs/algorithms/invoice-life.md
"""

from typing import Literal, get_args

import msgspec

from tallybook.kernel.errors import Conflict, Invalid

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


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of invoices that a list shows.

    Attributes:
        state: None for any.
        due_before_us: due before this; None for no bound.
        due_from_us: due at this or later; None for no bound.
        issued: from an instant to before another; None for any time.
    """

    state: State | None = None
    due_before_us: int | None = None
    due_from_us: int | None = None
    issued: tuple[int, int] | None = None

    def holds(self, state: State, due_us: int, issued_us: int) -> bool:
        """Whether an invoice is one of them."""
        return (
            self.state in {None, state}
            and (self.due_from_us is None or due_us >= self.due_from_us)
            and (self.due_before_us is None or due_us < self.due_before_us)
            and (self.issued is None or self.issued[0] <= issued_us < self.issued[1])
        )


def shown_as(name: str, now_us: int) -> Shown:
    """Return what is stored of invoices that `shown` names so; raises Invalid."""
    if name == "overdue":
        return Shown(state="finalized", due_before_us=now_us)
    if name == "finalized":
        return Shown(state="finalized", due_from_us=now_us)
    for state in get_args(State):
        if state == name:
            return Shown(state=state)
    known = ", ".join((*get_args(State), "overdue"))
    raise Invalid(f"state is one of {known}", field="state")
