"""The decision: may a request go on, as a function of the counts before it and the instant.

A count is four whole numbers (`Held`), whatever the kind of limit:

============  ==================  ================  =====================  =================
kind          1                   2                 3                      4
============  ==================  ================  =====================  =================
rate          full: nanoseconds   full: r-ths       window told of (µs)    what was told
quota         window's start, µs  how many          what was told          0
concurrency   running here        running elsewhere window told of (µs)    what was told
============  ==================  ================  =====================  =================

What was told is a bit for each warning and one for having been exceeded; told once a window. For
rates and concurrency, which have no window, it is the hour (UTC).
"""

from collections.abc import Sequence
from typing import TypeAlias, assert_never

import msgspec

from tallybook.admit.plan.bucket import full_in_ns, give_back, take
from tallybook.admit.plan.limit import Concurrency, Counting, Quota, Rate
from tallybook.admit.plan.window import HOUR_US, window

Held: TypeAlias = tuple[int, int, int, int]
"""What is kept of a count; zeros where nothing is."""

FRESH: Held = (0, 0, 0, 0)
US_NS = 1000
EXCEEDED = 1 << 15
"""The bit of having told that a limit was exceeded."""
NEVER = -1
"""A wait that has no end: so much is never let through at once."""
AT_ONCE_WAIT_NS = 1_000_000_000
"""How long to wait for one of the requests that run; nobody knows, so a second."""


class Place(msgspec.Struct, frozen=True):
    """Where a count is kept.

    Attributes:
        name: 16 bytes, a digest of what is counted.
        stripe: counts of one stripe are locked together, 0 to 255.
        own: each process keeps a part of its own, which ends with it; the second number is then
            the sum of the others'.
        hours: for how long after its last change it means anything; 0 for good.
    """

    name: bytes
    stripe: int
    own: bool = False
    hours: int = 0


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """A limit as it holds for one key.

    Attributes:
        limit: with its figures.
        zone: of its windows.
        plan: key of its plan; '' for what is built in.
        who: whose requests are counted together, such as 'key:key_…'.
        tenant: whose it is; '' for everybody together.
        customer: whom it concerns; ''.
        place: where its count is kept.
    """

    limit: Counting
    zone: str
    plan: str
    who: str
    tenant: str
    customer: str
    place: Place


class Standing(msgspec.Struct, frozen=True):
    """How a limit stands after a decision.

    Attributes:
        bound: the limit.
        left: how many more are let through at this instant.
        reset_ns: how long until all of it is there again; 0 where it is, or nobody knows.
        percent: the highest warning that is reached; 0 none.
    """

    bound: Bound
    left: int
    reset_ns: int
    percent: int


class Tell(msgspec.Struct, frozen=True):
    """Something to be told of once a window.

    Attributes:
        bound: the limit.
        percent: of the warning; 0 means that it was exceeded.
        bit: as it is marked in the count once it is told.
        window_us: start of the window.
    """

    bound: Bound
    percent: int
    bit: int
    window_us: int


class Stop(msgspec.Struct, frozen=True):
    """Why a request may not go on.

    Attributes:
        bound: the limit with the longest wait.
        wait_ns: how long; `NEVER` where waiting does not help.
    """

    bound: Bound
    wait_ns: int


class Decision(msgspec.Struct, frozen=True):
    """What a request is told.

    Attributes:
        stop: why it may not go on; None where it may.
        standings: of all limits that were looked at.
        tells: what is to be told of.
        held: the counts as they shall be; None where they stay: who is refused uses nothing.
    """

    stop: Stop | None
    standings: tuple[Standing, ...]
    tells: tuple[Tell, ...]
    held: list[Held] | None


class _Judged(msgspec.Struct, frozen=True):
    """One limit's word."""

    held: Held
    left: int
    wait_ns: int
    reset_ns: int
    window_us: int
    told: int


def decide(bounds: Sequence[Bound], held: Sequence[Held], now_ns: int, amount: int) -> Decision:
    """Return whether a request may go on: all of its limits let it, or none counts it.

    Args:
        bounds: the limits that it falls under.
        held: their counts.
        now_ns: the present instant, nanoseconds since 1970.
        amount: requests or events; 0 only looks.
    """
    stop: Stop | None = None
    standings, tells, after = [], [], []
    for bound, before in zip(bounds, held, strict=True):
        judged = _judge(bound, before, now_ns, amount)
        if judged.wait_ns:
            stop = _longer(stop, Stop(bound, judged.wait_ns))
        after.append(judged.held)
        standing, told = _stand(bound, judged)
        standings.append(standing)
        tells += told
    if stop is not None:
        tells = [tell for tell in tells if not tell.percent]
    whole = after if stop is None and amount else None
    return Decision(stop, tuple(standings), tuple(tells), whole)


