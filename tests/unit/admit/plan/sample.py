"""Limits of a key for tests."""

from tallybook.admit.key import Grant
from tallybook.admit.plan.bind import bound
from tallybook.admit.plan.decide import Bound
from tallybook.admit.plan.limit import Counting
from tallybook.kernel.timestamps import parse_rfc3339

NOON_US = parse_rfc3339("2026-11-21T12:00:00Z") or 0
NOON_NS = NOON_US * 1000
GRANT = Grant("t", "key_1", frozenset({"read"}), customer="acme", usage_plan="p")


def bound_to(limit: Counting, zone: str = "UTC", grant: Grant = GRANT) -> Bound:
    """Return a limit as it holds for a key."""
    return bound(limit, "p", zone, grant)
