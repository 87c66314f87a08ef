"""The token bucket in whole numbers, as the generic cell rate algorithm (GCRA).

A bucket is one instant, its *theoretical arrival time*: when it will be full again. With a rate of
r tokens in s seconds one token is s/r seconds, seldom a whole number of nanoseconds; the instant
is therefore counted in r-ths of a nanosecond, and every step is exact.

Source: docs/algorithms/limits.md; ITU-T I.371.
"""

import msgspec

from tallybook.admit.plan.limit import Rate

SECOND_NS = 1_000_000_000


class Taken(msgspec.Struct, frozen=True):
    """What became of a request for tokens.

    Attributes:
        full_ns, full_part: when the bucket will be full: whole nanoseconds since 1970, and r-ths of
            one; as before where it was refused.
        left: whole tokens that are there afterwards.
        wait_ns: how long until so many are there; 0 where they were given; -1 where never, because
            a full bucket holds less.
    """

    full_ns: int
    full_part: int
    left: int
    wait_ns: int


def take(limit: Rate, full_ns: int, full_part: int, now_ns: int, tokens: int) -> Taken:
    """Take tokens out of a bucket, all or none.

    Args:
        limit: rate and size.
        full_ns: when it will be full; 0 for a bucket never used.
        full_part: r-ths of a nanosecond on top of it.
        now_ns: the present instant.
        tokens: how many, 0 and up.
    """
    rate, each = limit.rate, limit.seconds * SECOND_NS
    depth = limit.size * each
    now = now_ns * rate
    # A clock that was set back, or a bucket made smaller, finds it empty, never more than that.
    behind = min(max(full_ns * rate + min(full_part, rate - 1) - now, 0), depth)
    after = behind + tokens * each
    if after > depth:
        wait = -1 if tokens > limit.size else -((depth - after) // rate)
        return Taken(full_ns, full_part, (depth - behind) // each, wait)
    full_ns, full_part = divmod(now + after, rate)
    return Taken(full_ns, full_part, (depth - after) // each, 0)


def give_back(limit: Rate, full_ns: int, full_part: int, tokens: int) -> tuple[int, int]:
    """Return the bucket as it was before tokens were taken out of it."""
    each = limit.seconds * SECOND_NS
    full = max(full_ns * limit.rate + full_part - tokens * each, 0)
    whole, part = divmod(full, limit.rate)
    return whole, part


def full_in_ns(limit: Rate, full_ns: int, full_part: int, now_ns: int) -> int:
    """Return how long until the bucket is full, rounded up."""
    depth = limit.size * limit.seconds * SECOND_NS
    behind = full_ns * limit.rate + full_part - now_ns * limit.rate
    return -(-min(max(behind, 0), depth) // limit.rate)
