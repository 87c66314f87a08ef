"""What a client is told of its limits: fields of HTTP.

Source: draft-ietf-httpapi-ratelimit-headers-10, structured fields of RFC 9651.
"""

from collections.abc import Sequence
from typing import assert_never

from tallybook.admit.plan.decide import NEVER, Bound, Standing
from tallybook.admit.plan.limit import Concurrency, Quota, Rate

SECOND_NS = 1_000_000_000
DAY_SECONDS = 86_400
WINDOW_SECONDS = {"day": DAY_SECONDS, "week": 7 * DAY_SECONDS, "month": 30 * DAY_SECONDS}
"""Of a quota; a day with a clock change and a month differ, and `t` is exact."""
INTEGER_MAX = 999_999_999_999_999
"""The largest integer of a structured field."""


def policy(bounds: Sequence[Bound]) -> str:
    """Return the value of `RateLimit-Policy`: every limit, with what it allows."""
    return ", ".join(_policy(bound) for bound in bounds)


def state(standings: Sequence[Standing]) -> str:
    """Return the value of `RateLimit`: what is left of every limit, and when it is whole again."""
    return ", ".join(_state(standing) for standing in standings)


def warning(standings: Sequence[Standing]) -> str:
    """Return the value of `Tallybook-Limit-Warning`, '' where no warning is reached."""
    some = [f'"{one.bound.limit.key}";p={one.percent}' for one in standings if one.percent]
    return ", ".join(some)


def seconds(wait_ns: int) -> int:
    """Return a wait in whole seconds, rounded up, at least 1; 0 where waiting never helps."""
    return 0 if wait_ns == NEVER else max(-(-wait_ns // SECOND_NS), 1)


def _policy(bound: Bound) -> str:
    limit = bound.limit
    unit = ';qu="events"' if limit.counts == "events" else ""
    match limit:
        case Rate():
            window = -(-limit.size * limit.seconds // limit.rate)
        case Quota():
            window = WINDOW_SECONDS[limit.window]
        case Concurrency():
            return f'"{limit.key}";q={limit.size};qu="concurrent-requests"'
        case never:
            assert_never(never)
    return f'"{limit.key}";q={min(limit.size, INTEGER_MAX)}{unit};w={window}'


def _state(standing: Standing) -> str:
    limit = standing.bound.limit
    left = f'"{limit.key}";r={min(standing.left, INTEGER_MAX)}'
    if isinstance(limit, Concurrency):
        return left
    return f"{left};t={-(-standing.reset_ns // SECOND_NS)}"
