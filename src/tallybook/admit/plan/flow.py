"""Use cases of limits: let a request through, give back what it did not use, mark what was told."""

from collections.abc import Sequence

from tallybook.admit.plan.decide import (
    Bound,
    Decision,
    Held,
    Standing,
    Tell,
    decide,
    marked,
    returned,
)
from tallybook.admit.plan.ports import Counts


def let_through(counts: Counts, bounds: Sequence[Bound], now_ns: int, amount: int = 1) -> Decision:
    """Count a request, or its events, under all of its limits or none, and tell how they stand.

    Raises:
        Unavailable: the counts cannot be reached.

    Cost: one lock for each distinct stripe; see bench/parts/limits.py.
    """

    def change(held: list[Held]) -> tuple[list[Held] | None, Decision]:
        decision = decide(bounds, held, now_ns, amount)
        return decision.held, decision

    return counts.change([bound.place for bound in bounds], change)


def give_back(counts: Counts, bounds: Sequence[Bound], counted_ns: int, amount: int = 1) -> None:
    """Undo what `let_through` counted.

    Args:
        counts: where.
        bounds: under which limits.
        counted_ns: the instant at which it was counted.
        amount: how many.
    """

    def change(held: list[Held]) -> tuple[list[Held] | None, None]:
        pairs = zip(bounds, held, strict=True)
        return [returned(bound, one, counted_ns // 1000, amount) for bound, one in pairs], None

    counts.change([bound.place for bound in bounds], change)


def mark(counts: Counts, tell: Tell) -> None:
    """Remember that something was told, for the rest of its window."""
    counts.change([tell.bound.place], lambda held: ([marked(tell, held[0])], None))


def standings(counts: Counts, bounds: Sequence[Bound], now_ns: int) -> tuple[Standing, ...]:
    """Return how limits stand, counting nothing."""
    held = counts.read([bound.place for bound in bounds])
    return decide(bounds, held, now_ns, 0).standings
