"""The order in which grants are burnt, and the changes of grants in time.

Source: docs/algorithms/grants.md
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from tallybook.catalog.entitlement import Grant
from tallybook.kernel.timestamps import LAST_US
from tallybook.settle.balance import Reset

Kind = Literal["lapse", "reset", "refill", "begin"]
_RANK: dict[Kind, int] = {"lapse": 0, "reset": 1, "refill": 2, "begin": 3}


class Change(NamedTuple):
    """Something that happens to one grant, or to all by a reset.

    Attributes:
        at_us: microseconds UTC.
        rank: order within one instant.
        grant: of all but a reset.
        reset: of a reset.
    """

    at_us: int
    rank: int
    kind: Kind
    grant: Grant | None = None
    reset: Reset | None = None


def burn_order(grant: Grant) -> tuple[int, int, int, str]:
    """Return the sort key: priority, expiry (never is last), beginning, name."""
    expires = LAST_US + 1 if grant.expires_us is None else grant.expires_us
    return grant.priority, expires, grant.effective_us, grant.key


def changes(
    grants: Iterable[Grant], resets: Iterable[Reset], start_us: int, until_us: int
) -> Sequence[Change]:
    """Return all that happens from one instant to another, both included, in its order.

    Args:
        grants: in any order.
        resets: in any order; of two at one instant, one that keeps overage counts.
        start_us: grants that began before are of no interest here, nor are changes before.
        until_us: microseconds UTC.
    """
    found = [change for grant in grants for change in _of_grant(grant, start_us, until_us)]
    by_instant = {reset.at_us: reset for reset in sorted(resets)}
    for at_us, reset in by_instant.items():
        if start_us <= at_us <= until_us:
            found.append(Change(at_us, _RANK["reset"], "reset", reset=reset))
    return sorted(found, key=lambda change: change[:2])


def _of_grant(grant: Grant, start_us: int, until_us: int) -> Iterator[Change]:
    end = LAST_US + 1 if grant.end_us is None else grant.end_us
    if end <= grant.effective_us:
        return
    if start_us <= grant.effective_us <= until_us:
        yield Change(grant.effective_us, _RANK["begin"], "begin", grant)
    if start_us <= end <= until_us:
        yield Change(end, _RANK["lapse"], "lapse", grant)
    if grant.recurrence is not None:
        first, last = max(start_us - 1, grant.effective_us), min(until_us, end - 1)
        for at_us in grant.recurrence.within(first, last):
            yield Change(at_us, _RANK["refill"], "refill", grant)


def borders(
    grants: Iterable[Grant], resets: Iterable[Reset], start_us: int, until_us: int
) -> tuple[int, ...]:
    """Return where usage must be cut so that one amount for each span is enough.

    Returns:
        Rising instants, `start_us` first and `until_us` last.
    """
    inner = {change.at_us for change in changes(grants, resets, start_us, until_us)}
    return tuple(sorted(inner | {start_us, until_us}))