def _longer(one: Stop | None, other: Stop) -> Stop:
    if one is None or other.wait_ns == NEVER:
        return other
    return one if one.wait_ns == NEVER or one.wait_ns >= other.wait_ns else other


def _judge(bound: Bound, held: Held, now_ns: int, amount: int) -> _Judged:
    limit = bound.limit
    if type(limit) is Rate:
        return _rate(limit, held, now_ns, amount)
    if type(limit) is Quota:
        return _quota(limit, bound.zone, held, now_ns, amount)
    assert type(limit) is Concurrency
    return _at_once(limit, held, now_ns, amount)


def _rate(limit: Rate, held: Held, now_ns: int, amount: int) -> _Judged:
    taken = take(limit, held[0], held[1], now_ns, amount)
    hour, told = _hour(held, now_ns)
    return _Judged(
        (taken.full_ns, taken.full_part, held[2], held[3]),
        taken.left,
        taken.wait_ns,
        full_in_ns(limit, taken.full_ns, taken.full_part, now_ns),
        hour,
        told,
    )


def _quota(limit: Quota, zone: str, held: Held, now_ns: int, amount: int) -> _Judged:
    now_us = now_ns // US_NS
    period = window(limit, zone, now_us)
    start, count, told = period.start_us, 0, 0
    if held[0] in {period.start_us, period.end_us}:
        # The next window's start: the clock was set back over the border, and the count goes on.
        start, count, told = held[:3]
        if start != period.start_us:
            period = window(limit, zone, start)
    reset = period.end_us * US_NS - now_ns
    if count + amount > limit.limit and amount:
        wait = NEVER if amount > limit.limit else reset
        return _Judged(held, max(limit.limit - count, 0), wait, reset, start, told)
    count += amount
    after = (start, count, told, 0)
    return _Judged(after, max(limit.limit - count, 0), 0, reset, start, told)


def _at_once(limit: Concurrency, held: Held, now_ns: int, amount: int) -> _Judged:
    hour, told = _hour(held, now_ns)
    running = held[0] + held[1]
    if running + amount > limit.limit and amount:
        return _Judged(held, max(limit.limit - running, 0), AT_ONCE_WAIT_NS, 0, hour, told)
    after = (held[0] + amount, held[1], held[2], held[3])
    return _Judged(after, max(limit.limit - running - amount, 0), 0, 0, hour, told)


def _hour(held: Held, now_ns: int) -> tuple[int, int]:
    """Return the hour, and what was told in it."""
    now_us = now_ns // US_NS
    hour = now_us - now_us % HOUR_US
    return hour, held[3] if held[2] == hour else 0


def _stand(bound: Bound, judged: _Judged) -> tuple[Standing, list[Tell]]:
    limit, tells, percent = bound.limit, list[Tell](), 0
    if limit.warn:
        used = (limit.size - judged.left) * 100
        for number, warn in enumerate(limit.warn):
            if used >= warn * limit.size:
                percent = warn
                if not judged.told >> number & 1:
                    tells.append(Tell(bound, warn, 1 << number, judged.window_us))
    if judged.wait_ns and not judged.told & EXCEEDED:
        tells.append(Tell(bound, 0, EXCEEDED, judged.window_us))
    return Standing(bound, judged.left, judged.reset_ns, percent), tells


def marked(tell: Tell, held: Held) -> Held:
    """Return the count with the mark that something was told; as it was in a later window."""
    match tell.bound.limit:
        case Quota():
            if held[0] > tell.window_us:
                return held
            fresh = held[0] != tell.window_us
            return (
                tell.window_us,
                0 if fresh else held[1],
                tell.bit | (0 if fresh else held[2]),
                0,
            )
        case Rate() | Concurrency():
            if held[2] > tell.window_us:
                return held
            told = held[3] if held[2] == tell.window_us else 0
            return (held[0], held[1], tell.window_us, told | tell.bit)
        case never:
            assert_never(never)


def returned(bound: Bound, held: Held, window_us: int, amount: int) -> Held:
    """Return the count as if an amount had not been counted.

    Args:
        bound: its limit.
        held: as it is.
        window_us: when it was counted: of a window that has ended nothing is given back.
        amount: how many.
    """
    match bound.limit:
        case Rate():
            return (*give_back(bound.limit, held[0], held[1], amount), held[2], held[3])
        case Quota():
            if held[0] != window(bound.limit, bound.zone, window_us).start_us:
                return held
            return (held[0], max(held[1] - amount, 0), held[2], 0)
        case Concurrency():
            return (max(held[0] - amount, 0), *held[1:])
        case never:
            assert_never(never)
