"""The states of an invoice, as two tables. A finalized invoice is never written again.

What would change it becomes a line of the next one (guarantee 6).
"""

from typing import Literal

from tallybook.kernel.errors import Conflict

State = Literal["draft", "finalized"]
Command = Literal["finalize"]

TRANSITIONS: dict[tuple[State, Command], State] = {("draft", "finalize"): "finalized"}
"""(state, command) -> state afterwards; what is not in it is refused."""

IMMUTABLE: dict[State, bool] = {"draft": False, "finalized": True}
"""Whether number, lines and amounts are fixed."""


def after(state: State, command: Command) -> State:
    """Return the state after a command; raises Conflict where the state forbids it."""
    if (state, command) not in TRANSITIONS:
        raise Conflict(f"a {state} invoice cannot be {command}d", field="state")
    return TRANSITIONS[state, command]
