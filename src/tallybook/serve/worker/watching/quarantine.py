"""What came into quarantine: one fact a minute and tenant, however much it was."""

from tallybook.compose import World
from tallybook.deliver.watch import quarantine_fact

QUARANTINE_SECONDS = 60.0
WATCH, COMMIT = "quarantine", "commit"
SERVER = "@"
"""Whose the mark is: the lake is of all tenants."""


def watch_quarantine(world: World) -> int:
    """Tell of what came since the last time; return to how many tenants.

    The lake's commits are in another store than the facts: the mark follows the facts, and their
    ids derive from the commit, so that a kill in between tells nothing twice.
    """
    head = world.usage.head()
    seen = world.marks.of(SERVER, WATCH, [COMMIT]).get(COMMIT)
    if seen is None:  # what came before there was anybody to tell is history
        world.marks.move(SERVER, WATCH, {COMMIT: head}, [])
        return 0
    if head <= seen:
        return 0
    came: dict[str, dict[str, int]] = {}
    for tenant, code, count in world.usage.quarantined_between(seen, head):
        came.setdefault(tenant, {})[code] = count
    now_us = world.clock.now_us()
    for tenant, reasons in sorted(came.items()):
        fact = quarantine_fact(reasons, head, now_us)
        world.marks.move(tenant, WATCH, {COMMIT: head}, [fact])
    world.marks.move(SERVER, WATCH, {COMMIT: head}, [])
    return len(came)
